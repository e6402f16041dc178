import { describe, expect, it } from "vitest"

import { drawCard } from "../../../src/bot/blocks/card.ts"
import { drawDetails } from "../../../src/bot/blocks/details.ts"
import { analysisFacts } from "../../../src/rollback/analysis.ts"
import type { RollbackView } from "../../../src/rollback/facts.ts"
import { neverLookedAt, transitions } from "../../../src/rollback/states.ts"
import { buttonsOf, readable } from "./reading.ts"
import {
  approved,
  failed,
  failedAnswer,
  now,
  result,
  running,
  stepRun,
  stopped,
  succeeded,
  versionSet,
  waiting,
} from "./views.ts"

const noDetail = { position: null, statement: null, detail: null, hint: null }
const preparing: RollbackView = { ...waiting, state: "preparing", token: null, rehearsal: null }
const denied: RollbackView = { ...waiting, state: "denied", endedBy: "UBOB", endReason: "not before the demo" }
const cancelled: RollbackView = { ...waiting, state: "cancelled", endedBy: "UALICE" }
const expired: RollbackView = { ...waiting, state: "expired" }
const all = {
  preparing,
  awaiting_approval: waiting,
  approved,
  running,
  succeeded,
  failed,
  stopped,
  denied,
  cancelled,
  expired,
}

function read(view: RollbackView): { text: string; shown: string } {
  const { text, blocks } = drawCard(view, now)
  return { text, shown: readable(blocks) }
}

function ids(view: RollbackView): string[] {
  return buttonsOf(drawCard(view, now).blocks).map((button) => button.action_id)
}

function expectBoth(view: RollbackView, ...facts: string[]): void {
  const { text, shown } = read(view)
  for (const fact of facts) {
    expect(text).toContain(fact)
    expect(shown).toContain(fact)
  }
}

describe("every card", () => {
  it("begins with the environment and the number", () => {
    for (const view of Object.values(all))
      expect(drawCard(view, now).text).toMatch(/^[^\n]{0,40}staging[^\n]{0,20}R-17/)
    expect(Object.keys(all).toSorted()).toEqual(Object.keys(transitions).toSorted())
  })

  it("says who asks and why", () => {
    for (const view of Object.values(all)) {
      expect(drawCard(view, now).text).toContain('<@UALICE> asks: "scoring is broken since the alignment"')
      expect(read(view).shown).toContain('@UALICE asks: "scoring is broken since the alignment"')
    }
  })

  it("has exactly the buttons of its state", () => {
    const shown = Object.fromEntries(Object.entries(all).map(([state, view]) => [state, ids(view)]))
    expect(shown).toEqual({
      preparing: [],
      awaiting_approval: ["approve", "deny", "details", "cancel"],
      approved: ["stop"],
      running: ["stop"],
      succeeded: ["undo", "analysis"],
      failed: ["retry", "skip", "undo", "leave", "analysis"],
      stopped: ["retry", "undo", "leave", "analysis"],
      denied: [],
      cancelled: [],
      expired: ["ask_again"],
    })
  })
})

it("a run that broke off and was taken back offers nothing that would be refused", () => {
  const view: RollbackView = { ...failed, takenBack: { number: 18, at: "2026-11-25T15:00:00.000Z" } }
  expectBoth(view, "staging is NOT back · R-17", "taken back by R-18 at 15:00:00 UTC")
  expect(ids(view)).toEqual(["analysis"])
})

it("does not say that a run stopped at a step after which the others went on", () => {
  const components = failed.components.map((component) => ({
    ...component,
    steps: component.steps.map((step) => (step.id === "finalize-answers" ? { ...step, goesOn: true } : step)),
  }))
  const later = stepRun("remove-profiles", result({ outcome: "succeeded" }), "2025-11-22T14:18:40Z")
  const view = { ...failed, components, stepRuns: [...failed.stepRuns, later] }
  expectBoth(view, '"finalizeAssessment answers" failed')
  expect(read(view).text).not.toContain("stopped at")
})

