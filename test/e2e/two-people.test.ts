import pg from "pg"
import { afterAll, beforeAll, expect, test } from "vitest"
import { valueOf } from "../../playground/scenarios/play.ts"
import type { Message } from "../../playground/slack/local-slack.ts"
import { startStage, type Stage } from "../../playground/stage.ts"

let stage: Stage
let state: pg.Pool
let card: Message
/** What its buttons carry, kept from before they go. */
let token: string

beforeAll(async () => {
  stage = await startStage({ mode: "http", queue: "redis" })
  stage.slack.addUser({ id: "U0OTHER", name: "other", team_id: "T0OTHER" })
  stage.slack.addUser({ id: "U0SINGLE", name: "single", is_ultra_restricted: true })
  state = new pg.Pool({ connectionString: stage.environment["DATABASE_URL"], max: 2 })
  await stage.start()
  await stage.slack.command({ user: "alice", channel: "staging", text: "staging --only db-config who may" })
  card = await stage.slack.waitFor(
    () => stage.slack.messages("staging").find((message) => message.text.includes("Needs 1 approval")),
    { what: "the card" },
  )
  token = valueOf(card, "approve")
})
afterAll(async () => {
  await state.end()
  await stage.stop()
})

async function count(table: string): Promise<number> {
  const { rows } = await state.query<{ n: number }>(`select count(*)::int as n from stepback.${table}`)
  return rows[0]?.n ?? -1
}

const refused = [
  ["the requester", "alice", "another person has to approve it"],
  ["a guest of several channels", "guest", "you are a guest here"],
  ["a guest of one channel", "single", "you are a guest here"],
  ["a bot", "robot", "this account is a bot"],
  ["a deactivated account", "gone", "deactivated"],
  ["somebody of another company", "stranger", "you belong to another one"],
  ["a member of another team", "other", "you belong to another one"],
] as const

test.each(refused)("bypass: %s cannot approve, is told why, alone, and nothing is recorded", async (_, user, why) => {
  const entries = await count("audit")
  const said = stage.slack.messages("staging").length
  const outcome = await press(user)
  expect(outcome.ok).toBe(true)
  const seen = await stage.slack.waitFor(() => stage.slack.ephemerals(user).find((one) => one.text.includes(why)), {
    what: `the refusal of ${user}`,
  })
  expect(seen.channel).toBe("C0STAGING")
  expect([await count("approvals"), await count("step_runs"), await count("audit")]).toEqual([0, 0, entries])
  expect(stage.slack.messages("staging")).toHaveLength(said)
})

test.each([
  ["an unknown person", { id: "U0NOBODY" }],
  ["nobody at all", { id: "" }],
])("bypass: %s cannot approve", async (_, user) => {
  const payload = {
    type: "block_actions",
    user: { ...user, team_id: "T0LOCAL" },
    team: { id: "T0LOCAL" },
    channel: { id: "C0STAGING" },
    container: { type: "message", message_ts: card.ts, channel_id: "C0STAGING" },
    trigger_id: `1.2.${user.id || "none"}`,
    actions: [{ type: "button", action_id: "approve", block_id: "b", value: token, action_ts: "1.1" }],
  }
  const asked = stage.slack.calls.length
  await stage.slack.sendRaw({ body: new URLSearchParams({ payload: JSON.stringify(payload) }).toString() })
  await stage.slack.waitFor(() => stage.slack.calls.slice(asked).some((call) => call.method === "chat.postEphemeral"), {
    what: "the answer to somebody unknown",
  })
  expect(await count("approvals")).toBe(0)
})

test.each(refused.slice(1))("bypass: %s cannot deny either", async (_, user, why) => {
  const before = stage.slack.ephemerals(user).length
  await press(user, "deny")
  const seen = await stage.slack.waitFor(() => stage.slack.ephemerals(user)[before], { what: `an answer to ${user}` })
  expect(seen.text).toContain(why)
  expect(stage.slack.openViews(user)).toEqual([])
})

test("bypass: while Slack does not say who somebody is, nothing is approved, and trying again works", async () => {
  stage.slack.faults.set({ methods: ["users.info"], kind: "hang" })
  await stage.slack.click({ user: "bob", channel: "staging", ts: card.ts, action: "approve" })
  await stage.slack.waitFor(
    () => stage.slack.ephemerals("bob").find((one) => one.text.includes("could not check who")),
    {
      what: "that bob could not be checked",
    },
  )
  expect(await count("approvals")).toBe(0)
  stage.slack.faults.clear()
  await stage.slack.click({ user: "bob", channel: "staging", ts: card.ts, action: "approve" })
  await stage.slack.waitFor(() => stage.slack.messages("staging").find((one) => one.text.startsWith("Post-rollback")), {
    timeoutMs: 30_000,
    what: "the analysis",
  })
  const { rows } = await state.query("select user_id, requester_id from stepback.approvals")
  expect(rows).toEqual([{ user_id: "U0BOB", requester_id: "U0ALICE" }])
})

test("bypass: a click on the card of before, after the end, changes nothing and says so", async () => {
  await press("carol")
  const seen = await stage.slack.waitFor(() => stage.slack.ephemerals("carol").at(-1), { what: "an answer to carol" })
  expect(seen.text).toMatch(/Too late: R-1 is done/)
  expect(await count("approvals")).toBe(1)
})

test("who approved it, and whose press comes a second time, is not told that it was too late", async () => {
  await press("bob")
  const told = () => stage.slack.ephemerals("bob").find((one) => one.text.includes("has counted"))
  const seen = await stage.slack.waitFor(told, { what: "an answer to bob" })
  expect(seen.text).toBe("Your approval has counted: R-1 is done. This press changed nothing.")
  expect(await count("approvals")).toBe(1)
})

test("bypass: the same requests delivered again change nothing", async () => {
  const before = [await count("rollbacks"), await count("approvals"), await count("step_runs")]
  await stage.slack.redeliver(40)
  await stage.slack.command({ user: "carol", channel: "staging", text: "status staging" })
  await stage.slack.waitFor(() => stage.slack.ephemerals("carol").find((one) => one.text.includes("R-1")), {
    what: "the status",
  })
  expect([await count("rollbacks"), await count("approvals"), await count("step_runs")]).toEqual(before)
})

/** As from a client that has not heard of anything since: the button's value is all that it has. */
function press(user: string, action = "approve") {
  const forge = { action_id: action, value: token }
  return stage.slack.click({ user, channel: "staging", ts: card.ts, action, forge })
}
