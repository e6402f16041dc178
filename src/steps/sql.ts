import type { PoolClient, QueryResult } from "pg"
import type { SqlStep } from "../plans/plan.ts"
import type { Change, Failure, RehearsedStep, StepResult } from "../rollback/facts.ts"
import {
  actedOnBySet,
  callingOut,
  findTable,
  findTableOfRun,
  shapeOf,
  type Follower,
  type TableFacts,
} from "./catalog.ts"
import { besides, calledFunctions } from "./functions.ts"
import { closeStep, openStep } from "./ledger.ts"
import { hidden, shorten } from "./shown.ts"
import {
  bound,
  countChildren,
  countFollowing,
  fireDeferred,
  keepingProblem,
  keptProblem,
  lockParents,
  noParents,
  ruleProblem,
  unseenFollowing,
  whatFollowed,
  writtenWith,
} from "./sql-keeping.ts"
import * as sqlText from "./sql-text.ts"
import { described, guardRows } from "./sql-words.ts"
import { numbersProblem, withoutUndo } from "./rights.ts"
import { settleStep } from "./settle.ts"
import {
  elapsed,
  failure,
  rehearseLooking,
  stepResult,
  type RunContext,
  type StepContext,
  type StepType,
} from "./step.ts"
import { statement } from "./target.ts"
import { rereadImages } from "./undo-images.ts"
import { zonelessColumns } from "./zoneless.ts"

type Texts = Record<string, string | null>
type Summary = {
  rows: number
  changed: number
  unsure: boolean | null
  several?: boolean
  /** Texts of JSON, by column. */
  shown: { label: string; before: Texts; after: Texts }[]
}

/** One INSERT, UPDATE or DELETE, in one transaction with its ledger entry and the rows as they were. */
export const sqlStep: StepType<SqlStep> = {
  rehearse: (step, context) => rehearseLooking(step, context, (client) => look(client, step, context)),

  run: (step, context) =>
    settleStep(step, context, async (client, started) => {
      const { table } = step.facts
      // The table is read in the same round trip: it waits for nothing that the ledger says.
      const [opened, looked] = await Promise.allSettled([
        openStep(client, context.key, step.id, { timeoutMs: step.timeoutMs }),
        keeps(step) && table !== null ? findTableOfRun(client, context.key, table.schema, table.name) : null,
      ])
      if (opened.status === "rejected") throw opened.reason
      if (looked.status === "rejected") throw looked.reason
      const done = opened.value
      if (done) {
        await client.query("rollback")
        return done.result
      }
      const result = {
        ...(await act(client, step, context, looked.value)),
        ms: elapsed(started),
      }
      const kept = looked.value ? [looked.value] : []
      if (result.outcome === "succeeded") await closeStep(client, context.key, step.id, result, { kept })
      else await client.query("rollback")
      return result
    }),
}

function bindings(step: SqlStep, context: StepContext): string[] {
  return step.params.map((name) => context.values[name] ?? "")
}

async function tableOf(client: PoolClient, step: SqlStep): Promise<TableFacts | null> {
  const table = step.facts.table
  return table === null ? null : findTable(client, table.schema, table.name)
}

async function look(client: PoolClient, step: SqlStep, context: StepContext): Promise<Partial<RehearsedStep>> {
  const table = await tableOf(client, step)
  if (!table)
    return { outcome: "unknown", note: `there is no table ${step.facts.table?.name ?? ""} that this role can see` }
  const called = await calledFunctions(client, step.sql)
  const written = await writtenWith(client, step, table)
  const warnings = [
    ...called.warnings,
    ...written.flatMap(({ name, triggers }) => triggers.map((trigger) => `trigger ${trigger} on ${name} fires`)),
    ...[ruleProblem(step.facts.verb, table)].filter((rules) => rules !== null),
    ...(keeps(step) ? withoutUndo(table, ...undoing(step.facts.verb, table)) : []),
    ...(await zonelessColumns(client, step.sql)),
  ]
  const unkept = keepingProblem(step, table)
  if (unkept) return { outcome: "unknown", note: unkept, warnings }
  return {
    raises: [...callingOut(written), ...called.raises, ...unseenFollowing(step.facts, table)],
    shape: shapeOf([table]),
    ...(await lookAndPlan(client, step, context, { table, warnings }).catch((error: unknown) =>
      besides(error, { kept: keeps(step), own: called.warnings.length > 0, warnings }),
    )),
  }
}

