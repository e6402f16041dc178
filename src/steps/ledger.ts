import { setTimeout as pause } from "node:timers/promises"
import { escapeLiteral, type Pool, type PoolClient, type QueryResult } from "pg"
import { errorCode, LostLeaseError, StepbackError } from "../errors.ts"
import type { StepResult } from "../rollback/facts.ts"
import { rowShapes, type RowShapes, type TableFacts } from "./catalog.ts"
import { ledgerSql } from "./ledger.sql.ts"
import { prologue, withClient } from "./target.ts"

/** Which run of which approved bytes a transaction belongs to. */
export type RunKey = { rollbackId: string; epoch: number; digest: string }

const uuid = /^[0-9a-f-]{36}$/
const stepName = /^[A-Za-z0-9][A-Za-z0-9_-]*$/

function literals(key: RunKey, stepId: string): { id: string; step: string } {
  // These go into a simple query as text; they are ours, and checked all the same.
  if (!uuid.test(key.rollbackId) || !stepName.test(stepId)) throw new Error("not a step of ours")
  return { id: `'${key.rollbackId}'`, step: `'${stepId}'` }
}

/** Creates ledger and archive where they are missing. */
export async function initLedger(pool: Pool): Promise<void> {
  await withClient(pool, async (client) => {
    await client.query(`begin; select pg_advisory_xact_lock(7220542); ${ledgerSql}; commit`)
  })
}

/**
 * Raises the fence to this worker's epoch: from here on no transaction of an older worker commits. Waits for one that
 * is on its way. Creates the ledger when it is missing and the role may. Gives the epoch that stood there, null: none did.
 */
export async function raiseFence(pool: Pool, key: RunKey, signal?: AbortSignal): Promise<number | null> {
  const started = performance.now()
  for (;;) {
    try {
      return await tryRaise(pool, key)
    } catch (error) {
      // A long statement of a worker that died may hold the fence until the server ends it.
      const over = performance.now() - started > fencePatienceMs || signal?.aborted === true
      if (over || !isWaiting(error)) throw error
      await pause(250, undefined, { signal }).catch(() => undefined)
    }
  }
}

const fencePatienceMs = 5 * 60_000

/** Somebody else held what we wait for. */
function isWaiting(error: unknown): boolean {
  return ["55P03", "57014"].includes(errorCode(error))
}

/** The question whether a step was done could not be answered yet: it passes, and until then the outcome is unknown. */
export function inDoubt(error: unknown): unknown {
  if (!isWaiting(error)) return error
  return new StepbackError("08007", "whether it was done is not known: the ledger's fence is still held", {
    cause: error,
  })
}

async function tryRaise(pool: Pool, key: RunKey): Promise<number | null> {
  const { id } = literals(key, "fence")
  const raise = `${prologue({ timeoutMs: 20_000 })}; set local lock_timeout = 5000;
    select epoch from stepback_ledger.fence where rollback_id = ${id};
    insert into stepback_ledger.fence (rollback_id, epoch) values (${id}, ${key.epoch})
      on conflict (rollback_id) do update set epoch = excluded.epoch where fence.epoch < excluded.epoch;
    select epoch from stepback_ledger.fence where rollback_id = ${id}; commit`
  const attempt = async () => {
    const results = (await withClient(pool, (client) => client.query(raise))) as unknown as QueryResult<{
      epoch: number
    }>[]
    const epoch = results.at(-2)?.rows[0]?.epoch
    if (epoch !== key.epoch) throw new LostLeaseError(key.rollbackId, epoch)
    return results.at(-4)?.rows[0]?.epoch ?? null
  }
  try {
    return await attempt()
  } catch (error) {
    if (!["42P01", "3F000"].includes(errorCode(error))) throw error
    await createMissingLedger(pool)
    return attempt()
  }
}

async function createMissingLedger(pool: Pool): Promise<void> {
  try {
    await initLedger(pool)
  } catch (error) {
    throw new StepbackError(
      "ledger_missing",
      "the target has no ledger and this role may not create it: a database owner runs the SQL of `stepback target init ENV --print`",
      { cause: error },
    )
  }
}

export type LedgerEntry = { digest: string; result: StepResult }

/**
 * Opens the step's transaction: settings, the fence (shared: steps side by side do not wait for each other), and what
 * the ledger already says about this step, in one round trip.
 */
