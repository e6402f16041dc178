import { randomUUID } from "node:crypto"
import type { Pool } from "pg"
import { inject } from "vitest"
import { connectPostgres } from "../../playground/postgres.ts"
import { createLogger } from "../../src/log.ts"
import { createPool } from "../../src/store/database.ts"
import { migrate } from "../../src/store/migrate.ts"
import type { NewRollback } from "../../src/store/rollbacks.ts"
import type { StoredRollback } from "../../src/store/rows.ts"
import { createStore, type Store } from "../../src/store/store.ts"

export const log = createLogger({ level: "silent", role: "worker" })

/** A state database of one's own on the project's Postgres, and the store on it. */
export async function freshState(
  options: { migrated?: boolean } = {},
): Promise<{ url: string; pool: Pool; store: Store }> {
  const url = await connectPostgres(inject("postgresUrl")).createDatabase(`state_${randomUUID().slice(0, 8)}`)
  const pool = createPool(url, { log })
  if (options.migrated !== false) await migrate(pool)
  return { url, pool, store: createStore(pool) }
}

export function request(facts: Partial<NewRollback> = {}): NewRollback {
  const environment = facts.environment ?? `e-${randomUUID().slice(0, 8)}`
  return {
    id: randomUUID(),
    kind: "rollback",
    environment,
    title: "A way back",
    requesterId: "U1ALICE",
    teamId: "T1",
    channelId: "C1",
    reason: "because",
    selection: { only: null, with: [], parameters: {} },
    requestKey: randomUUID(),
    targetReference: `\${${environment}}`,
    undoOf: null,
    ...facts,
  }
}

export async function created(store: Store, facts: Partial<NewRollback> = {}): Promise<StoredRollback> {
  const outcome = await store.rollbacks.create(request(facts))
  if (outcome.kind !== "created") throw new Error(`not created: ${outcome.kind}`)
  return outcome.rollback
}

/** A rollback whose card can be approved. */
export async function awaiting(
  store: Store,
  facts: Partial<NewRollback> & { approvals?: number; expiresMs?: number } = {},
): Promise<StoredRollback> {
  const { approvals = 1, expiresMs = 60_000, ...rest } = facts
  const { id } = await created(store, rest)
  const claimed = await store.runs.claim(id, "rehearser", 60_000)
  if (claimed === null) throw new Error("not claimed")
  const rehearsal = {
    frozen: "{}",
    digest: "d1",
    token: randomUUID(),
    fingerprint: null,
    risk: "low",
  } as const
  await store.runs.saveRehearsal(id, claimed.epoch, { ...rehearsal, approvalsNeeded: approvals, expiresMs }, false)
  return store.rollbacks.get(id)
}

/** A rollback that a worker has in hand. */
export async function running(
  store: Store,
  facts: Partial<NewRollback> = {},
  leaseMs = 60_000,
): Promise<StoredRollback> {
  const { id, round } = await awaiting(store, facts)
  await store.approvals.approve({ rollbackId: id, round, digest: "d1", userId: "U2BOB", teamId: "T1" })
  const claimed = await store.runs.claim(id, "worker", leaseMs)
  if (claimed === null) throw new Error("not claimed")
  return claimed
}
