import { setTimeout as pause } from "node:timers/promises"
import { escapeIdentifier } from "pg"
import { errorCode, isPassing, LostLeaseError, StepbackError } from "../errors.ts"
import type { StepProgress } from "../rollback/facts.ts"
import type { TableFacts } from "./catalog.ts"
import { lookInHalves } from "./halves.ts"
import { closeStep, inDoubt, openStep } from "./ledger.ts"
import { mayMove, remove, sparing, tooMany, type Purge, type Removal } from "./purge-batch.ts"
import { batchEntry, removedBy, type Removed } from "./purge-progress.ts"
import { bindUsed } from "./sql-text.ts"
import type { RunContext } from "./step.ts"
import { deadlineOf, looking, withClient } from "./target.ts"

/** Late arrivals that one transaction takes. */
const sweptAtOnce = 1_000
/** Places that are asked for at once: they are kept in memory. */
const placesAtOnce = 50_000
/** Who comes while the last look goes on is found by nobody: told where some came before, or where it took longer. */
const longLookMs = 1_000
/** The lease renews itself; between batches it is asked no more often than this, since the asking is a commit. */
const askEveryMs = 250
const patienceMs = 90_000
const serializationFailure = "40001"
/** A purge that takes longer tells the thread how far it is, this often. */
const tellEveryMs = 5_000

/** One transaction with its ledger entry; after an error that passes the ledger is asked before it is tried again. */
export async function settleBatch(purge: Purge, at: Removal): Promise<void> {
  const { progress, context } = purge
  const held = { rows: 0 }
  try {
    progress.add(
      // After an error its commit may be in doubt: the ledger is read as it is behind the fence's lock, not as it was before.
      await patiently(context, (attempt) =>
        attempt === 1 ? tryFirst(purge, at, held) : tryBatch(purge, at, held, { exclusive: true }),
      ),
    )
  } finally {
    progress.free(held.rows)
  }
}

/**
 * From a snapshot where that may be. Where somebody changes a row between the snapshot and the batch's end, all of it was
 * for nothing and is done the other way, and so are some that follow: twice as many each time, so that a table that many
 * write to costs no more than a few tries.
 */
async function tryFirst(purge: Purge, at: Removal, held: { rows: number }): Promise<Removed> {
  const { races } = purge
  if (!mayMove(purge, at)) return tryBatch(purge, at, held)
  if (races.spared > 0) {
    races.spared--
    return tryBatch(purge, at, held)
  }
  try {
    return await tryBatch(purge, at, held, { snapshot: true })
  } catch (error) {
    const code = errorCode(error)
    if (code !== serializationFailure && code !== sparing) throw error
    races.spared = code === sparing ? Infinity : races.next
    races.next *= 2
    await purge.breathe()
    return tryBatch(purge, at, held)
  }
}

async function tryBatch(
  purge: Purge,
  at: Removal,
  held: { rows: number },
  way: { exclusive?: boolean; snapshot?: boolean } = {},
): Promise<Removed> {
  const { step, context, progress } = purge
  const { pool } = context.target
  if (!pool) throw new Error("the plan's target has no database")
  // The server ends each statement in time; this is for a link that went silent.
  const deadline = deadlineOf(step.timeoutMs) * (purge.family.kin.length + 1)
  return withClient(
    pool,
    async (client) => {
      const snapshotOf = way.snapshot ? at.leaf.relation : undefined
      const { timeoutMs } = step
      const { compressed } = purge
      const options = { timeoutMs, batch: at.number, exclusive: way.exclusive === true, snapshotOf, compressed }
      // The first statement goes along in the same round trip: what the fence refuses is rolled back with it.
      const [opened, removing] = await Promise.allSettled([
        openStep(client, context.key, step.id, options),
        remove(client, purge, at, way),
      ])
      if (opened.status === "rejected") throw way.exclusive ? inDoubt(opened.reason) : opened.reason
      if (opened.value) {
        await client.query("rollback")
        return removedBy(opened.value.result)
      }
      if (removing.status === "rejected") throw removing.reason
      const removed = removing.value
      const rows = removed[progress.table] ?? 0
      // Held until it is known what became of the commit: another lane must not fill its place meanwhile.
      progress.free(held.rows)
      held.rows = 0
      if (!progress.reserve(rows))
        throw new StepbackError(tooMany, "more rows match than were approved: the batch was taken back")
      held.rows = rows
      // Nothing there: nothing to keep either, and no commit to wait for.
      if (Object.keys(removed).length === 0) await client.query("rollback")
      else await closeStep(client, context.key, step.id, batchEntry(at.range, removed), { batch: at.number })
      return removed
    },
    deadline,
  )
}