/** What an undo needs. Rows that others may refer to are locked before they go. */
function undoing(verb: string, { children }: TableFacts): Parameters<typeof withoutUndo>[1][] {
  if (verb !== "insert") return [verb === "update" ? "update" : "insert"]
  return children.length > 0 ? ["delete", "lock"] : ["delete"]
}

/** What a SELECT does not meet the server says of the statement itself, planned and not run: that this role may not, or nobody. */
async function lookAndPlan(
  client: PoolClient,
  step: SqlStep,
  context: StepContext,
  { table, warnings }: { table: TableFacts; warnings: string[] },
): Promise<Partial<RehearsedStep>> {
  const seen = await lookAt(client, step, context, table, warnings)
  // The last thing, since it takes the lock that a write takes.
  if (seen.outcome !== undefined) return seen
  const values = bindings(step, context)
  await statement(client, `explain ${step.sql}`, values)
  const note = await numbersProblem(client, step.facts, table)
  if (note !== null) return { outcome: "unknown", note, warnings }
  if (step.facts.verb === "delete" && table.children.length > 0) {
    const [locking, used] = bound(sqlText.lockRows(step.facts), values)
    await statement(client, `explain ${locking}`, used)
  }
  return seen
}

async function lookAt(
  client: PoolClient,
  step: SqlStep,
  context: StepContext,
  table: TableFacts,
  warnings: string[],
): Promise<Partial<RehearsedStep>> {
  const { facts } = step
  const values = bindings(step, context)
  if (facts.verb === "insert") {
    if (facts.source === null) {
      const { values: rows = 1 } = facts
      return { rows, changed: facts.onConflict === null ? rows : null, warnings }
    }
    const counted = await statement(client, ...bound(sqlText.insertPreview(facts), values))
    const rows = (counted.rows[0] as { rows: number }).rows
    return { rows, changed: facts.onConflict === null ? rows : null, warnings }
  }
  // Rows of a view have no place by which one that matches twice would be known.
  if (facts.matching === null || (facts.joined && table.isView))
    return { outcome: "unknown", note: "this statement cannot be looked at beforehand", warnings }
  const ask = async (text: string) => (await statement(client, ...bound(text, values))).rows[0] as Summary
  const summary = await ask(
    facts.verb === "update" ? sqlText.updatePreview(facts, table, context.redact) : sqlText.deletePreview(facts),
  )
  if (facts.verb === "update" && summary.several === true)
    warnings.push("a row matches several of those that it is joined with: whose values it gets is the server's choice")
  // Of many rows that go, their number says more.
  const few = facts.verb === "delete" && summary.rows > 0 && summary.rows <= mostNamed
  const named = few ? await ask(sqlText.deletedRows(facts, table, context.redact)) : summary
  const along = facts.verb === "delete" ? await countChildren(client, step, table, values) : []
  const count = async (follower: Follower) =>
    ((await ask(sqlText.wouldFollow(facts, table, follower))) as { rows: number }).rows
  return {
    rows: summary.rows,
    changed: summary.unsure === true ? null : summary.changed,
    changes: changesOf(named, table, context),
    children: facts.verb === "update" ? await countFollowing(actedOnBySet(table, facts.set), count) : along,
    warnings,
    note: along.length > 0 ? "its deletion would take rows of other tables along: use purge" : null,
    ...(along.length > 0 ? { outcome: "unknown" as const, refused: true as const } : {}),
  }
}

/** Rows of a DELETE that a card names. */
const mostNamed = 10

function changesOf(summary: Summary, table: TableFacts, context: Pick<StepContext, "redact" | "secrets">): Change[] {
  return summary.shown.flatMap((row) =>
    Object.keys({ ...row.before, ...row.after }).flatMap((column) => {
      const before = display(row.before[column], column, context)
      const afterKnown = column in row.after
      // A whole row goes.
      const after = afterKnown && column !== "" ? display(row.after[column], column, context) : null
      if (afterKnown && (row.before[column] ?? "null") === (row.after[column] ?? "null")) return []
      return [{ row: `${table.name}.${row.label}`, column, before, after, afterKnown }]
    }),
  )
}

