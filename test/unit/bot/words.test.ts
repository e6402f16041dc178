import { describe, expect, it } from "vitest"

import { clean, cut, cutStatements, safe } from "../../../src/bot/blocks/escape.ts"
import { clock, duration, number, plural, shortDigest } from "../../../src/bot/blocks/format.ts"
import { planText } from "../../../src/bot/blocks/plan-text.ts"
import { helpText, historyText, refusalWords, statusText } from "../../../src/bot/blocks/words.ts"
import { loadPlans } from "../../../src/plans/load.ts"
import type { LoadedPlan } from "../../../src/plans/plan.ts"
import { planViews } from "../../../src/plans/step-view.ts"
import { refuse, type Refusal } from "../../../src/rollback/refusals.ts"
import { failed, running, succeeded, waiting } from "./views.ts"

const known = { given: "stagin", nearest: "staging", known: ["staging", "checkout"] }
const bad = "<!channel> <@UEVIL>"

/** Every reason, with what its words must name. */
const refusals: [refusal: Refusal, ...named: RegExp[]][] = [
  [{ reason: "requester_cannot_approve" }, /another person/],
  [{ reason: "bot" }, /bot/],
  [{ reason: "guest" }, /guest/],
  [{ reason: "deactivated" }, /deactivated/],
  [{ reason: "stranger" }, /another one/],
  [{ reason: "other_team" }, /another one/],
  [{ reason: "unknown_person" }, /does not know/],
  [{ reason: "could_not_check_person" }, /could not check who you are/, /try again/, /stepback doctor/],
  [{ reason: "not_in_audience", audience: ["S0ONCALL", "ULEAD"] }, /<!subteam\^S0ONCALL>, <@ULEAD>/, /approve/],
  [{ reason: "could_not_check_group", group: "S0ONCALL" }, /<!subteam\^S0ONCALL>/, /try again/, /stepback doctor/],
  [{ reason: "already_yours", since: null }, /another person/],
  [{ reason: "already_yours", since: { state: "running", number: 17 } }, /has counted: R-17 is running/],
  [
    { reason: "already_decided", state: "denied", by: "UBOB", at: "2025-11-22T14:20:00Z", number: 17 },
    /R-17 is denied, by <@UBOB> at 14:20:00 UTC/,
  ],
  [{ reason: "not_ready" }, /looked at/],
  [{ reason: "old_card", number: 17 }, /newest card of R-17/],
  [{ reason: "old_card", number: null }, /do not know .*Nothing was changed/],
  [{ reason: "changed", moved: ["profiles: 37 → 41 rows"] }, /It has changed/, /37 → 41 rows/],
  [{ reason: "unknown_environment", ...known }, /"stagin"/, /Did you mean "staging"\?/, /checkout/],
  [
    { reason: "plan_invalid", environment: "staging", problems: ["plans/staging.yaml:34:7: expected a number"] },
    /staging\.yaml:34:7/,
  ],
  [{ reason: "unknown_component", ...known }, /no component "stagin"/, /Did you mean/],
  [{ reason: "component_needs", component: "b", needs: "a" }, /"b" needs "a"/],
  [{ reason: "nothing_selected" }, /--only/],
  [{ reason: "unknown_parameter", ...known }, /no parameter/],
  [{ reason: "bad_parameter", name: "since", given: "soon", expected: "a timestamp" }, /"since"/, /a timestamp/],
  [
    { reason: "bad_parameter", name: "ticket", given: null, expected: "a uuid" },
    /no default for the parameter "ticket": write `ticket=…` into the request, expected is a uuid/,
  ],
  [
    { reason: "bad_option", given: "--onyl", nearest: "--only", usage: "/rollback staging --only a" },
    /--onyl/,
    /\/rollback staging --only a/,
  ],
  [{ reason: "wrong_channel", channel: "C0DEPLOY" }, /<#C0DEPLOY>/],
  [{ reason: "bot_not_in_channel" }, /\/invite/],
  [{ reason: "not_a_channel" }, /others must see the card/],
  [{ reason: "shared_channel" }, /another company/],
  [{ reason: "could_not_check_channel" }, /try again/],
  [
    {
      reason: "environment_busy",
      environment: "staging",
      asked: null,
      number: 17,
      state: "awaiting_approval",
      permalink: "https://team.slack.com/p1",
    },
    /<https:\/\/team\.slack\.com\/p1\|R-17>/,
    /[Aa]pprove it, deny it/,
  ],
  [{ reason: "unknown_rollback", given: "R-99", newest: 17 }, /R-99/, /newest is R-17/],
  [{ reason: "not_in_state", number: 17, state: "running", can: "stop" }, /R-17 is running/, /`\/rollback stop R-17`/],
  [{ reason: "nothing_to_undo", number: 17 }, /R-17 changed nothing/, /history/],
  [{ reason: "done_by_hand", number: 17, environment: "staging" }, /by hand/, /`\/rollback staging`/],
  [{ reason: "no_failed_step", number: 17 }, /no failed step/, /Retry/],
  [{ reason: "other_failure", number: 17, wrote: "it is *mine*" }, /R-17 was gone on with/, /Skip/, /> it is/],
  [{ reason: "tried_since", number: 17 }, /R-17 was tried again/, /did not end well/, /press Retry there/],
  [{ reason: "missing_reason" }, /why/],
  [{ reason: "overtaken", number: 17, environment: "staging", by: 18 }, /R-18 has been/, /`\/rollback staging`/],
  [{ reason: "not_in_audience", audience: [] }, /Only who asked/],
  [{ reason: "not_in_audience", audience: ["ULEAD"], components: ["data"] }, /Only <@ULEAD> may .*: data is theirs/],
  [
    { reason: "environment_busy", environment: "prod", asked: "staging", number: 3, state: "running", permalink: null },
    /"staging" has the same database as "prod"/,
    /R-3 is running/,
  ],
  [{ reason: "unknown_environment", given: "prod", nearest: null, known: [] }, /"prod"/, /stepback plan check/],
  [{ reason: "unknown_command", given: "histroy", nearest: "history" }, /Did you mean "history"\?/],
  [{ reason: "missing_text", usage: "/rollback note R-7 TEXT" }, /\/rollback note R-7 TEXT/],
  [{ reason: "too_many_requests", waitSeconds: 12 }, /12 seconds/],
  [{ reason: "state_unreachable", inDoubt: false }, /Nothing was changed/, /stepback plan show/],
  [{ reason: "state_unreachable", inDoubt: true }, /cannot tell whether this counted/, /rollback status/],
]

it("what somebody wrote for an analysis that another saved meanwhile is given back to its last word", () => {
  const wrote = [`${"root ".repeat(598)}last cause`, `${"more ".repeat(598)}last way`]
  const words = refusalWords(refuse("fill", { reason: "filled_meanwhile", by: "U2BOB", number: 17, wrote }))
  expect(words).toContain("last cause")
  expect(words).toContain("last way")
})

describe("refusals", () => {
  it.each(refusals)("%o says why and what to do", (refusal, ...named) => {
    const words = refusalWords(refuse("approve", refusal))
    for (const pattern of named) expect(words).toMatch(pattern)
    expect(words).toMatch(/^[A-Z"]/)
    expect(words).not.toMatch(/undefined|null|\bNaN\b/)
  })

  it("quotes what was typed without calling anybody", () => {
    const typed: Refusal[] = [
      { reason: "unknown_environment", given: bad, nearest: bad, known: [bad] },
      { reason: "plan_invalid", environment: bad, problems: [bad] },
      { reason: "bad_option", given: bad, nearest: bad, usage: bad },
      { reason: "changed", moved: [bad] },
      { reason: "wrong_channel", channel: bad },
      { reason: "environment_busy", environment: bad, asked: bad, number: 1, state: "running", permalink: bad },
      { reason: "overtaken", environment: bad, number: 1, by: null },
      { reason: "not_in_audience", audience: [bad] },
    ]
    for (const refusal of typed) expect(refusalWords(refuse(null, refusal))).not.toContain("<")
  })
})

describe("answers to commands", () => {
  it("help names every command and the environments", () => {
    for (const word of [
      "--only",
      "--with",
      "name=value",
      "status",
      "history",
      "plan",
      "rehearse",
      "cancel",
      "stop",
      "note",
      "analysis",
      "staging",
    ]) {
      expect(helpText(["staging"])).toContain(word)
    }
    expect(helpText([])).toContain("stepback plan check")
    expect(helpText([])).toContain("[capture|diff] [--as NAME]")
  })

  it("a plan in short says its parameters, their defaults and what they are for, and how components are named", async () => {
    const { plan } = await loadPlans("plans").then(({ plans }) => plans.get("staging") as LoadedPlan)
    const text = planText(plan, planViews(plan, {}))
    expect(text).toContain("good (string) = v1.2.0 · The version to go back to")
    expect(text).toContain("*Edge functions* · low risk · RTO 5:00 · `--only edge-functions`")
    expect(text).toContain("*Data cleanup* · medium risk · RTO 10:00 · only with `--with data-cleanup`")
    const bare = { ...plan, params: { day: { type: "timestamp", default: null, description: null } } } as const
    expect(planText(bare, [])).toContain("day (timestamp), must be given")
  })

  it("a plan in short says how many approve and who", async () => {
    const { plan } = await loadPlans("plans").then(({ plans }) => plans.get("staging") as LoadedPlan)
    const { low, expiresMs } = plan.approve
    const approve = {
      expiresMs,
      low: { ...low, from: "anyone" as const },
      medium: { ...low, from: ["S0ONCALL"] },
      high: low,
    }
    expect(planText({ ...plan, approve: { expiresMs, low, medium: low, high: low } }, [])).toMatch(
      /Approvals: 1 at low risk, 1 at medium, 1 at high, by (any full member|<!subteam\S+>.*); never the requester/,
    )
    expect(planText({ ...plan, approve }, [])).toMatch(
      /At low risk by any full member, at medium by <!subteam\^S0ONCALL>/,
    )
  })

  it("who comes too late to end a rollback hears what still ends it, or takes it back", () => {
    const late = (state: "running" | "succeeded" | "failed" | "stopped" | "denied", verb: "cancel" | "approve") =>
      refusalWords(refuse(verb, { reason: "already_decided", state, by: null, at: null, number: 17 }))
    expect(late("running", "cancel")).toContain("`/rollback stop R-17`")
    for (const state of ["succeeded", "failed", "stopped"] as const)
      expect(late(state, "cancel")).toContain("`/rollback undo R-17`")
    for (const words of [late("denied", "cancel"), late("succeeded", "approve")]) expect(words).not.toContain("`")
  })

  it("status says what is going on, or that nothing is", () => {
    expect(statusText([], "staging")).toBe("staging: no rollback going on.")
    const other = { ...running, number: 16, environment: "prod" }
    expect(statusText([running, other], null)).toMatch(/^R-17 · staging · running[\s\S]*\nR-16 · prod · running/)
    expect(statusText([running], "staging")).toMatch(/^R-17 · staging · running/)
    expect(statusText([running], "staging")).toContain("2 of 4 steps done · now: finalizeAssessment answers")
    expect(statusText([waiting], "staging")).toContain("0 of 1 approvals, expires 15:16 UTC")
  })

  it("history has a line for each", () => {
    const lines = historyText([succeeded, failed]).split("\n")
    expect(lines[0]).toContain("R-17 · staging · done after 1 min 09 s")
    expect(lines[1]).toContain('failed at "finalizeAssessment answers"')
    expect(historyText([])).toBe("There was no rollback yet.")
  })
})

describe("escaping and cutting", () => {
  it("shows what cannot be seen, and disarms what calls people", () => {
    expect(clean("a\u0000b\u202ec\u200bd\r\ne")).toBe("a·b·c·d\ne")
    expect(safe("<!channel> & <@U1>\nnext")).toBe("&lt;·!channel&gt; &amp; &lt;·@U1&gt; next")
    expect(clean("where tags <@ array['a'] and a < b")).toBe("where tags <@ array['a'] and a < b")
  })

  it("says how much was cut, and never cuts a character in two", () => {
    expect(cut("x".repeat(5000), 3000)).toMatch(/^x+… \[2,\d+ characters cut\]$/)
    expect(cut("x".repeat(5000), 3000).length).toBeLessThanOrEqual(3000)
    for (let limit = 40; limit < 60; limit++)
      expect(cut("😀".repeat(100), limit)).toBe(cut("😀".repeat(100), limit).toWellFormed())
  })

  it("keeps whole statements only", () => {
    expect(cutStatements("delete from a\nwhere b;\ndelete from c\nwhere d;\n", 40)).toEqual({
      kept: "delete from a\nwhere b;\n",
      cut: 23,
    })
    expect(cutStatements(`delete from a\nwhere b = ${"x".repeat(50)};`, 20).kept).toBe("")
  })
})

describe("numbers", () => {
  it("reads as people say it", () => {
    expect([12, 3200, 41_000, 69_000, 125_000, 900_000, 3_900_000].map(duration)).toEqual([
      "12 ms",
      "3.2 s",
      "41 s",
      "1 min 09 s",
      "2 min 05 s",
      "15 min",
      "1 h 05 min",
    ])
    expect([41_000, 900_000, 3_900_000].map(clock)).toEqual(["0:41", "15:00", "1:05:00"])
    expect([number(12_480), plural(1, "row"), plural(37, "row"), shortDigest("4f3a91cc77e0")]).toEqual([
      "12,480",
      "1 row",
      "37 rows",
      "4f3a-91cc",
    ])
  })
})