/** What the last look found and was not taken, and, where others may have come behind it, when that look began. */
export type Late = { left: number; since: string | null }

/**
 * Rows that came while it went on. They are looked for without a lock and taken by their places: a delete that scans the
 * table would hold those that it has met until it is through. One look follows another only where there was much to take
 * between them: else it leaves as many behind as the one before, since they come for as long as it takes.
 */
export async function sweep(purge: Purge): Promise<Late> {
  const { progress } = purge
  const late: Late = { left: 0, since: null }
  for (const [number, leaf] of purge.family.leaves.entries())
    for (;;) {
      const before = progress.rows()
      const began = performance.now()
      // After its batch a condition that reads the table means other rows: those are told, and stay.
      const limit = purge.step.whole ? 0 : Math.min(progress.room(), placesAtOnce)
      const { found, places, at } = await look(purge, { leaf, pages: progress.pages[number] ?? 0 }, limit)
      const long = performance.now() - began > longLookMs
      await take(purge, leaf, places)
      const still = found - (progress.rows() - before)
      // It ends: what may be taken becomes less each time.
      if (places.length > sweptAtOnce && still < found) continue
      late.left += still
      if (found > 0 || long) late.since ??= at
      break
    }
  return late
}

async function take(purge: Purge, leaf: TableFacts, places: readonly string[]): Promise<void> {
  const { progress } = purge
  for (let n = 0; n < places.length; n += sweptAtOnce) {
    await purge.breathe()
    const some = places.slice(n, n + sweptAtOnce).join('","')
    await settleBatch(purge, {
      range: null,
      number: progress.nextSweep(),
      leaf,
      where: `${escapeIdentifier(progress.table)}.ctid = any('{"${some}"}'::tid[]) and (${purge.step.where})`,
    })
  }
}

type Look = { found: number; places: string[]; at: string }

async function look(purge: Purge, at: { leaf: TableFacts; pages: number }, limit: number): Promise<Look> {
  const { step, context, progress, values } = purge
  const { pool } = context.target
  if (!pool) throw new Error("the plan's target has no database")
  const name = escapeIdentifier(progress.table)
  const from = `from only ${at.leaf.relation} as ${name} where (${step.where})`
  const query = (within: string) =>
    bindUsed(
      `select count(*)::int as found, coalesce((array_agg(${name}.ctid))[1:${limit}]::text[], '{}') as places,
         to_char(now(), 'HH24:MI:SS') as at
       ${from} and ${within}`,
      values,
    )
  const scan = bindUsed(`select count(*) ${from}`, values)
  const looked = { name: progress.table, pages: step.whole ? 0 : at.pages, scan }
  const halves = (await patiently(context, () =>
    looking(
      pool,
      step.timeoutMs,
      (client) => lookInHalves({ pool, client, timeoutMs: step.timeoutMs }, looked, query),
      { helped: true },
    ),
  )) as Look[]
  return {
    found: halves.reduce((sum, { found }) => sum + found, 0),
    places: halves.flatMap(({ places }) => places).slice(0, limit),
    at: halves[0]?.at ?? "",
  }
}

/** What is done between batches. */
export function breathing(context: RunContext, seen: () => StepProgress): () => Promise<void> {
  let asked = performance.now()
  let told = asked
  return async () => {
    if (performance.now() - told > tellEveryMs) {
      told = performance.now()
      context.tell?.(seen())
    }
    if (performance.now() - asked > askEveryMs) {
      asked = performance.now()
      await context.checkpoint()
    }
    if (context.signal.aborted) throw new StepbackError("stopped", "stopped before its end")
  }
}

/** Repeats what failed for a reason that passes, for a while. */
export async function patiently<T>(context: RunContext, work: (attempt: number) => Promise<T>): Promise<T> {
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