function display(
  text: string | null | undefined,
  column: string,
  { redact, secrets }: Pick<StepContext, "redact" | "secrets">,
): string {
  return redact.includes(column) ? hidden : shorten(secrets.redact(text ?? "null"))
}

/** Whether the step keeps the rows as they were. */
function keeps(step: SqlStep): boolean {
  return step.irreversible === null && step.facts.reversible
}

async function act(
  client: PoolClient,
  step: SqlStep,
  context: RunContext,
  table: TableFacts | null,
): Promise<StepResult> {
  const values = bindings(step, context)
  if (table && ![undefined, shapeOf([table])].includes(context.rehearsed?.shape))
    return stepResult({
      outcome: "failed",
      failure: failure("schema_changed", `the schema of ${table.name} has changed since the rehearsal: ask again`),
    })
  if (keeps(step)) {
    const problem = table ? keepingProblem(step, table) : `there is no table ${step.facts.table?.name ?? ""}`
    if (problem) return stepResult({ outcome: "failed", failure: failure("cannot_keep", problem) })
    // The card said so. Children are counted again: they may be gone since.
    if (context.rehearsed?.refused && context.rehearsed.children.length === 0)
      return stepResult({ outcome: "failed", failure: failure("cannot_keep", context.rehearsed.note ?? "") })
  }
  const done = table ? await actAndKeep(client, step, context, table, values) : await actOnly(client, step, values)
  if (done.outcome === "failed") return done
  return guardRows(step, context, done)
}

async function actOnly(client: PoolClient, step: SqlStep, values: string[]): Promise<StepResult> {
  // That nothing is kept was said of its own rows. Where nobody can tell which these are, nobody can ask for the others either.
  const table = step.facts.verb === "delete" && step.facts.matching !== null ? await tableOf(client, step) : null
  const { problem } = table ? await lockParents(client, step, table, values) : noParents
  if (problem) return stepResult({ outcome: "failed", failure: problem })
  const result = await statement(client, step.sql, values)
  return described(step, { rows: result.rowCount ?? 0, changed: null })
}

async function actAndKeep(
  client: PoolClient,
  step: SqlStep,
  context: RunContext,
  table: TableFacts,
  values: string[],
): Promise<StepResult> {
  const keys = [context.rollbackId, step.id, table.relation]
  const { facts } = step
  if (facts.verb === "update") {
    // One round trip: behind a statement that fails the others fail too, and its error is the one that is told.
    const sent = await Promise.allSettled([
      statement(client, ...bound(sqlText.keepUpdated(facts), [...values, ...keys])),
      statement(client, step.sql, values),
      fireDeferred(client, table),
      statement(client, sqlText.compareUpdated(facts, table, context.redact), keys.slice(0, 2)),
    ])
    const [kept, updated, , compared] = sent.map((answer) => {
      if (answer.status === "rejected") throw answer.reason
      return answer.value
    }) as [QueryResult, QueryResult, unknown, QueryResult]
    const summary = compared.rows[0] as Summary & { spared: number }
    const { rowCount: rows } = updated
    const failed = (why: Failure) => stepResult({ outcome: "failed", failure: why })
    const problem = keptProblem(kept.rowCount ?? 0, rows ?? 0, summary)
    if (problem) return failed(problem)
    const followed = await whatFollowed(client, table, [context.rollbackId, step.id])
    if (followed.problem) return failed(followed.problem)
    const changes = changesOf(summary, table, context)
    return described(step, { rows: rows ?? 0, changed: summary.changed, changes, following: followed.following })
  }
  const { locked, problem } = facts.verb === "delete" ? await lockParents(client, step, table, values) : noParents
  if (problem) return stepResult({ outcome: "failed", failure: problem })
  const done: QueryResult = await statement(client, sqlText.runAndKeep(facts, step.sql), [...values, ...keys])
  await fireDeferred(client, table)
  if (facts.verb === "insert") await rereadImages(client, table, context.rollbackId, step.id)
  if (locked !== null && locked !== done.rowCount)
    // Rows came that match too: whether others refer to them was not asked.
    return stepResult({
      outcome: "failed",
      failure: failure("40001", `rows changed while they were looked at: ${locked} matched, ${done.rowCount} removed`),
    })
  return described(step, { rows: done.rowCount ?? 0, changed: done.rowCount ?? 0 })
}
