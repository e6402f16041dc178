import { setTimeout as pause } from "node:timers/promises"
import { escapeIdentifier, type Pool, type PoolClient } from "pg"
import { errorCode, isPassing, LostLeaseError, StepbackError } from "../errors.ts"
import type { PurgeStep } from "../plans/plan.ts"
import type { StepResult } from "../rollback/facts.ts"
import { createArchive } from "./archive.ts"
import { shapeOf, type TableFacts } from "./catalog.ts"
import { fewPages } from "./halves.ts"
import { closeStep, openStep } from "./ledger.ts"
import { mayCompress } from "./page-images.ts"
import {
  allowedRowsMax,
  capProblem,
  countFamily,
  countRoot,
  countProblem,
  countTable,
  findDensity,
  splitName,
  wholeProblem,
} from "./purge-counts.ts"
import { archiveFor, tooMany, type Purge } from "./purge-batch.ts"
import { findFamily, listedKin, withOwn, type Family } from "./purge-family.ts"
import { breathing, patiently, settleBatch, sweep } from "./purge-lane.ts"
import { firstSize, nextSize, unknownDensity, type Density, type Size } from "./purge-pace.ts"
import {
  beginningEntry,
  createProgress,
  readKept,
  type Beginning,
  type Kept,
  type PageRange,
} from "./purge-progress.ts"
import { brokenOff, summary } from "./purge-summary.ts"
import { lockHolders } from "./locks.ts"
import { failure, sqlFailure, stepResult, type RunContext } from "./step.ts"
import { deadlineOf, isBusy, looking, prologue, statement, withClient } from "./target.ts"

/** Transactions at once, over different pages: one waits for its commit while the other works. */
const lanes = 2
/** The server would end it after 15 s, and say so in its log. */
const heldMs = 12_000
/** Ranges between a commit and the look that cleans up after it: by then no lane's snapshot sees its rows any more. */
const cleanedAfter = lanes + 1
/** 128 MB: a purge is mostly through fewer before the next checkpoint, and the look cost 25 ms of 580 for 500,000 rows. */
const smallPages = 16_384
/** That look takes milliseconds; whoever locks the table meanwhile is for the next batch to wait for, and to name. */
const cleanUpMs = 1_000

/**
 * Goes over the table's pages in ranges: each range is one transaction with its ledger entry, so that a run is resumed
 * where it was broken off, and others wait for one batch at the most.
 */
export async function runPurge(asked: PurgeStep, context: RunContext): Promise<StepResult> {
  const { pool } = context.target
  if (!pool) return refused("no_database", "the plan's target has no database")
  const values = valuesOf(asked, context)
  const found = await patiently(context, () =>
    looking(pool, asked.timeoutMs, (client) => lookFirst(client, pool, asked, context), { helped: true }),
  )
  if (!found) return refused("no_table", `there is no table ${asked.table}`)
  const { step, family, kept, leaves, counts, total, compressed } = found
  const beginning = kept.beginning ?? found.now
  const most = Math.min(step.atMost, allowedRowsMax(step, context.rehearsed?.rows ?? null))
  const progress = createProgress(family.root.table.name, beginning, kept.batches, most)
  const matched = progress.rows() + counts.rows
  const problem =
    schemaProblem(family, context, beginning) ??
    wholeProblem(step, family, { pages: beginning.pages, rows: counts.rows }) ??
    family.problems[0] ??
    counts.unlisted
  // Another number than was approved is a question for the approvers, who see then what the caps say of it.
  const counted = context.rehearsed?.rows ?? null
  const beyond = () => {
    const cap = capProblem(step, matched, total + Math.max(0, matched - (counted ?? matched)))
    return cap === null ? null : refused("refused", cap)
  }
  const trouble = problem === null ? (countProblem(asked, counted, matched) ?? beyond()) : refused("refused", problem)
  if (trouble?.failure) return brokenOff(step, progress, trouble.failure)
  const breathe = breathing(context, () => ({ rows: progress.rows(), of: matched }))
  const purge: Purge = {
    step,
    written: asked.where,
    context,
    family,
    values,
    progress,
    races: { spared: 0, next: 8 },
    compressed,
    breathe,
  }
  const dense = looking(pool, asked.timeoutMs, (client) => findDensity(client, purge, leaves, counts.rows))
  const [density] = await Promise.all([
    // Where it cannot be told, batches are as large as the first one until they turn out to be too large.
    dense.catch(() => unknownDensity),
    kept.beginning ? null : patiently(context, () => begin(purge, beginning)),
  ])
  // Rows that take others along take longer: as many in all.
  const first = step.whole ? { rows: Infinity, pages: Infinity } : firstSize(step.batch / listedKin(family).length)
  const pages = beginning.pages.reduce((sum, n) => sum + n, 0)
  const go = () => goThrough(purge, { first, density, cleaning: pages > smallPages && !purge.compressed })
  return pages > fewPages ? untidied(pool, step.timeoutMs, go) : go()
}

