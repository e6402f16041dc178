import { setTimeout as pause } from "node:timers/promises"
import { escapeIdentifier, type PoolClient } from "pg"
import { errorCode, isPassing, LostLeaseError, StepbackError } from "../errors.ts"
import type { PurgeStep } from "../plans/plan.ts"
import type { StepResult } from "../rollback/facts.ts"
import { createArchive } from "./archive.ts"
import { shapeOf, type TableFacts } from "./catalog.ts"
import { closeStep, inDoubt, openStep } from "./ledger.ts"
import { allowedRowsMax, capProblem, countFamily, countProblem, countTable, splitName } from "./purge-counts.ts"
import { remove, tooMany, type Mark } from "./purge-batch.ts"
import { findFamily, listedKin, type Family } from "./purge-family.ts"
import { brokenOff, summary } from "./purge-summary.ts"
import { lockHolders } from "./settle.ts"
import { bindUsed } from "./sql-text.ts"
import { failure, sqlFailure, stepResult, type RunContext } from "./step.ts"
import { looking, prologue, statement, withClient } from "./target.ts"

/** A batch holds up another writer for as long as it takes: this is aimed at. */
const batchAimMs = 40
/** Late arrivals that one transaction takes. */
const sweptAtOnce = 1_000
/** The lease renews itself; between batches it is asked no more often than this, since the asking is a commit. */
const askEveryMs = 250
const patienceMs = 90_000

/** What does not change while it goes on. */
type Purge = {
  step: PurgeStep
  context: RunContext
  family: Family
  values: readonly unknown[]
  /** The most that the approval lets go. */
  most: number
}

/**
 * Goes over the table's pages in ranges: each range is one transaction with its ledger entry, so that a run is resumed
 * at the batch where it was broken off, and others wait for one batch at the most.
 */
export async function runPurge(step: PurgeStep, context: RunContext): Promise<StepResult> {
  const { pool } = context.target
  if (!pool)
    return stepResult({ outcome: "failed", failure: failure("no_database", "the plan's target has no database") })
  const values = step.params.map((name) => context.values[name] ?? "")
  const { schema, name } = splitName(step.table)
  const start = await patiently(context, () =>
    looking(pool, step.timeoutMs, async (client) => {
      const family = await findFamily(client, schema, name, step.cascade)
      if (!family) return null
      const found = await findMark(client, context, step)
      const counts = await countFamily(client, family, step, values)
      // The rehearsal counted the table; counting it again would be one scan more.
      const total = context.rehearsed?.total ?? (await countTable(client, family))
      const mark = found ?? {
        leaf: 0,
        page: 0,
        endPages: await pagesOf(client, family.leaves),
        batch: 0,
        removed: {},
      }
      return { family, mark, counts, total }
    }),
  )
  if (!start) return refused("no_table", `there is no table ${step.table}`)
  const { family, counts, mark } = start
  const before = mark.removed[family.root.table.name] ?? 0
  const problem =
    schemaProblem(family, context) ??
    family.problems[0] ??
    counts.unlisted ??
    capProblem(step, before + counts.rows, before + start.total)
  const unapproved = countProblem(step, context.rehearsed?.rows ?? null, before + counts.rows)
  const trouble = problem === null ? unapproved : refused("refused", problem)
  if (trouble?.failure) return brokenOff(step, family, mark, trouble.failure)
  await patiently(context, () => createArchives(step, context, family))
  const most = Math.min(step.atMost, allowedRowsMax(step, context.rehearsed?.rows ?? null))
  return goThrough({ step, context, family, values, most }, mark, firstPages(start.total, mark.endPages, step.batch))
}

function schemaProblem(family: Family, { rehearsed }: RunContext): string | null {
  const seen = shapeOf([...family.leaves, ...listedKin(family).map((kin) => kin.table)])
  return rehearsed?.shape === undefined || rehearsed.shape === seen
    ? null
    : `the schema of ${family.root.table.name}, or of a table that goes along, has changed since the rehearsal: ask again`
}

