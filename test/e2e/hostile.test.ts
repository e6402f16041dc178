import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"

import { nameOf } from "../../playground/scenarios/play.ts"
import type { Message } from "../../playground/slack/local-slack.ts"
import {
  analysisOf,
  ask,
  cancelAll,
  cards,
  click,
  close,
  evil,
  hasApprove,
  monitored,
  open,
  planted,
  pressed,
  query,
  redisCommands,
  says,
  stage,
  stepback,
  told,
  type,
} from "./hostile-stage.ts"

beforeAll(open)
afterEach(cancelAll)
afterAll(close)

describe("what is typed", () => {
  let turn = 0
  it.each([
    "__proto__",
    "constructor",
    "toString",
    "../x",
    "/etc/passwd",
    "🔥🔥🔥",
    '"',
    "'; drop table x; --",
    "<!channel>",
    "<@U0CAROL> <!subteam^S0ONCALL>",
    "frobnicate now",
    "status __proto__",
    "history <!channel>",
    "plan ../x",
    "cancel R-0",
    "cancel __proto__",
    "cancel 99999999999999999999",
    "stop <!here>",
    "note R-1",
    "note R-999 <!channel>",
    "analysis -1",
    "undo R-999",
    "rehearse",
    "rehearse nowhere",
    "baseline staging",
    "staging --force",
    "staging --only",
    "staging --only __proto__",
    "staging --with <!channel>",
    "staging __proto__=x",
    "staging constructor=x",
    "staging since=';drop",
    "staging finalize_ref=--help",
    "staging finalize_ref=$(id)",
    "staging fc_ref=a..b;c",
    `nowhere ${"word ".repeat(10_000)}`,
  ])("%j is answered, calls nobody and starts nothing", async (text) => {
    const before = (
      await query(stage.environment["DATABASE_URL"] ?? "", "select count(*)::int as n from stepback.rollbacks")
    )[0]
    // Three people take turns: one alone would be told to wait.
    const answer = await type(text, ["alice", "bob", "carol"][turn++ % 3])
    expect(answer).not.toMatch(/<!|<@U0CAROL|database does not answer|Please wait/)
    expect(answer.length).toBeLessThan(4_000)
    expect(
      (await query(stage.environment["DATABASE_URL"] ?? "", "select count(*)::int as n from stepback.rollbacks"))[0],
    ).toEqual(before)
  })

  it.each([
    ["a channel without the bot", "alice", "alone", /not in this channel/],
    ["a channel shared with another company", "alice", "shared", /shared with another company/],
    ["a guest", "guest", "staging", /guest/],
    ["a stranger", "stranger", "staging", /belong to another/],
    ["a bot", "robot", "staging", /bot/],
  ])("a request by or in %s is refused with the way out", async (_what, user, channel, words) => {
    expect(await type("staging please", user, channel)).toMatch(words)
  })
})

describe("words that want to call people", () => {
  it("in the reason, a note and a denial call nobody", async () => {
    const card = await ask(`staging ${evil} ${"y".repeat(10_000)}`)
    expect(await type(`note ${nameOf(card)} ${evil}`)).toContain("Noted")
    await click(card, "bob", "deny")
    const form = await stage.slack.waitFor(() => stage.slack.openViews("bob")[0])
    const [block] = form.blocks.filter(({ type }) => type === "input")
    await stage.slack.submit({ user: "bob", viewId: form.id, values: { [String(block?.block_id)]: evil } })
    await stage.slack.waitFor(() =>
      cards(nameOf(card)).some((message) => message.ts === card.ts && !hasApprove(message)),
    )
    const everything = stage.slack.messages("C0STAGING").concat(stage.slack.replies("C0STAGING", card.ts))
    for (const name of ["channel", "here", "everyone", "U0CAROL", "S0ONCALL"])
      expect(everything.flatMap(({ mentions }) => mentions)).not.toContain(name)
    expect(everything.map(says).join("")).not.toMatch(/[\u202e\u200b\u0007]/u)
  })
})