/** What is there before the first batch, or before a run that was broken off goes on. Null: there is no such table. */
async function lookFirst(client: PoolClient, pool: Pool, asked: PurgeStep, context: RunContext) {
  const { schema, name } = splitName(asked.table)
  const family = await findFamily(client, schema, name, asked.cascade)
  if (!family) return null
  const step = withOwn(asked, family)
  const kept = await readKept(client, context.key, step.id)
  const { oids, pages } = await pagesOf(client, family.leaves)
  const now: Beginning = { first: kept.next, leaves: family.leaves.map((leaf) => leaf.relation), pages }
  const counting = { family, step, values: valuesOf(asked, context) }
  // Asked after its only batch, a condition that reads what it removes would mean other rows.
  const over = step.whole === true && kept.batches.length > 0
  const leaves = { oids, pages }
  const rows = over ? 0 : await countRoot({ pool, client, timeoutMs: asked.timeoutMs }, counting, leaves)
  const counts = over ? nothing : await countFamily(client, counting, rows)
  // The rehearsal counted the table; counting it again would be one scan more.
  const total = context.rehearsed?.total ?? (await countTable(client, family)) + gone(kept, family)
  return { step, family, kept, leaves, counts, total, now, compressed: await mayCompress(client) }
}

const valuesOf = ({ params }: PurgeStep, { values }: RunContext) => params.map((name) => values[name] ?? "")

/**
 * While a snapshot from before is held, our looks at pages do not take the rows that are gone out of them: that is left to the
 * next reader or vacuum, as a DELETE by hand leaves it (35 ms of 450 for 500,000 rows, a ninth of the server's time for a
 * million of two). Not for longer: it holds up every vacuum of that database. Nor where others need the connections.
 */
async function untidied<T>(pool: Pool, timeoutMs: number, work: () => Promise<T>): Promise<T> {
  if (isBusy(pool)) return work()
  const [begun, over] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const held = withClient(pool, async (client) => {
    await client.query(prologue({ timeoutMs, readOnly: true }))
    begun.resolve()
    await Promise.race([over.promise, pause(heldMs, undefined, { ref: false })])
    await client.query("rollback")
  }).catch(() => undefined)
  await Promise.race([begun.promise, held])
  try {
    return await work()
  } finally {
    over.resolve()
  }
}

const nothing: Awaited<ReturnType<typeof countFamily>> = { rows: 0, children: [], unlisted: null }

/** Rows that earlier batches took. */
function gone(kept: Kept, family: Family): number {
  return kept.batches.reduce((sum, { removed }) => sum + (removed[family.root.table.name] ?? 0), 0)
}

function schemaProblem(family: Family, { rehearsed }: RunContext, { leaves }: Beginning): string | null {
  const seen = shapeOf([...family.leaves, ...listedKin(family).map((kin) => kin.table)])
  const same = leaves.join() === family.leaves.map((leaf) => leaf.relation).join()
  return same && (rehearsed?.shape === undefined || rehearsed.shape === seen)
    ? null
    : `the schema of ${family.root.table.name}, or of a table that goes along, has changed since the rehearsal: ask again`
}

/** Before Postgres 14 no range of pages can be asked for: there the whole table is swept. */
async function pagesOf(
  client: PoolClient,
  leaves: readonly TableFacts[],
): Promise<{ oids: string[]; pages: number[] }> {
  const found: { oid: string; pages: number }[] = []
  for (const leaf of leaves) {
    const { rows } = await statement(
      client,
      `select to_regclass($1)::oid::text as oid, case when current_setting('server_version_num')::int < 140000 then 0
         else pg_relation_size(to_regclass($1)) / current_setting('block_size')::int end::int as pages`,
      [leaf.relation],
    )
    found.push(rows[0] as { oid: string; pages: number })
  }
  return { oids: found.map(({ oid }) => oid), pages: found.map((one) => one.pages) }
}