it("names the step that Retry and Skip are about: what ended the run, or else the first that failed", () => {
  const going = (...ids: string[]) =>
    failed.components.map((component) => ({
      ...component,
      steps: component.steps.map((step) => ({ ...step, goesOn: ids.includes(step.id) })),
    }))
  const bad = result({ outcome: "failed", failure: { ...noDetail, code: "row_count", message: "0 rows matched" } })
  const first = stepRun("set-version", bad, "2025-11-22T14:18:08Z")
  const stepRuns = [first, failedAnswer]
  const both = { ...failed, stepRuns, endReason: "Set results_version" }
  const all = read({ ...both, components: going("set-version", "finalize-answers") }).text
  expect(all).toContain('"Set results_version" and 1 other step failed')
  expect(all).toContain("0 rows matched")
  expect(all.split("\n")).not.toContain("Set results_version")
  expect(read({ ...both, components: going("set-version") }).text).toContain('stopped at "finalizeAssessment answers"')
})

it("a step that Stop ended has not failed, and a criterion that rests on it was not checked", () => {
  const ended = result({
    outcome: "failed",
    failure: { ...noDetail, code: "stopped", message: "stopped while it ran" },
  })
  const view: RollbackView = { ...stopped, stepRuns: [versionSet, stepRun("finalize-answers", ended)] }
  const { text } = read(view)
  expect(text).toContain("✗ finalizeAssessment answers: stopped before its end")
  expect(text).not.toContain("failed")
  const outcomes = analysisFacts(view).criteria.map(({ outcome }) => outcome)
  expect(outcomes).not.toContain("fails")
})

it("a criterion's evidence names nobody by a bare id", () => {
  const done = result({ evidence: ["done, confirmed by UCAROL at 14:18:10 UTC"], confirmedBy: "UCAROL" })
  const [criterion] = analysisFacts({
    ...succeeded,
    criteria: [{ text: "By hand", from: ["set-version"] }],
    stepRuns: [stepRun("set-version", done)],
  }).criteria
  expect(criterion?.evidence).toMatch(/^done, confirmed by a person at 14:18:10 UTC/)
})

it("leaves what people took in the middle out of a component's time", () => {
  const asked = stepRun("deploy-finalize", result({ outcome: "succeeded" }), "2025-11-22T14:18:01Z")
  const later = { ...failedAnswer, generation: asked.generation + 1, startedAt: "2025-11-22T14:58:30Z" }
  const view = { ...failed, stepRuns: [asked, { ...later, endedAt: "2025-11-22T14:58:31Z" }] }
  const all = analysisFacts(view).components.map(({ ranMs }) => ranMs)
  expect(Math.max(...all.map((ms) => ms ?? 0))).toBeLessThan(60_000)
})

it("a card that asks again in the middle of a run does not show as to come what is done", () => {
  const again: RollbackView = { ...waiting, moved: ['step "x" will be skipped'], stepRuns: [versionSet] }
  expectBoth(waiting, '"v1.2.1" → "v1.2.0"')
  expectBoth(again, "Done already, before it asked again", "a1b2c3d → 9f8e7d6")
  expect(read(again).text).not.toContain('"v1.2.1" → "v1.2.0"')
  expect(read({ ...again, leftOut: ["deploy-finalize"] }).text).not.toContain("a1b2c3d → 9f8e7d6")
  const allDone = waiting.components.flatMap(({ steps }) => steps.map(({ id }) => stepRun(id, result())))
  expectBoth({ ...again, stepRuns: allDone }, "Nothing more: what has an effect is done.")
})

it("a card of a run that is back names the steps that were left out", () => {
  const skip = { result: null, skippedBy: "UBOB", skipReason: "it is gone" }
  const stepRuns = succeeded.stepRuns.map((run) => (run.stepId === "deploy-finalize" ? { ...run, ...skip } : run))
  expectBoth({ ...succeeded, stepRuns }, "Left out", "– Redeploy finalizeAssessment")
  expect(read(succeeded).text).not.toContain("Left out")
})

it("counts a run that asked again in its middle from its first step, not from its last approval", () => {
  const view: RollbackView = { ...succeeded, approvedAt: "2025-11-22T14:19:15Z" }
  expect(versionSet.startedAt).toBe("2025-11-22T14:18:08Z")
  expect(analysisFacts(view)).toMatchObject({ waitedMs: 126_000, ranMs: 68_000 })
  expectBoth(view, "1 min 08 s of 15 min")
})

