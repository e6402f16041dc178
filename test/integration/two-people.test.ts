import { randomUUID } from "node:crypto"
import { afterAll, beforeAll, beforeEach, describe, expect, inject, it } from "vitest"

import { acknowledge } from "../../src/commands/acknowledge.ts"
import { fillAnalysis } from "../../src/commands/analysis.ts"
import { approve } from "../../src/commands/approve.ts"
import { cancel, stop } from "../../src/commands/cancel.ts"
import { deny } from "../../src/commands/deny.ts"
import { note } from "../../src/commands/note.ts"
import type { Actor } from "../../src/commands/ports.ts"
import { requestRollback } from "../../src/commands/request.ts"
import type { StoredRollback } from "../../src/store/rows.ts"
import { as, plan, startTown, type Town } from "./two-people-town.ts"

let town: Town

beforeAll(async () => {
  town = await startTown(inject("postgresUrl"))
})
beforeEach(() => town.reset())
afterAll(() => town.stop())

const press = (card: Pick<StoredRollback, "token">, actor: Actor) =>
  approve({ token: card.token ?? "", actor }, town.deps)
const refusalOf = (outcome: { kind: string; refusal?: { reason: string } }) => outcome.refusal?.reason ?? outcome.kind
const stateOf = async (id: string) => (await town.store.rollbacks.get(id)).state
const approvalsOf = async (card: StoredRollback) =>
  (await town.store.approvals.list(card.id, card.round)).map(({ userId }) => userId)

describe("bypass: one press of Approve by the wrong person", () => {
  it.each<[string, Actor, string]>([
    ["the requester", as("U0ALICE"), "requester_cannot_approve"],
    ["the requester under another team's id", as("U0ALICE", "T0ELSEWHERE"), "requester_cannot_approve"],
    ["the requester under no team at all", as("U0ALICE", null), "requester_cannot_approve"],
    ["a guest", as("U0GUEST"), "guest"],
    ["a bot", as("U0ROBOT"), "bot"],
    ["somebody deactivated", as("U0GONE"), "deactivated"],
    ["a stranger", as("U0STRANGER"), "stranger"],
    ["a member of another team", as("U0ELSEWHERE"), "other_team"],
    ["a member of another team who claims ours", as("U0ELSEWHERE", "T0HOME"), "other_team"],
    ["somebody of no team", as("U0NOWHERE"), "other_team"],
    ["somebody whom Slack does not know", as("U0NOBODY"), "unknown_person"],
    ["an empty user id", as(""), "unknown_person"],
    ["somebody about whom Slack is silent", as("U0SILENT"), "could_not_check_person"],
  ])("%s is refused, and nothing is counted", async (_who, actor, reason) => {
    const card = await town.card()
    expect(refusalOf(await press(card, actor))).toBe(reason)
    expect(await approvalsOf(card)).toEqual([])
    expect(await stateOf(card.id)).toBe("awaiting_approval")
  })

  it("nobody is let in while our own workspace is not known", async () => {
    const card = await town.card()
    town.workspace.forgetHome()
    expect(refusalOf(await press(card, as("U0BOB")))).toBe("could_not_check_person")
  })

  it.each<[string, string, string[] | null | undefined, string]>([
    ["who is not named", "U0DAVE", undefined, "not_in_audience"],
    ["who was taken out of the group a moment ago", "U0BOB", ["U0CAROL"], "not_in_audience"],
    ["of a group about which Slack is silent", "U0BOB", null, "could_not_check_group"],
  ])("a full member %s is refused where the plan names people", async (_why, userId, members, reason) => {
    const card = await town.card({ with: ["data"] })
    if (members !== undefined) town.workspace.groups.set("S0ONCALL", members)
    expect(refusalOf(await press(card, as(userId)))).toBe(reason)
    expect(await approvalsOf(card)).toEqual([])
  })
})