async function goThrough(purge: Purge, from: Mark, first: number): Promise<StepResult> {
  const { step, context, family } = purge
  let mark = from
  const moved = (to: Mark) => (mark = to)
  let pages = first
  let asked = performance.now()
  try {
    while (mark.leaf < family.leaves.length) {
      if (performance.now() - asked > askEveryMs) {
        await context.checkpoint()
        asked = performance.now()
      }
      if (context.signal.aborted) return brokenOff(step, family, mark, failure("stopped", "stopped before its end"))
      const began = performance.now()
      const next = await batch(purge, mark, pages)
      // More rows than were approved came into the pages that are left: the sweep takes what may still go.
      if (next === null) break
      moved(next)
      pages = adapt(pages, performance.now() - began)
    }
    const clean = await sweep(purge, mark, moved)
    return await summary(step, family, { mark, clean }, purge.values, context)
  } catch (error) {
    if (error instanceof LostLeaseError) throw error
    if (errorCode(error) === tooMany) return summary(step, family, { mark, clean: false }, purge.values, context)
    // What earlier batches removed is told, so that it can be undone.
    const seen =
      error instanceof StepbackError ? failure(error.code, error.message) : sqlFailure(error, step.where, context)
    if (errorCode(error) === "55P03") seen.detail = await lockHolders(context)
    return { ...brokenOff(step, family, mark, seen), outcome: isPassing(error) ? "unknown" : "failed" }
  }
}

function refused(code: string, message: string): StepResult {
  return stepResult({ outcome: "failed", failure: failure(code, message) })
}

async function createArchives(step: PurgeStep, context: RunContext, family: Family): Promise<void> {
  const kin = listedKin(family).slice(1)
  if (context.target.pool)
    await withClient(context.target.pool, async (client) => {
      await client.query(prologue({ timeoutMs: step.timeoutMs }))
      for (const table of [...family.leaves, ...kin.map((one) => one.table)]) await createArchive(client, table)
      await client.query("commit")
    })
}

/** Pages of about a third of the plan's batch, to begin with: the pace is found from there. */
function firstPages(rows: number, endPages: readonly number[], batchRows: number): number {
  const pages = endPages.reduce((sum, n) => sum + n, 0)
  const perPage = Math.max(1, rows / Math.max(1, pages))
  return Math.max(1, Math.floor(batchRows / 3 / perPage))
}

function adapt(pages: number, ms: number): number {
  const factor = Math.min(2, Math.max(0.25, batchAimMs / Math.max(1, ms)))
  return Math.max(1, Math.min(100_000, Math.round(pages * factor)))
}

async function pagesOf(client: PoolClient, leaves: readonly TableFacts[]): Promise<number[]> {
  const pages: number[] = []
  for (const leaf of leaves) {
    const { rows } = await statement(
      client,
      "select (pg_relation_size(to_regclass($1)) / current_setting('block_size')::int)::int as pages",
      [leaf.relation],
    )
    pages.push((rows[0] as { pages: number }).pages)
  }
  return pages
}

async function findMark(client: PoolClient, context: RunContext, step: PurgeStep): Promise<Mark | null> {
  const { rows } = await client.query<{ mark: Mark | null }>(
    `select result -> 'mark' as mark from stepback_ledger.entries where rollback_id = $1 and step_id = $2 order by batch desc limit 1`,
    [context.rollbackId, step.id],
  )
  return rows[0]?.mark ?? null
}

/** One range of pages, until its outcome is known. Null: it would go beyond what was approved. */
async function batch(purge: Purge, mark: Mark, pages: number): Promise<Mark | null> {
  const { step, family } = purge
  const leaf = family.leaves[mark.leaf] as TableFacts
  const end = mark.endPages[mark.leaf] ?? 0
  const upTo = Math.min(end, mark.page + pages)
  const place = `${escapeIdentifier(family.root.table.name)}.ctid`
  const range = `${place} >= '(${mark.page},0)'::tid and ${place} < '(${upTo},0)'::tid and (${step.where})`
  const next = (removed: Record<string, number>): Mark => ({
    ...mark,
    leaf: upTo >= end ? mark.leaf + 1 : mark.leaf,
    page: upTo >= end ? 0 : upTo,
    batch: mark.batch + 1,
    removed,
  })
  return settle(purge, mark, { leaf, range, next }).catch((error: unknown) => {
    if (errorCode(error) === tooMany) return null
    throw error
  })
}

