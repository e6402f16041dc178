import { randomUUID } from "node:crypto"
import type { Pool } from "pg"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import type { Store } from "../../src/store/store.ts"
import type { StoredRollback } from "../../src/store/rows.ts"
import { awaiting, freshState, running } from "./store-fixture.ts"

let pool: Pool
let store: Store

beforeAll(async () => {
  ;({ pool, store } = await freshState())
})
afterAll(() => pool.end())

const click = (rollback: StoredRollback, userId: string, facts: { digest?: string; round?: number } = {}) =>
  store.approvals.approve({
    rollbackId: rollback.id,
    round: rollback.round,
    digest: "d1",
    userId,
    teamId: "T1",
    ...facts,
  })

describe("approvals", () => {
  it("of a hundred people at once are one decision", async () => {
    const rollback = await awaiting(store)
    const outcomes = await Promise.all(Array.from({ length: 100 }, (_, n) => click(rollback, `U${n + 10}`)))
    expect(outcomes.filter((outcome) => outcome.kind === "approved")).toHaveLength(1)
    expect(outcomes.filter((outcome) => outcome.kind === "too_late")).toHaveLength(99)
    expect(await store.approvals.list(rollback.id, rollback.round)).toHaveLength(1)
  })

  it("of two are two different people", async () => {
    const rollback = await awaiting(store, { approvals: 2 })
    const same = await Promise.all(Array.from({ length: 5 }, () => click(rollback, "U2BOB")))
    expect(same.map((outcome) => outcome.kind).sort()).toEqual([
      "already_yours",
      "already_yours",
      "already_yours",
      "already_yours",
      "counted",
    ])
    expect((await click(rollback, "U1ALICE")).kind).toBe("requester")
    expect((await click(rollback, "U3CAROL")).kind).toBe("approved")
  })

  it("count for the card that was shown, in time", async () => {
    const rollback = await awaiting(store)
    expect((await click(rollback, "U2BOB", { digest: "d0" })).kind).toBe("too_late")
    expect((await click(rollback, "U2BOB", { round: 0 })).kind).toBe("too_late")
    expect((await click(await awaiting(store, { expiresMs: -1 }), "U2BOB")).kind).toBe("too_late")
    expect((await store.rollbacks.get(rollback.id)).state).toBe("awaiting_approval")
  })
})

describe("the database itself, whoever writes", () => {
  const insert =
    "insert into stepback.approvals (rollback_id, round, user_id, requester_id, digest) values ($1, $2, $3, $4, $5)"

  it("refuses the requester, also under another requester's name", async () => {
    const { id, round } = await awaiting(store)
    await expect(pool.query(insert, [id, round, "U1ALICE", "U1ALICE", "d1"])).rejects.toMatchObject({ code: "23514" })
    await expect(pool.query(insert, [id, round, "U1ALICE", "U9OTHER", "d1"])).rejects.toMatchObject({ code: "23503" })
  })

  it.each(["approved", "running"])("refuses the state %s without its approvals", async (state) => {
    const { id, round } = await awaiting(store, { approvals: 2 })
    const update = () => pool.query("update stepback.rollbacks set state = $2 where id = $1", [id, state])
    await expect(update()).rejects.toMatchObject({ code: "SB002" })
    await pool.query(insert, [id, round, "U2BOB", "U1ALICE", "d1"])
    await expect(update()).rejects.toMatchObject({ code: "SB002" })
    await pool.query(insert, [id, round, "U3CAROL", "U1ALICE", "another digest"])
    await expect(update()).rejects.toMatchObject({ code: "SB002" })
    await store.approvals.void(id, round, ["U3CAROL"], "left")
    await pool.query(insert, [id, round, "U4DAVE", "U1ALICE", "d1"])
    await update()
  })

  it("refuses a rollback that is written as approved from the start", async () => {
    const columns = "id, number, kind, environment, title, state, requester_id, channel_id, reason, selection"
    const values = [randomUUID(), 900_001, "rollback", "born-approved", "t", "approved", "U1ALICE", "C1", "r", {}]
    const places = values.map((_value, index) => `$${index + 1}`).join(", ")
    await expect(
      pool.query(`insert into stepback.rollbacks (${columns}) values (${places})`, values),
    ).rejects.toMatchObject({ code: "SB002" })
  })

  it.each([
    ["another digest", "digest = 'd2', frozen = '{\"x\":1}'"],
    ["another round", "round = round + 1"],
    ["fewer approvals needed, then more", "approvals_needed = 2"],
  ])("refuses %s under a run that goes on", async (_name, change) => {
    const { id } = await running(store)
    await expect(pool.query(`update stepback.rollbacks set ${change} where id = $1`, [id])).rejects.toMatchObject({
      code: "SB002",
    })
  })
})