describe("bypass: tokens", () => {
  it.each<[string, (card: StoredRollback) => string]>([
    ["a random one", () => randomUUID()],
    ["the rollback's id", (card) => card.id],
    ["the digest", (card) => card.digest ?? ""],
    ["none", () => ""],
    ["SQL", () => "' or true --"],
    ["36 characters that are no uuid", () => "-".repeat(36)],
    ["the right one in capitals", (card) => (card.token ?? "").toUpperCase()],
  ])("%s approves nothing", async (_what, forge) => {
    const card = await town.card()
    expect(refusalOf(await approve({ token: forge(card), actor: as("U0BOB") }, town.deps))).toBe("old_card")
    expect(refusalOf(await deny({ token: forge(card), actor: as("U0BOB"), reason: "no" }, town.deps))).toBe("old_card")
    expect(await stateOf(card.id)).toBe("awaiting_approval")
  })

  it("that of an old card is no approval of what another one released, though it was given there", async () => {
    const old = await town.card()
    expect(await press(old, as("U0BOB"))).toMatchObject({ kind: "approved" })
    await town.store.rollbacks.prepareAgain(old.id, ["approved"], ["the plan"], { round: old.round })
    await town.work(old.id)
    expect(await press(await town.get(old), as("U0CAROL"))).toMatchObject({ kind: "approved" })
    expect(refusalOf(await press(old, as("U0BOB")))).toBe("already_decided")
  })

  it("that of an old card neither approves nor denies the new one", async () => {
    const old = await town.card()
    await town.store.rollbacks.move(old.id, "preparing", { actor: "stepback" })
    expect(refusalOf(await press(old, as("U0BOB")))).toBe("not_ready")
    await town.work(old.id)
    expect(refusalOf(await press(old, as("U0BOB")))).toBe("old_card")
    expect(refusalOf(await deny({ token: old.token ?? "", actor: as("U0BOB"), reason: "" }, town.deps))).toBe(
      "old_card",
    )
    expect(await stateOf(old.id)).toBe("awaiting_approval")
  })

  it.each(["denied", "cancelled", "expired"] as const)(
    "a click after it was %s says so and changes nothing",
    async (end) => {
      const card = await town.card()
      await town.store.rollbacks.move(card.id, end, { actor: "U0CAROL" })
      expect(refusalOf(await press(card, as("U0BOB")))).toBe("already_decided")
      expect(await stateOf(card.id)).toBe(end)
    },
  )

  it("a click after its time is too late, swept or not", async () => {
    const card = await town.card()
    await town.state.query("update stepback.rollbacks set expires_at = now() - interval '1 ms' where id = $1", [
      card.id,
    ])
    expect(await press(card, as("U0BOB"))).toMatchObject({ refusal: { reason: "already_decided", state: "expired" } })
    expect(await approvalsOf(card)).toEqual([])
  })

  it("a click after the end runs nothing again", async () => {
    const card = await town.card()
    await press(card, as("U0BOB"))
    await town.work(card.id)
    expect(await stateOf(card.id)).toBe("succeeded")
    expect(refusalOf(await press(card, as("U0CAROL")))).toBe("already_decided")
    expect((await town.store.runs.listSteps(card.id)).map(({ attempt }) => attempt)).toEqual([1])
  })
})

it("who may not ask for one of the components hears which one it is", async () => {
  town.written.source = plan.replace("  data:\n", "  data:\n    request: [U0CAROL]\n")
  const asks = (who: string, selected: { only?: string[]; with?: string[] }) =>
    requestRollback(
      {
        environment: "shop",
        selection: { only: null, with: [], parameters: {}, ...selected },
        reason: "",
        channelId: "C0SHOP",
        actor: as(who),
        rehearsalOnly: false,
      },
      town.deps,
    )
  expect(await asks("U0DAVE", { with: ["data"] })).toMatchObject({
    refusal: { reason: "not_in_audience", audience: ["U0CAROL"], components: ["data"] },
  })
  expect(await asks("U0DAVE", { only: ["data"] })).not.toHaveProperty("refusal.components")
  expect(await asks("U0CAROL", { with: ["data"] })).toMatchObject({ kind: "requested" })
})

it("who approved is not told to be too late when the press is delivered again, and others are", async () => {
  const card = await town.card()
  const outcomes = await Promise.all([1, 2, 3].map(() => press(card, as("U0BOB"))))
  expect(outcomes.filter(({ kind }) => kind === "approved")).toHaveLength(1)
  const late = outcomes.filter(({ kind }) => kind === "refuse")
  for (const each of [...late, await press(card, as("U0BOB"))])
    expect(each).toMatchObject({ refusal: { reason: "already_yours", since: { state: "approved" } } })
  expect(refusalOf(await press(card, as("U0CAROL")))).toBe("already_decided")
})

