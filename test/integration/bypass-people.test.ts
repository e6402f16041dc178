import { afterAll, beforeAll, beforeEach, describe, expect, inject, it } from "vitest"
import { until } from "../../playground/faults/until.ts"
import { approve } from "../../src/commands/approve.ts"
import { leave, stop } from "../../src/commands/cancel.ts"
import { confirm, decideFailure } from "../../src/commands/confirm.ts"
import { note } from "../../src/commands/note.ts"
import { record } from "../../src/commands/record.ts"
import { retry, skip } from "../../src/commands/reopen.ts"
import { requestRollback } from "../../src/commands/request.ts"
import { requestUndo } from "../../src/commands/undo.ts"
import { canonicalJson, sha256, type FrozenRun } from "../../src/plans/frozen.ts"
import type { StoredRollback } from "../../src/store/rows.ts"
import { as, plan, startTown, type Town } from "./two-people-town.ts"

/** Every entrance but the button Approve itself: what starts something again must find its second person again. */
let town: Town

beforeAll(async () => {
  town = await startTown(inject("postgresUrl"))
})
beforeEach(() => town.reset())
afterAll(() => town.stop())

const outsiders = [
  ["a guest", "U0GUEST", "guest"],
  ["a bot", "U0ROBOT", "bot"],
  ["somebody deactivated", "U0GONE", "deactivated"],
  ["a stranger", "U0STRANGER", "stranger"],
  ["a member of another team", "U0ELSEWHERE", "other_team"],
  ["somebody about whom Slack is silent", "U0SILENT", "could_not_check_person"],
] as const

type Outcome = { kind: string; refusal?: { reason: string } }
const refusalOf = (outcome: Outcome) => outcome.refusal?.reason ?? outcome.kind
const get = ({ id }: { id: string }) => town.store.rollbacks.get(id)
const press = (card: StoredRollback, who: string) => approve({ token: card.token ?? "", actor: as(who) }, town.deps)
const approvalsOf = async (card: StoredRollback) => {
  const now = await get(card)
  return (await town.store.approvals.list(now.id, now.round)).map(({ userId }) => userId)
}
/** A new card of it, looked at and waiting. */
const anew = async (card: StoredRollback) => {
  await town.work(card.id)
  const fresh = await get(card)
  expect(fresh.state).toBe("awaiting_approval")
  return fresh
}

/** Asked for by Alice, approved by Bob (and Carol), and failed at its first step. */
async function failed(words: Parameters<Town["card"]>[0] = {}): Promise<StoredRollback> {
  const card = await town.card(words)
  if ((await press(card, "U0BOB")).kind === "counted") await press(card, "U0CAROL")
  await town.breakTarget()
  await town.work(card.id)
  await town.mendTarget()
  expect(await get(card)).toMatchObject({ state: "failed" })
  return get(card)
}