it("names a whole that took longer than its RTO among the issues, as it does its parts", () => {
  expect(analysisFacts(succeeded).issues).toEqual([])
  expect(analysisFacts({ ...succeeded, rtoMs: 60_000 }).issues).toEqual(["the whole took longer than its RTO"])
})

it("counts rows that came and rows that went, though they are as many", () => {
  const affected = (did: "inserted" | "removed") => [{ table: "keys", did, rows: 1 }]
  const made = stepRun("a", result({ outcome: "succeeded", affected: affected("inserted") }), "2025-11-22T14:18:40Z")
  const gone = stepRun("b", result({ outcome: "succeeded", affected: affected("removed") }), "2025-11-22T14:18:41Z")
  expectBoth({ ...succeeded, stepRuns: [made, gone] }, "keys 1 inserted · keys 1 removed")
})

describe("the waiting card", () => {
  it("shows values before and after, rows, and the rows that go along", () => {
    expectBoth(
      waiting,
      '"v1.2.1" → "v1.2.0"',
      "a1b2c3d → 9f8e7d6",
      "37 of 12,480 rows archived and removed",
      "+ 74 in answers, by cascade",
    )
  })

  it("lists each of the rows that a two-way restore may put back, at its longest", () => {
    const long = "x".repeat(48)
    const changes = Array.from({ length: 50 }, (_, index) => ({
      row: `config.key-${index + 10}`,
      column: "",
      before: `"${long}"`,
      after: `"${long}y"`,
      afterKnown: true,
    }))
    const [first, ...rest] = waiting.rehearsal?.steps ?? []
    const rehearsal = { ...waiting.rehearsal, steps: [{ ...first, rows: 50, changed: 50, changes }, ...rest] }
    const { shown } = read({ ...waiting, rehearsal } as RollbackView)
    expect(changes.filter(({ row }) => !shown.includes(`${row} `))).toEqual([])
    expect(readable(drawDetails({ ...waiting, rehearsal } as RollbackView).blocks)).toContain("config.key-59 ")
  })

  it("shows risk, time, what is broken, warnings, notes, the digest and when it expires", () => {
    expectBoth(
      waiting,
      "risk: medium",
      "RTO 15 min",
      "Takes about 1 min 10 s, 9 of 10 within 1 min 35 s (last 6 runs: 50 s to 1 min 40 s)",
      "everything can be undone",
    )
    expectBoth(
      waiting,
      "✗ finalizeAssessment answers",
      "trigger touch_profile on profiles fires",
      "going back may not mend",
      "plan 4f3a-91cc",
      "expires 15:16 UTC",
    )
  })

  it("says who may approve, and that the requester may not", () => {
    expectBoth(waiting, "Needs 1 approval from <!subteam^S0ONCALL>, not <@UALICE>")
    expectBoth(
      { ...waiting, approveFrom: "anyone", approvalsNeeded: 2 },
      "Needs 2 approvals from any full member, not <@UALICE>",
    )
    expectBoth(
      { ...waiting, approvalsNeeded: 2, approvals: [{ userId: "UBOB", decidedAt: waiting.createdAt }] },
      "1 of 2 given: <@UBOB>",
    )
  })

  it("gives every button the token, and a colour to two of them", () => {
    const found = buttonsOf(drawCard(waiting, now).blocks)
    expect(found.map(({ value, style }) => [value, style])).toEqual([
      ["tok-17-1", "primary"],
      ["tok-17-1", "danger"],
      ["tok-17-1", undefined],
      ["tok-17-1", undefined],
    ])
  })

  it("says first what moved since an earlier card", () => {
    const { text } = read({ ...waiting, moved: ["profiles: 37 → 41 rows"] })
    expect(text.indexOf("profiles: 37 → 41 rows")).toBeGreaterThan(0)
    expect(text.indexOf("profiles: 37 → 41 rows")).toBeLessThan(text.indexOf("What changes"))
  })

  it("says since when nobody has looked at it, and how to call it off", () => {
    expectBoth(preparing, "asked for at 14:16:02 UTC", "/rollback cancel R-17 calls it off")
  })

  it("says what of the plan was asked for, and which values were set", () => {
    const selection = { only: ["db-config"], with: ["config-restore"], parameters: { good: "v1.1.9" } }
    for (const view of [preparing, waiting, running, succeeded])
      expectBoth({ ...view, selection }, "only: db-config · with: config-restore · good = v1.1.9")
    const plain = { ...waiting, selection: { only: null, with: [], parameters: {} } }
    expect(read(plain)).toEqual(read(waiting))
  })

  it("says who else cannot approve: whoever asked for a Skip", () => {
    expect(read({ ...waiting, askedToo: ["UCAROL"] }).text).toContain("not <@UALICE>, <@UCAROL>")
  })

  it("tells what would be refused from what could not be looked at", () => {
    const seen = (facts: object) => {
      const { rehearsal } = waiting
      const steps = (rehearsal?.steps ?? []).map((step) =>
        step.stepId === "remove-profiles" ? { ...step, outcome: "unknown" as const, note: "why", ...facts } : step,
      )
      return read({ ...waiting, rehearsal: { lookedAt: "", problems: [], warnings: [], ...rehearsal, steps } }).text
    }
    expect(seen({ refused: true })).toContain("would be refused as things stand: why")
    expect(seen({})).toContain("unknown, it could not be looked at: why")
  })

  it("says which step waits for a person while it runs", () => {
    const byHand = (view: RollbackView): RollbackView => ({
      ...view,
      components: view.components.map((component) => ({
        ...component,
        steps: component.steps.map((step) => ({ ...step, kind: "manual" as const })),
      })),
    })
    const asked = { ...running, stepRuns: [stepRun("set-version", null)] }
    expectBoth(byHand(asked), "Set results_version waits for a person")
    expect(read(asked).text).not.toContain("waits for a person")
  })

  it("says what could not be looked at, and that the risk was raised for it", () => {
    const blind = {
      lookedAt: now.toISOString(),
      steps: [],
      problems: ["the target database is not reachable"],
      warnings: [],
    }
    expectBoth(
      { ...waiting, risk: "high", riskReasons: ["counts are unknown"], rehearsal: blind },
      "Could not be looked at",
      "the target database is not reachable",
      "risk: high",
      "Risk raised because: counts are unknown",
      "not looked at",
    )
  })

  it("says what cannot be undone, and then not that everything can", () => {
    const [first] = waiting.components
    const steps = (first?.steps ?? []).map((step) => ({ ...step, irreversible: "sends an e-mail" }))
    const view = { ...waiting, components: first === undefined ? [] : [{ ...first, steps }] }
    expectBoth(view, "Cannot be undone", "sends an e-mail")
    expect(read(view).text).not.toContain("everything can be undone")
  })

  it("says that nothing changes where it is so already", () => {
    const steps = (waiting.rehearsal?.steps ?? []).map((step) =>
      step.stepId === "set-version" ? { ...step, changed: 0, changes: [] } : step,
    )
    const view = { ...waiting, rehearsal: waiting.rehearsal === null ? null : { ...waiting.rehearsal, steps } }
    expectBoth(view, "1 row, so already: nothing to change")
  })

  it("shows long values where they differ", () => {
    const change = {
      row: "r",
      column: "c",
      before: `${"a".repeat(500)}OLD`,
      after: `${"a".repeat(500)}NEW`,
      afterKnown: true,
    }
    const steps = (waiting.rehearsal?.steps ?? []).map((step) =>
      step.stepId === "set-version" ? { ...step, changes: [change] } : step,
    )
    expectBoth(
      { ...waiting, rehearsal: waiting.rehearsal === null ? null : { ...waiting.rehearsal, steps } },
      "OLD → ",
      "NEW",
    )
  })

  it("compares the forecast with the RTO", () => {
    expectBoth({ ...waiting, rtoMs: 60_000 }, "longer than the RTO of 1 min")
    expectBoth({ ...waiting, forecast: null }, "it has not run before")
    expectBoth({ ...waiting, rtoMs: 80_000 }, "at times longer than the RTO of 1 min 20 s")
  })

  it("says how long each part takes, with its RTO where that is in danger", () => {
    expectBoth(waiting, "Its parts: Database configuration 1 s, 9 of 10 within 3 s")
    const [known] = waiting.forecast?.components ?? []
    if (!waiting.forecast || !known) throw new Error("the fixture has a forecast")
    const late = { ...waiting.forecast, components: [{ ...known, p90Ms: 200_000 }] }
    expectBoth({ ...waiting, forecast: late }, "9 of 10 within 3 min 20 s, RTO 2 min")
    expectBoth({ ...waiting, forecast: { ...late, runs: 0 } }, "have not run together before", "Its parts: Database")
  })
})