describe("bypass: two approvals", () => {
  it.each<[string, Actor]>([
    ["again", as("U0BOB")],
    ["as another team", as("U0BOB", "T0ELSEWHERE")],
  ])("one person who presses %s is one person", async (_how, actor) => {
    const card = await town.card({ with: ["data"] })
    expect(await press(card, as("U0BOB"))).toMatchObject({ kind: "counted", have: 1, needed: 2 })
    expect(refusalOf(await press(card, actor))).toBe("already_yours")
    expect(await stateOf(card.id)).toBe("awaiting_approval")
    expect(await town.version()).toBe("2")
  })

  it("twenty clicks of one person at once are one approval", async () => {
    const card = await town.card({ with: ["data"] })
    await Promise.all(Array.from({ length: 20 }, () => press(card, as("U0BOB"))))
    expect(await approvalsOf(card)).toEqual(["U0BOB"])
    expect(await stateOf(card.id)).toBe("awaiting_approval")
  })

  it("the first one does not count when its giver has left before the second", async () => {
    const card = await town.card({ with: ["data"] })
    await press(card, as("U0BOB"))
    town.workspace.groups.set("S0ONCALL", ["U0CAROL"])
    expect(await press(card, as("U0CAROL"))).toMatchObject({ kind: "counted", have: 1 })
    expect(await stateOf(card.id)).toBe("awaiting_approval")
  })

  it("who came back may approve again, and is not told that it counts already", async () => {
    const card = await town.card({ with: ["data"] })
    await press(card, as("U0BOB"))
    town.workspace.groups.set("S0ONCALL", ["U0CAROL"])
    await press(card, as("U0CAROL"))
    town.workspace.groups.set("S0ONCALL", ["U0BOB", "U0CAROL"])
    expect(await press(card, as("U0BOB"))).toMatchObject({ kind: "approved" })
    expect(new Set(await approvalsOf(card))).toEqual(new Set(["U0BOB", "U0CAROL"]))
  })

  it("while Slack is silent about the first giver, the second is refused and nothing is taken back", async () => {
    const card = await town.card({ with: ["data"] })
    await press(card, as("U0BOB"))
    town.workspace.known.set("U0BOB", "silent")
    expect(refusalOf(await press(card, as("U0CAROL")))).toBe("could_not_check_person")
    expect(await approvalsOf(card)).toEqual(["U0BOB"])
  })

  it("a guest's click takes nobody's approval back", async () => {
    const card = await town.card({ with: ["data"] })
    await press(card, as("U0BOB"))
    town.workspace.groups.set("S0ONCALL", ["U0CAROL"])
    expect(refusalOf(await press(card, as("U0GUEST")))).toBe("guest")
    expect(await approvalsOf(card)).toEqual(["U0BOB"])
  })
})

describe("bypass: races", () => {
  it.each<[string, (card: StoredRollback) => Promise<unknown>, string]>([
    ["a denial", (card) => deny({ token: card.token ?? "", actor: as("U0CAROL"), reason: "no" }, town.deps), "denied"],
    ["a cancellation", (card) => cancel(card, as("U0ALICE"), town.deps), "cancelled"],
    ["its expiry", () => town.store.waiting.expire(), "expired"],
  ])("an approval beside %s is one decision, not two", async (what, rival, end) => {
    const card = await town.card()
    if (what === "its expiry")
      await town.state.query("update stepback.rollbacks set expires_at = clock_timestamp() where id = $1", [card.id])
    await Promise.all([press(card, as("U0BOB")), rival(card)])
    // The sweep leaves a row that a click has locked for its next turn.
    await town.store.waiting.expire()
    const state = await stateOf(card.id)
    expect([end, "approved"]).toContain(state)
    expect(await approvalsOf(card)).toHaveLength(state === "approved" ? 1 : 0)
  })

  it("a hundred people at once are one decision and one run", async () => {
    const card = await town.card()
    const crowd = Array.from({ length: 100 }, (_, index) => `U0MEMBER${index}`)
    for (const id of crowd) town.workspace.known.set(id, town.workspace.person(id))
    const outcomes = await Promise.all(crowd.map((id) => press(card, as(id))))
    expect(outcomes.filter(({ kind }) => kind === "approved")).toHaveLength(1)
    await Promise.all([town.work(card.id), town.work(card.id)])
    expect(await stateOf(card.id)).toBe("succeeded")
  })
})