describe("bypass: Skip", () => {
  it.each([
    ["whoever asked for the rollback", "U0ALICE"],
    ["whoever asked for the Skip", "U0BOB"],
  ])("does not let %s approve what is left", async (_who, userId) => {
    const rollback = await failed()
    expect(await skip(rollback, "not needed", as("U0BOB"), town.deps)).toEqual({ kind: "reopened" })
    const card = await anew(rollback)
    expect(await approvalsOf(card)).toEqual([])
    expect(refusalOf(await press(card, userId))).toBe("requester_cannot_approve")
    expect(await get(card)).toMatchObject({ state: "awaiting_approval" })
    expect(await press(card, "U0CAROL")).toMatchObject({ kind: "approved" })
  })

  it("of two steps by two people lets neither of them approve", async () => {
    town.written.source = plan.replace(
      "  data:",
      "      - { id: look, check: select 2 as one, expect: { values: { one: 1 } } }\n  data:",
    )
    const rollback = await failed()
    await skip(rollback, "not needed", as("U0BOB"), town.deps)
    await press(await anew(rollback), "U0CAROL")
    await town.work(rollback.id)
    expect(await skip(await get(rollback), "nor this", as("U0DAVE"), town.deps)).toEqual({ kind: "reopened" })
    const card = await anew(rollback)
    for (const who of ["U0ALICE", "U0BOB", "U0DAVE"])
      expect(refusalOf(await press(card, who))).toBe("requester_cannot_approve")
    expect(await press(card, "U0LEAD")).toMatchObject({ kind: "approved" })
  })

  it("does not carry the approvals of before over, nor their card", async () => {
    const rollback = await failed({ with: ["data"] })
    await skip(rollback, "not needed", as("U0LEAD"), town.deps)
    const card = await anew(rollback)
    expect(refusalOf(await press(rollback, "U0BOB"))).toBe("old_card")
    expect(await press(card, "U0BOB")).toMatchObject({ kind: "counted", have: 1, needed: 2 })
    await town.work(card.id)
    expect(await get(card)).toMatchObject({ state: "awaiting_approval" })
  })

  it("decided on a failure that was retried since, leaves nothing out", async () => {
    const rollback = await failed()
    await retry(rollback, as("U0ALICE"), town.deps)
    await town.breakTarget()
    await town.work(rollback.id)
    expect(refusalOf(await skip(rollback, "not needed", as("U0BOB"), town.deps))).toBe("other_failure")
    expect(await get(rollback)).toMatchObject({ state: "failed", skips: {} })
  })

  it.each(outsiders)("by %s is refused", async (_who, userId, reason) => {
    const rollback = await failed()
    expect(refusalOf(await skip(rollback, "please", as(userId), town.deps))).toBe(reason)
    expect(await get(rollback)).toMatchObject({ state: "failed", skips: {} })
  })

  it("of what waits, runs or was never approved is refused", async () => {
    const card = await town.card()
    expect(refusalOf(await skip(card, "please", as("U0BOB"), town.deps))).toBe("not_in_state")
    await press(card, "U0BOB")
    expect(refusalOf(await skip(await get(card), "please", as("U0BOB"), town.deps))).toBe("not_in_state")
  })
})

describe("bypass: Retry", () => {
  it("pressed by two for one failure is one: the next failure is for somebody to look at", async () => {
    const rollback = await failed()
    expect(await retry(rollback, as("U0ALICE"), town.deps)).toEqual({ kind: "reopened" })
    await town.breakTarget()
    await town.work(rollback.id)
    const now = await get(rollback)
    expect(now.state).toBe("failed")
    expect(refusalOf(await retry(rollback, as("U0BOB"), town.deps))).toBe("tried_since")
    expect(refusalOf(await retry(now, as("U0BOB"), town.deps, rollback.generation))).toBe("tried_since")
    expect(await get(rollback)).toMatchObject({ state: "failed", generation: now.generation })
    expect(await retry(now, as("U0BOB"), town.deps, now.generation)).toEqual({ kind: "reopened" })
  })

  it.each(outsiders)("by %s is refused", async (_who, userId, reason) => {
    const rollback = await failed()
    expect(refusalOf(await retry(rollback, as(userId), town.deps))).toBe(reason)
    expect(await get(rollback)).toMatchObject({ state: "failed" })
  })

  it.each(["denied", "cancelled", "expired"] as const)("of what was %s is refused", async (end) => {
    const card = await town.card()
    await town.store.rollbacks.move(card.id, end, { actor: "U0CAROL" })
    expect(refusalOf(await retry(await get(card), as("U0BOB"), town.deps))).toBe("not_in_state")
    expect(refusalOf(await skip(await get(card), "please", as("U0BOB"), town.deps))).toBe("not_in_state")
    expect(await get(card)).toMatchObject({ state: end })
  })

  it("runs what was approved, not the plan as it is now", async () => {
    const rollback = await failed()
    town.written.source = plan.replace('default: "1"', 'default: "666"')
    expect(await retry(rollback, as("U0ALICE"), town.deps)).toEqual({ kind: "reopened" })
    await town.work(rollback.id)
    expect(await get(rollback)).toMatchObject({ state: "succeeded" })
    expect(await town.version()).toBe("1")
  })

  it("of what was left as it is, is refused", async () => {
    const rollback = await failed()
    expect(await leave(rollback, as("U0BOB"), town.deps)).toEqual({ kind: "left" })
    expect(refusalOf(await retry(await get(rollback), as("U0ALICE"), town.deps))).toBe("left")
    expect(refusalOf(await skip(await get(rollback), "please", as("U0ALICE"), town.deps))).toBe("left")
  })

  it("delivered again does not run a second time", async () => {
    const rollback = await failed()
    const click = as("U0ALICE")
    await town.breakTarget()
    expect(await retry(rollback, click, town.deps)).toEqual({ kind: "reopened" })
    await town.work(rollback.id)
    expect(refusalOf(await retry(await get(rollback), click, town.deps))).toBe("not_in_state")
    expect(await get(rollback)).toMatchObject({ state: "failed", generation: 1 })
  })
})