export async function openStep(
  client: PoolClient,
  key: RunKey,
  stepId: string,
  options: {
    timeoutMs: number
    batch?: number
    exclusive?: boolean
    snapshotOf?: string | undefined
    compressed?: boolean
  },
): Promise<LedgerEntry | null> {
  const { id, step } = literals(key, stepId)
  const results = (await client.query(
    `${prologue(options)};
     select epoch from stepback_ledger.fence where rollback_id = ${id} for ${options.exclusive ? "update" : "share"};
     select digest, result - 'kept' as result from stepback_ledger.entries
       where rollback_id = ${id} and step_id = ${step} and batch = ${options.batch ?? 0}`,
  )) as unknown as QueryResult[]
  const fence = results.at(-2)?.rows[0] as { epoch: number } | undefined
  if (fence === undefined)
    throw new StepbackError(
      "ledger_lost",
      "the target has lost this run's ledger: it was restored or replaced meanwhile",
    )
  if (fence.epoch !== key.epoch) throw new LostLeaseError(key.rollbackId)
  return (results.at(-1)?.rows[0] as LedgerEntry | undefined) ?? null
}

/** Writes the entry and commits, in one round trip. `kept`: of which tables rows were kept as text. */
export async function closeStep(
  client: PoolClient,
  key: RunKey,
  stepId: string,
  result: StepResult,
  { batch = 0, kept = [] }: { batch?: number; kept?: readonly TableFacts[] } = {},
): Promise<void> {
  const { id, step } = literals(key, stepId)
  const write = (told: string) => {
    const entry = kept.length === 0 ? told : `${told.slice(0, -1)},"kept":${JSON.stringify(rowShapes(kept))}}`
    // One message: the commit is not reached where the entry is refused.
    return client.query(
      `insert into stepback_ledger.entries (rollback_id, step_id, batch, digest, result)
         values (${id}, ${step}, ${batch}, ${escapeLiteral(key.digest)}, ${escapeLiteral(entry)}); commit`,
    )
  }
  const told = JSON.stringify(result)
  if (withoutSigns(told) === told) return void (await write(told))
  try {
    await Promise.all([client.query("savepoint stepback_entry"), write(told)])
  } catch (error) {
    if (errorCode(error) !== untranslatable) throw error
    await client.query("rollback to savepoint stepback_entry")
    await write(withoutSigns(told))
  }
}

/** The code of a character that the target's encoding, which need not be UTF-8, does not have. */
const untranslatable = "22P05"

/** Without the signs that are ours, as where a value is cut: what comes from the target can be written there. */
function withoutSigns(told: string): string {
  return told.replaceAll("\u2026", "...").replaceAll(/[\u2000-\u206f\u2190-\u21ff]/g, "*")
}

/**
 * What became of a step whose commit was not heard of. Waits until no transaction of it can be on its way any more
 * (they hold the fence), then the ledger's answer is final.
 */
export async function findEntry(pool: Pool, key: RunKey, stepId: string): Promise<LedgerEntry | null> {
  return withClient(pool, async (client) => {
    const entry = await openStep(client, key, stepId, { timeoutMs: 20_000, exclusive: true })
    await client.query("rollback")
    return entry
  }).catch((error: unknown) => {
    throw inDoubt(error)
  })
}

/** The columns that the tables had whose rows a step kept as text; null: it was done before these were written down. */
export async function keptShapes(client: PoolClient, rollbackId: string, stepId: string): Promise<RowShapes | null> {
  const { rows } = await client.query<{ kept: RowShapes | null }>(
    "select result -> 'kept' as kept from stepback_ledger.entries where rollback_id = $1 and step_id = $2 and batch = 0",
    [rollbackId, stepId],
  )
  return rows[0]?.kept ?? null
}

/** Raises the fence where one stands, and nowhere else: null where no worker of this run came as far as this target. */
export async function raiseStanding(pool: Pool, key: RunKey, signal?: AbortSignal): Promise<number | null> {
  return (await standing(pool, key.rollbackId)) === null ? null : raiseFence(pool, key, signal)
}

/** The epoch of a run's fence; null where none stands. */
export async function standing(pool: Pool, rollbackId: string): Promise<number | null> {
  const text = "select epoch from stepback_ledger.fence where rollback_id = $1"
  const { rows } = await withClient(pool, (client) => client.query<{ epoch: number }>(text, [rollbackId]), 20_000)
  return rows[0]?.epoch ?? null
}

/** The steps of a run that the ledger has. */
export async function listEntries(pool: Pool, rollbackId: string): Promise<Set<string>> {
  const { rows } = await withClient(
    pool,
    (client) =>
      client.query<{ step_id: string }>("select distinct step_id from stepback_ledger.entries where rollback_id = $1", [
        rollbackId,
      ]),
    20_000,
  )
  return new Set(rows.map((row) => row.step_id))
}