describe("bypass: a plan that moved after the card", () => {
  it("is asked anew once: a press that was slow does not take back what was said to the new card", async () => {
    const card = await town.card({ with: ["data"] })
    const { people } = town.deps
    const [asked, said] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const homeTeams = async () => {
      asked.resolve()
      await said.promise
      return people.homeTeams()
    }
    town.written.source = plan.replace("Prices back to 1", "Prices back to one")
    const click = { token: card.token ?? "", actor: as("U0BOB") }
    const slow = approve(click, { ...town.deps, people: { ...people, homeTeams } })
    await asked.promise
    expect(refusalOf(await press(card, as("U0CAROL")))).toBe("changed")
    await town.work(card.id)
    const anew = await town.get(card)
    expect(await press(anew, as("U0CAROL"))).toMatchObject({ kind: "counted", have: 1 })
    said.resolve()
    expect(refusalOf(await slow)).toBe("changed")
    expect(await stateOf(card.id)).toBe("awaiting_approval")
    expect(await approvalsOf(anew)).toEqual(["U0CAROL"])
  })

  it.each<[string, (source: string) => string, string]>([
    ["a statement", (source) => source.replace("where key = 'version'", "where key <> ''"), "step set: sql"],
    [
      "a parameter",
      (source) => source.replace('good: { type: string, default: "1" }', 'good: { type: string, default: "0" }'),
      "parameter good: 1 → 0",
    ],
    ["the target", (source) => source.replace("${SHOP_DATABASE_URL}", "${SHOP_OTHER_URL}"), "the target"],
    [
      "a looser policy",
      (source) => source.replace("low: { count: 1, from: anyone }", "low: { count: 1, from: [U0DAVE] }"),
      "who approves",
    ],
    [
      "a new step",
      (source) => source.replace("  data:", "      - { id: look, check: select 1 as one }\n  data:"),
      "step look is new",
    ],
  ])("%s: the click approves nothing and says what moved", async (_what, edit, moved) => {
    const card = await town.card()
    town.written.source = edit(plan)
    expect(await press(card, as("U0BOB"))).toMatchObject({
      refusal: { reason: "changed", moved: expect.arrayContaining([moved]) as string[] },
    })
    expect(await stateOf(card.id)).toBe("preparing")
    expect(await approvalsOf(card)).toEqual([])
  })

  it("a broken or vanished plan file approves nothing", async () => {
    const card = await town.card()
    town.written.source = "environment: ["
    expect(refusalOf(await press(card, as("U0BOB")))).toBe("changed")
    await town.work(card.id)
    expect(await town.store.rollbacks.get(card.id)).toMatchObject({
      state: "cancelled",
      end_reason: expect.stringContaining("the plan is invalid") as string,
    })
  })
})

describe("bypass: everything but Approve", () => {
  it.each<[string, (card: StoredRollback) => Promise<{ kind: string }>, string]>([
    [
      "deny, by the requester",
      (card) => deny({ token: card.token ?? "", actor: as("U0ALICE"), reason: "" }, town.deps),
      "requester_cannot_approve",
    ],
    [
      "deny, by a guest with the form",
      (card) => deny({ token: card.token ?? "", actor: as("U0GUEST"), reason: "" }, town.deps),
      "guest",
    ],
    ["cancel, by somebody who may not approve", (card) => cancel(card, as("U0DAVE"), town.deps), "not_in_audience"],
    ["cancel, by a stranger", (card) => cancel(card, as("U0STRANGER"), town.deps), "stranger"],
    ["stop, before anything runs", (card) => stop(card, as("U0BOB"), town.deps), "not_in_state"],
    ["a note, by a guest", (card) => note(card, "hello", as("U0GUEST"), town.deps), "guest"],
    ["a note, of nothing but NUL", (card) => note(card, "\u0000 \u0000", as("U0BOB"), town.deps), "missing_text"],
    [
      "the analysis, by a guest",
      (card) =>
        fillAnalysis(
          card.id,
          { rootCause: "x", prevention: "y", followUps: [], revision: 0 },
          as("U0GUEST"),
          town.deps,
        ),
      "guest",
    ],
    ["I'm on it, for an escalation that is none", (card) => acknowledge(card.id, as("U0BOB"), town.deps), "old_card"],
  ])("%s is refused", async (_what, act, reason) => {
    const card = await town.card({ with: ["data"] })
    expect(refusalOf(await act(card))).toBe(reason)
    expect(await stateOf(card.id)).toBe("awaiting_approval")
  })

  it("I'm on it by a guest does not quiet an escalation", async () => {
    const card = await town.card()
    const id = randomUUID()
    await town.store.records.raise(card.id, `${card.id}/test`, id, {
      trigger: "step_failed",
      stepId: null,
      headline: "x",
      evidence: [],
      byHand: null,
      mention: [],
      channelId: null,
      acknowledgeWithinMs: 60_000,
      hook: null,
    })
    expect(refusalOf(await acknowledge(id, as("U0GUEST"), town.deps))).toBe("guest")
    expect((await town.store.records.findEscalation(id))?.acknowledgedAt).toBeNull()
  })

  it("Stop by a guest or by somebody who may not approve does not stop a run", async () => {
    const card = await town.card({ with: ["data"] })
    await Promise.all([press(card, as("U0BOB")), press(card, as("U0CAROL"))])
    const approved = await town.store.rollbacks.get(card.id)
    expect(approved.state).toBe("approved")
    expect(refusalOf(await stop(approved, as("U0GUEST"), town.deps))).toBe("guest")
    expect(refusalOf(await stop(approved, as("U0DAVE"), town.deps))).toBe("not_in_audience")
    expect((await town.store.rollbacks.get(card.id)).stop_requested_at).toBeNull()
  })
})