describe("bypass: Undo", () => {
  const done = async (words: Parameters<Town["card"]>[0] = {}) => {
    const card = await town.card(words)
    if ((await press(card, "U0BOB")).kind === "counted") await press(card, "U0CAROL")
    await town.work(card.id)
    expect(await get(card)).toMatchObject({ state: "succeeded" })
    return get(card)
  }
  const undoBy = (rollback: StoredRollback, userId: string, channelId = "C0SHOP") =>
    requestUndo(rollback, { channelId, actor: as(userId) }, town.deps)

  it("is not approved by whoever asked for it, though they approved what it takes back", async () => {
    const asked = await undoBy(await done(), "U0BOB")
    if (asked.kind !== "requested") throw new Error(JSON.stringify(asked))
    const card = await anew(asked.rollback)
    expect(refusalOf(await press(card, "U0BOB"))).toBe("requester_cannot_approve")
    await town.work(card.id)
    expect(await town.version()).toBe("1")
  })

  it("is not approved with the card of what it takes back", async () => {
    const rollback = await done()
    const asked = await undoBy(rollback, "U0BOB")
    if (asked.kind !== "requested") throw new Error(JSON.stringify(asked))
    const card = await anew(asked.rollback)
    expect(refusalOf(await press(rollback, "U0CAROL"))).toBe("already_decided")
    expect(await get(card)).toMatchObject({ state: "awaiting_approval" })
  })

  it("asks for as many people as what it takes back", async () => {
    await town.target.query("insert into quotes values (1, '1')")
    const asked = await undoBy(await done({ with: ["data"] }), "U0ALICE")
    if (asked.kind !== "requested") throw new Error(JSON.stringify(asked))
    const card = await anew(asked.rollback)
    expect(await press(card, "U0BOB")).toMatchObject({ kind: "counted", have: 1, needed: 2 })
    expect(refusalOf(await press(card, "U0BOB"))).toBe("already_yours")
    await town.work(card.id)
    expect(await town.version()).toBe("1")
  })

  describe("when the plan is invalid", () => {
    const told = plan
      .replace("environment: shop", "environment: shop\nchannel: C0SHOP")
      .replace("  data:", "      - { id: tell, command: [sleep, '0'], effect: keyed }\n  data:")
    const doneBefore = async (edit = (run: FrozenRun) => run) => {
      town.written.source = told
      const rollback = await done()
      const frozen = canonicalJson(edit(JSON.parse(rollback.frozen ?? "") as FrozenRun))
      const change = "update stepback.rollbacks set frozen = $2, digest = $3 where id = $1"
      await town.state.query(change, [rollback.id, frozen, sha256(frozen)])
      town.written.source = "version: 2"
      return get(rollback)
    }
    const ofBefore = ({ rules: _rules, ...run }: FrozenRun): FrozenRun => run

    it("asks those whom the plan gave for its own risk, in the plan's channel", async () => {
      const rollback = await doneBefore()
      expect(rollback).toMatchObject({ risk: "low", approvals_needed: 1 })
      expect(refusalOf(await undoBy(rollback, "U0ALICE", "C0OTHER"))).toBe("wrong_channel")
      const asked = await undoBy(rollback, "U0ALICE")
      if (asked.kind !== "requested") throw new Error(JSON.stringify(asked))
      const card = await anew(asked.rollback)
      expect(card).toMatchObject({ risk: "medium", approvals_needed: 2 })
      expect(refusalOf(await press(card, "U0DAVE"))).toBe("not_in_audience")
      expect(await press(card, "U0BOB")).toMatchObject({ kind: "counted", have: 1, needed: 2 })
    })

    it("is refused where its run does not say who approves at that risk", async () => {
      const rollback = await doneBefore(ofBefore)
      expect(refusalOf(await undoBy(rollback, "U0ALICE", "C0OTHER"))).toBe("wrong_channel")
      const asked = await undoBy(rollback, "U0ALICE")
      if (asked.kind !== "requested") throw new Error(JSON.stringify(asked))
      await town.work(asked.rollback.id)
      const ended = await get(asked.rollback)
      expect(ended.state).toBe("cancelled")
      expect(ended.end_reason).toMatch(/of medium risk, .* gone or invalid: mend the plan file, then ask again/)
    })
  })

  it.each(outsiders)("by %s is refused", async (_who, userId, reason) => {
    expect(refusalOf(await undoBy(await done(), userId))).toBe(reason)
  })

  it.each([
    ["shared with another company", { kind: "shared" }, "shared_channel"],
    ["that the bot cannot see into", { kind: "unseen" }, "not_a_channel"],
    ["that the bot is not in", { kind: "not_in_channel" }, "bot_not_in_channel"],
    ["about which Slack is silent", { kind: "unreachable" }, "could_not_check_channel"],
  ] as const)("and a request in a channel %s are refused", async (_what, answer, reason) => {
    const rollback = await done()
    town.workspace.channels.set("C0OTHER", answer)
    expect(refusalOf(await undoBy(rollback, "U0BOB", "C0OTHER"))).toBe(reason)
    const selection = { only: null, with: [], parameters: {} }
    const request = { environment: "shop", selection, reason: "", channelId: "C0OTHER", rehearsalOnly: false }
    expect(refusalOf(await requestRollback({ ...request, actor: as("U0ALICE") }, town.deps))).toBe(reason)
  })
})