describe("while and after it runs", () => {
  it("names who approved", () => {
    expect(read(approved).text).toContain("approved by <@UBOB> after 2 min 05 s")
  })

  it("shows the clock, and progress that changes the text", () => {
    expectBoth(
      running,
      "1:06 of 15:00",
      "✓ Database configuration",
      "▸ Edge functions",
      "now: finalizeAssessment answers",
    )
    expect(read({ ...running, stepRuns: running.stepRuns.slice(0, 1) }).text).not.toBe(read(running).text)
  })

  it("takes the button away when somebody has asked to stop", () => {
    expect(ids({ ...running, stopRequestedBy: "UCAROL" })).toEqual([])
    expectBoth({ ...running, stopRequestedBy: "UCAROL" }, "Stopping after this step")
  })

  it("says the result first when it is back", () => {
    expect(read(succeeded).text).toMatch(/^staging is back · R-17 · 1 min 09 s of 15 min · 3 of 3 criteria hold/)
    expectBoth(succeeded, "profiles 37 removed")
  })

  it("never counts what was not checked with what holds", () => {
    expectBoth(
      { ...succeeded, stepRuns: succeeded.stepRuns.slice(0, 2) },
      "1 of 3 criteria hold, 2 not checked",
      "– Profiles are gone: not checked",
    )
  })

  it("says where it failed, why, what was done and what was not", () => {
    expect(read(failed).text).toMatch(
      /^staging is NOT back · R-17 · stopped at "finalizeAssessment answers" · 1 of 3 components done/,
    )
    expectBoth(
      failed,
      "HTTP 500: expected 200",
      "✓ Redeploy finalizeAssessment",
      "✗ finalizeAssessment answers: failed",
      "· Remove profiles",
    )
  })

  it("does not claim to know an unknown outcome", () => {
    const view: RollbackView = { ...failed, stepRuns: [stepRun("set-version", result({ outcome: "unknown" }))] }
    expectBoth(view, "? Set results_version: not known whether it happened")
  })

  it("offers what it is told to offer", () => {
    const drawn = drawCard({ ...failed, generation: 2 }, now, ["retry", "skip", "undo", "analysis"])
    expect(buttonsOf(drawn.blocks).map(({ action_id, value }) => [action_id, value])).toEqual([
      // At which failure: two who press it want it tried once.
      ["retry", `${failed.id}/2`],
      ...["skip", "undo", "analysis"].map((action) => [action, failed.id]),
    ])
  })

  it("says who ended it before it began, and that nothing was changed", () => {
    expectBoth(denied, "denied", "not before the demo", "Nothing was changed")
    expect(read(denied).text).toContain("<@UBOB>")
    expectBoth(cancelled, "cancelled", "Nothing was changed")
    expectBoth(expired, "nobody approved it in 1 h", "Nothing was changed")
    const unseen = { ...expired, endReason: neverLookedAt }
    expectBoth(unseen, neverLookedAt, "Nothing was changed")
    expect(read(unseen).text).not.toContain("nobody approved")
  })

  it("does not say that nothing was changed when some of it ran before", () => {
    const { text } = read({ ...expired, stepRuns: running.stepRuns.slice(0, 1) })
    expect(text).not.toContain("Nothing was changed")
    expect(text).toContain("✓ Set results_version")
  })
})

describe("other kinds", () => {
  it("shows a rehearsal without buttons", () => {
    const view: RollbackView = { ...waiting, kind: "rehearsal", number: null, state: "succeeded" }
    expect(ids(view)).toEqual([])
    expectBoth(view, "Rehearsal of staging", '"v1.2.1" → "v1.2.0"', "nothing was changed")
  })

  it("says what an undo takes back", () => {
    const view: RollbackView = { ...waiting, kind: "undo", number: 18, title: "Take back R-7" }
    expectBoth(view, "Undo on staging · R-18", "Take back R-7")
    expectBoth({ ...succeeded, kind: "undo", number: 18, title: "Take back R-7" }, "Undone on staging · R-18")
  })
})
