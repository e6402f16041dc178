import type { PoolClient } from "pg"
import { findFamily, listedKin, undoForbidden, withOwn, type Family } from "./purge-family.ts"
import { elapsed, rehearsed, sqlFailure, stepResult, type StepContext, type StepType } from "./step.ts"
import { looking } from "./target.ts"
import { callingOut, shapeOf } from "./catalog.ts"
import { zonelessColumns } from "./zoneless.ts"
import type { PurgeStep } from "../plans/plan.ts"
import type { RehearsedStep } from "../rollback/facts.ts"
import { isPassing, LostLeaseError } from "../errors.ts"
import { splitName, countFamily, countMatching, countTable, capProblem, wholeProblem } from "./purge-counts.ts"
import { lockHolders, withHolders } from "./locks.ts"
import { runPurge } from "./purge-run.ts"

/** Archives and deletes the rows that match, in batches, with the rows of other tables that the plan lists. */
export const purgeStep: StepType<PurgeStep> = {
  async rehearse(step, context) {
    const started = performance.now()
    const { pool } = context.target
    if (!pool) return rehearsed(step.id, { outcome: "unknown", note: "the target database is not reachable" })
    try {
      const facts = await looking(pool, step.timeoutMs, (client) => look(client, step, context))
      return rehearsed(step.id, { ...facts, ms: elapsed(started) })
    } catch (error) {
      const seen = sqlFailure(error, step.where, context)
      // Too large to count in time is not nothing: it is unknown, and the risk goes up.
      const note =
        seen.code === "57014"
          ? "too many rows to count in time"
          : await withHolders(seen, `${seen.code} ${seen.message}`, context)
      return rehearsed(step.id, { outcome: "unknown", note, ms: elapsed(started) })
    }
  },

  async run(step, context) {
    const started = performance.now()
    try {
      return { ...(await runPurge(step, context)), ms: elapsed(started) }
    } catch (error) {
      if (error instanceof LostLeaseError) throw error
      const seen = sqlFailure(error, step.where, context)
      if (seen.code === "55P03") seen.detail = await lockHolders(context)
      return stepResult({
        outcome: isPassing(error) ? "unknown" : "failed",
        failure: seen,
        ms: elapsed(started),
      })
    }
  },
}

async function look(client: PoolClient, asked: PurgeStep, context: StepContext): Promise<Partial<RehearsedStep>> {
  const { schema, name } = splitName(asked.table)
  const family = await findFamily(client, schema, name, asked.cascade)
  if (!family) return { outcome: "unknown", note: `there is no table ${asked.table} that this role can see` }
  const step = withOwn(asked, family)
  const values = step.params.map((param) => context.values[param] ?? "")
  const counts = await countFamily(client, { family, step, values })
  const total = await countTable(client, family)
  const problem =
    family.problems[0] ??
    wholeProblem(step, family, { pages: null, rows: counts.rows }) ??
    counts.unlisted ??
    capProblem(step, counts.rows, total)
  const triggers = listedKin(family).flatMap((kin) =>
    kin.table.triggers.map((trigger) => `trigger ${trigger} on ${kin.table.name} fires`),
  )
  const tables = [...family.leaves, ...listedKin(family).map((kin) => kin.table)]
  return {
    raises: callingOut(tables),
    shape: shapeOf(tables),
    rows: counts.rows,
    changed: counts.rows,
    total,
    children: counts.children,
    warnings: [
      ...(asked.whole ? [`its condition reads what it removes: all rows go in one transaction`] : []),
      ...(step === asked ? [] : [await linkedWords(client, asked, family, { rows: counts.rows, values })]),
      ...triggers,
      ...undoForbidden(family),
      ...(await zonelessOf(client, asked, family)),
    ],
    note: problem ?? null,
    ...(problem ? { outcome: "unknown" as const, refused: true as const } : {}),
  }
}

/** Of rows that refer to each other: how many go that do not match. */
async function linkedWords(
  client: PoolClient,
  step: PurgeStep,
  family: Family,
  all: { rows: number; values: readonly unknown[] },
): Promise<string> {
  const more = all.rows - (await countMatching(client, family.root, `(${step.where})`, all.values))
  const along = `${more} of these rows ${more === 1 ? "does not match, but refers" : "do not match, but refer"} to such as do`
  return `${more === 0 ? "no other row refers to these" : along}: all of them go in one transaction`
}

/** The parser takes 15 MB, and most tables have no such column. */
async function zonelessOf(client: PoolClient, step: PurgeStep, { root: { table } }: Family): Promise<string[]> {
  const mayBe = /\bselect\b/i.test(step.where) || table.columns.some(({ type }) => /^timestamp.* without/.test(type))
  return mayBe ? zonelessColumns(client, `delete from ${table.relation} where ${step.where}`) : []
}