describe("bypass: new numbers", () => {
  it("take every approval back, the card with it, and leave the requester where they were", async () => {
    town.written.source = plan.replace("rows: 0..10", "rows: rehearsed")
    await town.target.query("insert into quotes values (1, '1'), (2, '1')")
    const old = await town.card({ with: ["data"] })
    for (const who of ["U0BOB", "U0CAROL"]) await press(old, who)
    await town.target.query("insert into quotes select n, '1' from generate_series(10, 99) n")
    await town.work(old.id)
    expect(await get(old)).toMatchObject({ state: "preparing", approved_at: null })
    const card = await anew(old)
    expect(refusalOf(await press(old, "U0LEAD"))).toBe("old_card")
    expect(refusalOf(await press(card, "U0ALICE"))).toBe("requester_cannot_approve")
    expect(await press(card, "U0BOB")).toMatchObject({ kind: "counted", have: 1, needed: 2 })
    await town.work(card.id)
    expect((await town.target.query("select from quotes")).rowCount).toBe(92)
  })
})

describe("bypass: questions in the thread", () => {
  const asking = plan.replace("expect: { rows: 1 }", "expect: { rows: 1 }\n        on_failure: ask")
  const byHand = plan.replace("  data:", "      - { id: hand, manual: look at the lamp }\n  data:")

  /** A run that waits for an answer, and the way to end it. */
  async function questioned(source: string) {
    town.written.source = source
    const card = await town.card()
    // What is done by hand cannot be undone: that raises the risk, and two must agree.
    if ((await press(card, "U0BOB")).kind === "counted") await press(card, "U0CAROL")
    if (source === asking) await town.breakTarget()
    const run = town.work(card.id)
    const question = await until("the question", async () => {
      const open = "select id from stepback.confirmations where rollback_id = $1 and answer is null"
      return (await town.state.query<{ id: string }>(open, [card.id])).rows[0]?.id
    })
    const end = async () => {
      await stop(await get(card), as("U0ALICE"), town.deps)
      await town.work(card.id)
      await run
    }
    return { card, run, question, end }
  }

  it.each(["U0ALICE", "U0CAROL"])("Skip by %s goes to the approvers, and is not approved by them", async (who) => {
    const { card, run, question } = await questioned(asking)
    const decided = { answer: "skip", reason: "not needed" } as const
    expect(await decideFailure(question, decided, as(who), town.deps)).toEqual({ kind: "confirmed" })
    await run
    expect(await get(card)).toMatchObject({ state: "preparing", approved_at: null })
    const fresh = await anew(card)
    expect(refusalOf(await press(fresh, who))).toBe("requester_cannot_approve")
    expect(refusalOf(await press(card, "U0BOB"))).toBe("old_card")
    expect(await approvalsOf(fresh)).toEqual([])
  })

  it("answers by outsiders, of the wrong kind, without a reason, or by forged ids change nothing", async () => {
    const { card, question, end } = await questioned(asking)
    for (const [, userId, reason] of outsiders)
      for (const answer of ["retry", "skip", "leave"] as const)
        expect(refusalOf(await decideFailure(question, { answer, reason: "x" }, as(userId), town.deps))).toBe(reason)
    expect(await confirm(question, "done", as("U0BOB"), town.deps)).toMatchObject({ kind: "late" })
    const blank = { answer: "skip", reason: " \u0000 " } as const
    expect(refusalOf(await decideFailure(question, blank, as("U0BOB"), town.deps))).toBe("missing_reason")
    for (const id of [card.id, card.token ?? "", "' or true --"])
      expect(refusalOf(await decideFailure(id, { answer: "retry" }, as("U0BOB"), town.deps))).toBe("old_card")
    expect(await get(card)).toMatchObject({ state: "running", skips: {} })
    expect(await town.store.confirmations.find(question)).toMatchObject({ answer: null })
    await end()
  })

  it("an answer after Stop counts no more", async () => {
    const { card, question, end } = await questioned(asking)
    await end()
    const decided = { answer: "skip", reason: "not needed" } as const
    expect(await decideFailure(question, decided, as("U0CAROL"), town.deps)).toMatchObject({ kind: "late" })
    expect(await get(card)).toMatchObject({ skips: {} })
    expect((await get(card)).state).toMatch(/failed|stopped/)
  })

  it("Done by outsiders, or as an answer to a failure, does not go on", async () => {
    const { card, question, end } = await questioned(byHand)
    for (const [, userId, reason] of outsiders)
      expect(refusalOf(await confirm(question, "done", as(userId), town.deps))).toBe(reason)
    expect(refusalOf(await decideFailure(question, { answer: "retry" }, as("U0BOB"), town.deps))).toBe("old_card")
    expect(await town.store.confirmations.find(question)).toMatchObject({ answer: null })
    await end()
    expect(await get(card)).toMatchObject({ state: "stopped" })
  })
})

