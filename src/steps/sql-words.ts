import type { SqlStep } from "../plans/plan.ts"
import type { Change, ChildRows, StepResult } from "../rollback/facts.ts"
import { followingWords } from "./sql-keeping.ts"
import { allowedRows, describeRange, failure, stepResult, type RunContext } from "./step.ts"

type Did = { rows: number; changed: number | null; changes?: Change[]; following?: readonly ChildRows[] }

/** Of rows that were there already some may have been changed, and which is not told. */
function didOf({ verb, onConflict }: SqlStep["facts"]): "inserted" | "changed" | "removed" {
  if (verb === "delete") return "removed"
  return verb === "insert" && onConflict !== "update" ? "inserted" : "changed"
}

/** What a statement did, in words and numbers. `following`: rows of other tables that changed with it. */
export function described(step: SqlStep, { rows, changed, changes = [], following = [] }: Did): StepResult {
  const { facts } = step
  const table =
    facts.table === null ? "?" : facts.table.schema ? `${facts.table.schema}.${facts.table.name}` : facts.table.name
  const many = rows === 1 ? "1 row" : `${rows} rows`
  const line =
    facts.verb === "update" && changed === 0 && rows > 0
      ? `${many} of ${table} matched; already so, nothing changed`
      : facts.verb === "update" && changed !== null && changed !== rows
        ? `${many} of ${table} matched, ${changed} changed`
        : `${many} of ${table} ${facts.onConflict === "update" ? "inserted or changed" : didOf(facts)}`
  const affected = changed ?? rows
  return stepResult({
    rows,
    changed,
    changes,
    evidence: [line, ...followingWords(following)],
    affected: [
      ...(affected > 0 ? [{ table, did: didOf(facts), rows: affected }] : []),
      ...following.map((each) => ({ table: each.table, did: "changed" as const, rows: each.rows })),
    ],
  })
}

/** The result, or its failure where another number of rows matched than was approved. */
export function guardRows(step: SqlStep, context: RunContext, result: StepResult): StepResult {
  const allowed = allowedRows(step.expectRows, context.rehearsed?.rows ?? null)
  if (allowed === null)
    return {
      ...result,
      outcome: "failed",
      affected: [],
      failure: failure(
        "not_rehearsed",
        "how many rows to expect was not known when this was approved: request it again when the target can be looked at",
      ),
    }
  const rows = result.rows ?? 0
  if (rows >= allowed.min && rows <= allowed.max) return result
  return {
    ...result,
    outcome: "failed",
    affected: [],
    changes: [],
    evidence: [],
    failure: failure(
      "row_count",
      `${rows} ${rows === 1 ? "row" : "rows"} matched, ${describeRange(allowed)} expected; nothing was changed`,
      { statement: step.sql },
    ),
  }
}
