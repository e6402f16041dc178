import { randomUUID } from "node:crypto"
import type { Pool } from "pg"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { stepResult } from "../../src/steps/step.ts"
import type { Store } from "../../src/store/store.ts"
import { created, freshState, running } from "./store-fixture.ts"

let pool: Pool
let store: Store

beforeAll(async () => {
  ;({ pool, store } = await freshState())
})
afterAll(() => pool.end())

/** The state of this file's database as if all cards and messages so far had been sent. */
async function quiet(): Promise<void> {
  await pool.query(
    "update stepback.rollbacks set deliver_at = null, card_sent_version = card_version, lane_until = null, lane_owner = null",
  )
}

describe("the outbox", () => {
  it("keeps the order in which things happened, each once", async () => {
    const { id, epoch } = await running(store)
    const steps = Array.from({ length: 12 }, (_, n) => `step-${n}`)
    for (const step of steps) await store.runs.recordStep(id, epoch, { id: step, attempt: 1, result: stepResult({}) })
    // The same result written again, as after an answer that was lost.
    await store.runs.recordStep(id, epoch, { id: "step-3", attempt: 1, result: stepResult({}) })
    const end = { state: "succeeded", reason: null, by: "stepback", analysis: {}, remindMs: 1 } as const
    await store.runs.finish(id, epoch, end)
    const rows = await store.outbox.listUnsent(id)
    expect(rows.map((row) => row.key)).toEqual([
      ...steps.map((step) => `${id}/${step}/1`),
      `${id}/audit/${(await store.rollbacks.get(id)).audit_entries}`,
      `${id}/analysis`,
    ])
    expect(rows.map((row) => row.seq)).toEqual(rows.map((_row, index) => index + 1))
  })

  it("is in order under messages from everywhere at once", async () => {
    const { id } = await created(store)
    await Promise.all(
      Array.from({ length: 40 }, (_, n) =>
        store.outbox.enqueue(id, `${id}/text/${n % 30}`, { kind: "text", text: "…" }).catch(() => undefined),
      ),
    )
    const rows = await store.outbox.listUnsent(id)
    expect(rows.map((row) => row.seq)).toEqual(rows.map((_row, index) => index + 1))
    expect(new Set(rows.map((row) => row.key)).size).toBe(rows.length)
    expect(rows).toHaveLength(30)
  })

  it("gives a rollback's lane to one of many, and passes it on when its owner is gone", async () => {
    await quiet()
    const { id } = await created(store)
    const owners = Array.from({ length: 10 }, () => randomUUID())
    const claims = await Promise.all(owners.map((owner) => store.outbox.claimLane(owner, 60_000)))
    expect(claims.filter((claim) => claim === id)).toHaveLength(1)
    const owner = owners[claims.indexOf(id)] ?? ""
    expect(await store.outbox.holdLane(id, randomUUID(), 60_000)).toBe(false)
    expect(await store.outbox.holdLane(id, owner, -1)).toBe(true)
    const heir = randomUUID()
    expect(await store.outbox.claimLane(heir, 60_000)).toBe(id)
    await store.outbox.releaseLane(id, owner, null)
    expect(await store.outbox.holdLane(id, heir, 60_000)).toBe(true)
  })

  it("does not put a lane to rest over a message that is just being committed", async () => {
    await quiet()
    const { id } = await created(store)
    await quiet()
    await pool.query("update stepback.rollbacks set deliver_at = now() where id = $1", [id])
    const owner = randomUUID()
    expect(await store.outbox.claimLane(owner, 60_000)).toBe(id)
    const writer = await pool.connect()
    await writer.query("begin")
    await writer.query("select stepback.enqueue($1, $2, $3)", [id, `${id}/late`, { kind: "text", text: "late" }])
    const released = store.outbox.releaseLane(id, owner, null)
    // It waits for the writer's lock; only then the writer commits.
    await waitingForLock(pool)
    await writer.query("commit")
    writer.release()
    await released
    expect(await store.outbox.claimLane(randomUUID(), 60_000)).toBe(id)
  })
})

async function waitingForLock(on: Pool): Promise<void> {
  for (;;) {
    const { rows } = await on.query(
      "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    )
    if (rows.length > 0) return
  }
}