describe("bypass: requests and commands", () => {
  it("whoever asks again is the one who asked: they do not approve it", async () => {
    const first = await town.card({ by: "U0ALICE" })
    await town.store.rollbacks.move(first.id, "expired", { actor: "stepback" })
    const again = await town.card({ by: "U0BOB" })
    expect(refusalOf(await press(again, "U0BOB"))).toBe("requester_cannot_approve")
    expect(refusalOf(await press(first, "U0CAROL"))).toBe("already_decided")
    expect(await get(again)).toMatchObject({ state: "awaiting_approval" })
  })

  it("a note, a record and a Stop approve nothing, whatever they say", async () => {
    const card = await town.card()
    await note(card, "approve", as("U0BOB"), town.deps)
    const done = { environment: "shop", text: `approve R-${card.number}`, channelId: "C0SHOP" }
    expect(await record({ ...done, actor: as("U0BOB") }, town.deps)).toEqual({ kind: "recorded" })
    expect(refusalOf(await stop(card, as("U0BOB"), town.deps))).toBe("not_in_state")
    await town.work(card.id)
    expect(await get(card)).toMatchObject({ state: "awaiting_approval" })
    expect(await town.version()).toBe("2")
  })

  it.each(outsiders)("a record by %s is refused", async (_who, userId, reason) => {
    const done = { environment: "shop", text: "by hand", channelId: "C0SHOP", actor: as(userId) }
    expect(refusalOf(await record(done, town.deps))).toBe(reason)
  })
})
