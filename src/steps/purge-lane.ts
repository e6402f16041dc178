import { setTimeout as pause } from "node:timers/promises"
import { escapeIdentifier } from "pg"
import { isPassing, LostLeaseError, StepbackError } from "../errors.ts"
import type { StepProgress } from "../rollback/facts.ts"
import type { TableFacts } from "./catalog.ts"
import { closeStep, inDoubt, openStep } from "./ledger.ts"
import { remove, tooMany, type Purge, type Removal } from "./purge-batch.ts"
import { batchEntry, removedBy, type Removed } from "./purge-progress.ts"
import { bindUsed } from "./sql-text.ts"
import type { RunContext } from "./step.ts"
import { deadlineOf, looking, statement, withClient } from "./target.ts"

/** Late arrivals that one transaction takes. */
const sweptAtOnce = 1_000
/** Places that are asked for at once: they are kept in memory. */
const placesAtOnce = 50_000
/** A look that found some and took longer is followed by another, since more may have come behind it; so often at the most. */
const lookAgainMs = 250
const mostLooks = 3
/** The lease renews itself; between batches it is asked no more often than this, since the asking is a commit. */
const askEveryMs = 250
const patienceMs = 90_000
/** A purge that takes longer tells the thread how far it is, this often. */
const tellEveryMs = 5_000

/** One transaction with its ledger entry; after an error that passes the ledger is asked before it is tried again. */
export async function settleBatch(purge: Purge, at: Removal): Promise<void> {
  const { progress, context } = purge
  const held = { rows: 0 }
  try {
    progress.add(await patiently(context, (attempt) => tryBatch(purge, at, attempt, held)))
  } finally {
    progress.free(held.rows)
  }
}

async function tryBatch(purge: Purge, at: Removal, attempt: number, held: { rows: number }): Promise<Removed> {
  const { step, context, progress } = purge
  const { pool } = context.target
  if (!pool) throw new Error("the plan's target has no database")
  // The server ends each statement in time; this is for a link that went silent.
  const deadline = deadlineOf(step.timeoutMs) * (purge.family.kin.length + 1)
  return withClient(
    pool,
    async (client) => {
      const options = { timeoutMs: step.timeoutMs, batch: at.number, exclusive: attempt > 1 }
      // The first statement goes along in the same round trip: what the fence refuses is rolled back with it.
      const [opened, removing] = await Promise.allSettled([
        openStep(client, context.key, step.id, options),
        remove(client, purge, at),
      ])
      if (opened.status === "rejected") throw attempt > 1 ? inDoubt(opened.reason) : opened.reason
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

/**
 * Rows that came while it went on. They are looked for without a lock and taken by their places: a delete that scans the
 * table would hold those that it has met until it is through. Gives how many the last look found and were not taken.
 */
export async function sweep(purge: Purge): Promise<number> {
  let left = 0
  for (const leaf of purge.family.leaves)
    for (let looks = 1; ;) {
      const began = performance.now()
      const before = purge.progress.rows()
      // After its batch a condition that reads the table means other rows: those are told, and stay.
      const limit = purge.step.whole ? 0 : Math.min(purge.progress.room(), placesAtOnce)
      const { found, places } = await look(purge, leaf, limit)
      await take(purge, leaf, places)
      const still = found - (purge.progress.rows() - before)
      // As long as each look finds more than it may keep in mind, and may take what it finds.
      if (found > places.length && places.length === placesAtOnce && still < found) continue
      if (found > 0 && performance.now() - began > lookAgainMs && looks++ < mostLooks) continue
      left += still
      break
    }
  return left
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

async function look(purge: Purge, leaf: TableFacts, limit: number): Promise<{ found: number; places: string[] }> {
  const { step, context, progress, values } = purge
  const { pool } = context.target
  if (!pool) return { found: 0, places: [] }
  const name = escapeIdentifier(progress.table)
  const used = bindUsed(
    `select count(*)::int as found, coalesce((array_agg(${name}.ctid))[1:${limit}]::text[], '{}') as places
       from only ${leaf.relation} as ${name} where (${step.where})`,
    values,
  )
  const { rows } = await patiently(context, () =>
    looking(pool, step.timeoutMs, (client) => statement(client, used.text, used.values)),
  )
  return rows[0] as { found: number; places: string[] }
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