describe("bypass: presses", () => {
  const pressers = Array.from({ length: 14 }, (_, index) => `presser${index}`)
  beforeAll(() => {
    for (const name of pressers) stage.slack.addUser({ id: `U0${name.toUpperCase()}`, name })
  })

  it.each([
    "constructor",
    "__proto__",
    "toString",
    "approve",
    "deny",
    "details",
    "cancel",
    "stop",
    "ask_again",
    "acknowledge",
    "analysis",
    "fill_analysis",
    "undo",
    "x".repeat(200),
  ])("a forged %s with a forged value is answered and does nothing", async (action_id) => {
    const user = pressers.pop() ?? "bob"
    for (const value of ["", "------------------------------------", "'; --"]) {
      const before = stage.slack.ephemerals(user).length
      await stage.slack.click({ user, channel: "C0STAGING", ts: "1.1", action: action_id, forge: { action_id, value } })
      expect(await told(user, before)).not.toMatch(/database does not answer|Please wait/)
    }
  })

  it("the requester, a guest, a stranger and a bot approve nothing by button", async () => {
    const card = await ask("staging presses")
    for (const user of ["alice", "guest", "stranger", "robot"])
      expect(await pressed(card, user, "approve")).toMatch(/another person|guest|another one|bot/)
    expect(await pressed(card, "alice", "deny")).toContain("press Cancel")
    expect(hasApprove(cards(nameOf(card))[0] as Message)).toBe(true)
  })

  it("while users.info hangs, a denial and an approval are refused in words", async () => {
    const card = await ask("staging silence")
    stage.slack.faults.set({ methods: ["users.info"], kind: "hang" })
    expect(await pressed(card, "carol", "deny")).toContain("could not check who you are")
    expect(await pressed(card, "carol", "approve")).toContain("could not check who you are")
  })

  it("a form that comes too late to open is said", async () => {
    const card = await ask("staging slow")
    stage.slack.faults.set({ methods: ["views.open"], kind: "hang" })
    expect(await pressed(card, "carol", "deny")).toContain("Press the button again")
  })

  it("requests with a wrong secret, from the past, from the future or without a time are not heard", async () => {
    const body = new URLSearchParams({
      command: "/rollback",
      text: "staging",
      user_id: "U0ALICE",
      channel_id: "C0STAGING",
    }).toString()
    const now = Math.floor(Date.now() / 1000)
    for (const raw of [
      { secret: "wrong" },
      { timestamp: now - 600 },
      { timestamp: now + 600 },
      { timestamp: "" },
      { timestamp: "NaN" },
    ])
      expect(await stage.slack.sendRaw({ body, ...raw })).toBe(401)
  })

  it("the same signed command, sent again, is one rollback; five clicks and their replay are one run", async () => {
    const card = await ask("staging --only db-config replay")
    await stage.slack.redeliver(1)
    await Promise.all(Array.from({ length: 5 }, () => click(card, "carol", "approve")))
    await stage.slack.redeliver(5)
    await analysisOf(card)
    await stage.slack.redeliver(5)
    const state = stage.environment["DATABASE_URL"] ?? ""
    expect(await query(state, "select count(*)::int as n from stepback.rollbacks where reason = 'replay'")).toEqual([
      { n: 1 },
    ])
    const runs =
      "select step_id, attempt from stepback.step_runs s join stepback.rollbacks r on r.id = s.rollback_id where r.reason = 'replay' order by 1"
    expect(await query(state, runs)).toEqual([
      { step_id: "results-version", attempt: 1 },
      { step_id: "results-version-is-good", attempt: 1 },
    ])
  })
})

describe("a Slack that is hostile", () => {
  it("blocks that it refuses arrive as plain text", async () => {
    stage.slack.faults.set({ methods: ["chat.postMessage"], kind: "error", error: "invalid_blocks", times: 1 })
    await stage.slack.command({ user: "alice", channel: "staging", text: "staging plainly" })
    const plain = await stage.slack.waitFor(() => cards("plainly")[0])
    expect(plain.text).toContain("plainly")
    // Drawn again it has its buttons; until then it says that it lacks them.
    if (!hasApprove(plain))
      expect(plain.blocks.length > 0 || /did not take the buttons|looking|looked/i.test(plain.text)).toBe(true)
  })

  it("a token that is revoked in the middle keeps nothing from running, and the channel hears of it later", async () => {
    const card = await ask("staging --only db-config,edge-functions revoked")
    const number = Number(nameOf(card).slice(2))
    await click(card, "carol", "approve")
    await stepback.logged((line) => line["msg"] === "run taken" && line["number"] === number)
    stage.slack.faults.set({ kind: "error", error: "token_revoked" })
    await stepback.logged((line) => line["msg"] === "rollback ended" && line["number"] === number)
    stage.slack.faults.clear()
    await analysisOf(card)
  })
})

describe("planted secrets and a target that shouts", () => {
  it("stay where they belong, and the escalation finds another channel", async () => {
    const card = await ask("shop secrets")
    await click(card, "bob", "approve")
    await analysisOf(card)
    const state = stage.environment["DATABASE_URL"] ?? ""
    const tables = await query(
      state,
      "select format('%I.%I', table_schema, table_name) as name from information_schema.tables where table_schema like 'stepback%'",
    )
    const rows = await Promise.all(
      tables.map(({ name }) => query(state, `select t::text as row from ${String(name)} t`)),
    )
    const escalation = await stage.slack.waitFor(
      () => stage.slack.messages("C0STAGING").find((message) => says(message).includes('"acknowledge"')),
      { timeoutMs: 20_000, what: "the escalation" },
    )
    const seen = {
      slack: JSON.stringify(stage.slack.calls) + stage.slack.transcript(),
      log: JSON.stringify(stepback.lines),
      state: JSON.stringify(rows),
      redis: redisCommands.join("\n"),
    }
    for (const [place, text] of Object.entries(seen))
      for (const secret of [
        ...Object.values(planted),
        stage.environment["SLACK_SIGNING_SECRET"] ?? "?",
        stage.environment["SLACK_BOT_TOKEN"] ?? "?",
      ])
        expect(text.includes(secret), `${secret} in ${place}`).toBe(false)
    expect(seen.slack).toContain("you sent")
    if (monitored !== "") expect(seen.redis).toContain("rollbackId")
    expect(escalation.mentions).toEqual(["U0CAROL"])
    expect(seen.slack.length).toBeLessThan(5_000_000)
  })
})

describe("at the end", () => {
  it("a flood by one person is limited, and others are heard", async () => {
    await Promise.all(
      Array.from({ length: 150 }, () => stage.slack.command({ user: "flood", channel: "staging", text: "help" })),
    )
    await stage.slack.waitFor(() => stage.slack.ephemerals("flood").length >= 150, { timeoutMs: 40_000 })
    expect(stage.slack.ephemerals("flood").filter(({ text }) => text.includes("Please wait")).length).toBeGreaterThan(5)
    expect(await type("help", "carol")).toContain("/rollback")
  })

  it("the process lives, and no request has failed in it", () => {
    const failed = stepback.lines.filter(({ msg }) =>
      ["a request failed", "a listener failed", "rehearsal failed", "work on a rollback was interrupted"].includes(
        String(msg),
      ),
    )
    expect(failed).toEqual([])
  })
})