/** The archives and the first entry, in one transaction. */
async function begin(purge: Purge, beginning: Beginning): Promise<void> {
  const { step, context, family } = purge
  const { pool } = context.target
  if (!pool) return
  await withClient(pool, async (client) => {
    const options = { timeoutMs: step.timeoutMs, batch: beginning.first }
    if (await openStep(client, context.key, step.id, options)) return void (await client.query("rollback"))
    for (const leaf of family.leaves) await createArchive(client, archiveFor(purge, family.root, leaf))
    for (const kin of listedKin(family).slice(1)) await createArchive(client, archiveFor(purge, kin))
    await closeStep(client, context.key, step.id, beginningEntry(beginning), { batch: beginning.first })
  })
}

type Pace = { first: Size; density: Density; cleaning: boolean }

async function goThrough(purge: Purge, pace: Pace): Promise<StepResult> {
  const { step, context, progress } = purge
  const state: Shared = { ...pace, over: false, committed: [] }
  try {
    const ends = await Promise.allSettled(Array.from({ length: step.whole ? 1 : lanes }, () => lane(purge, state)))
    const errors = ends.flatMap((end) => (end.status === "rejected" ? [end.reason as unknown] : []))
    // A lost lease says more than what else went wrong beside it.
    const worst = errors.find((error) => error instanceof LostLeaseError) ?? errors[0]
    if (worst !== undefined) throw worst
    return summary(purge, await sweep(purge))
  } catch (error) {
    if (error instanceof LostLeaseError) throw error
    // What earlier batches removed is told, so that it can be undone.
    const seen =
      error instanceof StepbackError ? failure(error.code, error.message) : sqlFailure(error, purge.written, context)
    if (errorCode(error) === "55P03") seen.detail = await lockHolders(context)
    return { ...brokenOff(step, progress, seen), outcome: isPassing(error) ? "unknown" : "failed" }
  }
}

/** What the lanes know of each other. `committed`: ranges that were not looked at since, oldest first. */
type Shared = Pace & { over: boolean; committed: PageRange[] }

/** Takes range after range until none is left, somebody says that it is over, or more match than were approved. */
async function lane(purge: Purge, state: Shared): Promise<void> {
  let size = state.first
  try {
    while (!state.over) {
      await purge.breathe()
      if (state.over) return
      const taken = purge.progress.take(size, state.density)
      if (!taken) return
      const { range, ended } = taken
      const began = performance.now()
      await settleBatch(purge, {
        range,
        number: purge.progress.numberOf(range),
        leaf: purge.family.leaves[range.leaf] as TableFacts,
        where: `${inRange(purge.family, range)} and (${purge.step.where})`,
      })
      size = nextSize(size, ended, performance.now() - began)
      if (!state.cleaning) continue
      state.committed.push(range)
      if (state.committed.length > cleanedAfter) await cleanUp(purge, state.committed.shift() as PageRange)
    }
  } catch (error) {
    state.over = true
    // More rows than were approved came into the pages that are left: the sweep takes what may still go.
    if (errorCode(error) !== tooMany) throw error
  }
}

/**
 * Reads a range once more, upon which the server marks its rows as gone, while the pages are at hand and have been logged
 * since the last checkpoint. Left to the look at the end, each page of the table is logged a second time: of a million rows
 * 320 MB more and 1.4 s, where these looks and that one take 0.45 s. Not where that is compressed: there these looks cost
 * 5 to 8 % of a purge. It answers nothing, so its failure is nobody's.
 */
async function cleanUp({ context, family }: Purge, range: PageRange): Promise<void> {
  const { pool } = context.target
  const leaf = family.leaves[range.leaf]
  if (!pool || !leaf) return
  const name = escapeIdentifier(family.root.table.name)
  // In one round trip: between batches there is no time to talk.
  const text = `${prologue({ timeoutMs: cleanUpMs, readOnly: true })};
    select count(*) from only ${leaf.relation} as ${name} where ${inRange(family, range)}; rollback`
  await withClient(pool, (client) => client.query(text), deadlineOf(cleanUpMs)).catch(() => undefined)
}

function inRange(family: Family, range: { from: number; to: number }): string {
  const place = `${escapeIdentifier(family.root.table.name)}.ctid`
  return `${place} >= '(${range.from},0)'::tid and ${place} < '(${range.to},0)'::tid`
}

function refused(code: string, message: string): StepResult {
  return stepResult({ outcome: "failed", failure: failure(code, message) })
}