/**
 * Rows that came while it went on, once more; each look is a scan, and what still comes is counted and reported. They are
 * looked for without a lock and taken by their places: a delete that scans the table would hold those that it has met
 * until it is through. False: there may be more.
 */
async function sweep(purge: Purge, from: Mark, moved: (to: Mark) => void): Promise<boolean> {
  const { family, most } = purge
  let mark = from
  let clean = true
  for (const leaf of family.leaves) {
    const room = most - (mark.removed[family.root.table.name] ?? 0)
    const places = await placesOf(purge, leaf, room + 1)
    if (places.length > 0) clean = false
    const may = places.slice(0, room)
    for (let n = 0; n < may.length; n += sweptAtOnce) {
      const some = may.slice(n, n + sweptAtOnce).join('","')
      const range = `${escapeIdentifier(family.root.table.name)}.ctid = any('{"${some}"}'::tid[]) and (${purge.step.where})`
      const number = mark.batch + 1
      const next = (removed: Record<string, number>): Mark => ({ ...mark, batch: number, removed })
      mark = await settle(purge, mark, { leaf, range, next })
      moved(mark)
    }
  }
  return clean
}

async function placesOf(purge: Purge, leaf: TableFacts, limit: number): Promise<string[]> {
  const { step, context, family, values } = purge
  const { pool } = context.target
  if (!pool) return []
  const name = escapeIdentifier(family.root.table.name)
  const used = bindUsed(
    // An aggregate may scan in parallel; a LIMIT would not.
    `select coalesce((array_agg(${name}.ctid))[1:${Math.max(1, limit)}]::text[], '{}') as places from only ${leaf.relation} as ${name} where (${step.where})`,
    values,
  )
  const { rows } = await looking(pool, step.timeoutMs, (client) => statement(client, used.text, used.values))
  return (rows[0] as { places: string[] }).places
}

/** One transaction with its ledger entry; after an error that passes the ledger is asked before it is tried again. */
async function settle(
  purge: Purge,
  mark: Mark,
  at: { leaf: TableFacts; range: string; next(removed: Record<string, number>): Mark },
): Promise<Mark> {
  const { step, context } = purge
  const pool = context.target.pool
  if (!pool) throw new Error("the plan's target has no database")
  const number = mark.batch + 1
  return patiently(context, (attempt) =>
    withClient(pool, async (client) => {
      const options = { timeoutMs: step.timeoutMs, batch: number, exclusive: attempt > 1 }
      // The first statement goes along in the same round trip: what the fence refuses is rolled back with it.
      const [opened, removed] = await Promise.allSettled([
        openStep(client, context.key, step.id, options),
        remove(client, purge, { ...at, mark }),
      ])
      if (opened.status === "rejected") throw attempt > 1 ? inDoubt(opened.reason) : opened.reason
      if (opened.value) {
        await client.query("rollback")
        return (opened.value.result as unknown as { mark: Mark }).mark
      }
      if (removed.status === "rejected") throw removed.reason
      const entry = { ...stepResult({}), mark: removed.value } as StepResult
      await closeStep(client, context.key, step.id, entry, number)
      return removed.value
    }),
  )
}

async function patiently<T>(context: RunContext, work: (attempt: number) => Promise<T>): Promise<T> {
  const started = performance.now()
  for (let attempt = 1; ; attempt++) {
    try {
      return await work(attempt)
    } catch (error) {
      const late = performance.now() - started > patienceMs
      if (error instanceof LostLeaseError || !isPassing(error) || late || context.signal.aborted) throw error
      await pause(Math.min(100 * 2 ** attempt, 2_000))
    }
  }
}
