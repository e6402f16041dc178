import { describe, expect, it } from "vitest"

import { analysisForm } from "../../../src/bot/blocks/analysis-form.ts"
import { analysisMarkdown, drawAnalysis } from "../../../src/bot/blocks/analysis.ts"
import { denyForm } from "../../../src/bot/blocks/deny-form.ts"
import { documentOf } from "../../../src/bot/blocks/document.ts"
import { drawDetails } from "../../../src/bot/blocks/details.ts"
import { drawEscalation } from "../../../src/bot/blocks/escalation.ts"
import { drawMessage } from "../../../src/bot/blocks/message.ts"
import { drawStep } from "../../../src/bot/blocks/step-reply.ts"
import { analysisFacts } from "../../../src/rollback/analysis.ts"
import type { Analysis, Confirmation, Message, StepRun } from "../../../src/rollback/facts.ts"
import { buttonsOf, readable } from "./reading.ts"
import {
  analysis,
  escalation,
  failed,
  failedAnswer,
  now,
  result,
  running,
  stepRun,
  succeeded,
  versionSet,
  waiting,
} from "./views.ts"

const textOf = (run: StepRun): string => drawStep(running, run).text

it("a file has a name that no other of its rollback has", () => {
  const output = result({ output: "long" })
  const again = { ...stepRun("deploy", output), attempt: 2 }
  const view = { ...failed, stepRuns: [stepRun("deploy", output), again, stepRun("deploy-2", output)] }
  const messages: Message[] = [
    ...view.stepRuns.map(({ stepId, attempt }) => ({ kind: "file", what: "output", stepId, attempt }) as const),
    { kind: "file", what: "analysis", edition: 1 },
    { kind: "file", what: "analysis", edition: 2 },
  ]
  const names = messages.map((message) => documentOf(message, view, analysis)?.name)
  expect(names.every(Boolean)).toBe(true)
  expect(new Set(names).size).toBe(messages.length)
})

describe("a step's reply", () => {
  it("names the step, how long it took and what it changed", () => {
    expect(textOf(versionSet)).toMatch(/^✓ Set results_version · 12 ms\n/)
    expect(textOf(versionSet)).toContain('scoring_config.results_version.value "v1.2.1" → "v1.2.0"')
  })

  it("does not sell what was so already as a change", () => {
    expect(textOf(stepRun("set-version", result({ rows: 1, changed: 0 })))).toContain(
      "it was so already: nothing was changed",
    )
  })

  it("shows the failure with its SQLSTATE, place, statement and hint", () => {
    const failure = {
      code: "42P01",
      message: 'relation "x" does not exist',
      position: 8,
      statement: "update x set y = 1",
      detail: null,
      hint: "create it",
    }
    const text = textOf(stepRun("set-version", result({ outcome: "failed", failure })))
    expect(text).toMatch(/^✗ Set results_version · failed/)
    for (const fact of [
      "SQLSTATE 42P01",
      'relation "x" does not exist',
      "at character 8",
      "update x set y = 1\n       ^",
      "Hint: create it",
    ])
      expect(text).toContain(fact)
  })

  it("counts the tries within one run of the step, which is another number than the run's", () => {
    const again = (attempts: number) => ({ ...stepRun("set-version", result({ attempts })), attempt: 2 })
    const needed = (run: StepRun) => analysisFacts({ ...succeeded, stepRuns: [run] }).issues
    expect(textOf(again(2))).toContain("run 2 of it, 2 attempts")
    expect(needed(again(2))).toEqual(["Set results_version needed 2 attempts"])
    expect(textOf(again(1))).not.toContain("attempt")
    expect(needed(again(1))).toEqual([])
  })

  it("shows the evidence of a probe that failed", () => {
    expect(textOf(failedAnswer)).toContain("5 attempts in 10.0 s")
    expect(textOf(failedAnswer)).toContain("HTTP 500: expected 200")
  })

  it("tells unknown, skipped and started apart", () => {
    expect(textOf(stepRun("set-version", result({ outcome: "unknown" })))).toMatch(
      /^\? .*not known whether it happened/,
    )
    expect(textOf({ ...stepRun("set-version", null), skippedBy: "UBOB", skipReason: "done by hand" })).toBe(
      '– Set results_version · skipped by <@UBOB>: "done by hand"',
    )
    expect(textOf(stepRun("set-version", null))).toContain("no result yet")
  })
})

describe("an escalation", () => {
  it("calls those whom the plan names, with the evidence in the text", () => {
    const { text, blocks } = drawEscalation(failed, escalation, now)
    expect(text).toMatch(/^<!subteam\^S0ONCALL>, <@ULEAD>: staging rollback R-17 needs you/)
    for (const fact of [
      "answered 500 five times",
      "scoring_config not found",
      "update scoring_config set value",
      "<https://team.slack.com/",
    ])
      expect(text).toContain(fact)
    expect(buttonsOf(blocks)).toEqual([{ action_id: "acknowledge", value: "esc-1", style: "primary" }])
  })

  it("says who is on it, and offers the button no more", () => {
    const { text, blocks } = drawEscalation(
      failed,
      { ...escalation, acknowledgedBy: "UBOB", acknowledgedAt: "2025-11-22T14:20:00Z" },
      now,
    )
    expect(text).toContain("<@UBOB> is on it since 14:20 UTC")
    expect(buttonsOf(blocks)).toEqual([])
    expect(drawEscalation(failed, { ...escalation, resolvedAt: "2025-11-22T14:25:00Z" }, now).text).toContain(
      "resolved at 14:25 UTC",
    )
    const followed = { ...escalation, resolvedAt: "2025-11-22T14:25:00Z", followed: true }
    expect(drawEscalation(failed, followed, now).text).toContain("it failed again after this: the newer call stands")
    expect(drawEscalation(failed, followed, now).text).not.toContain("resolved")
  })

  it("never shows half of a statement to paste", () => {
    const statement = `delete from profiles\nwhere results_version = 'v1.2.1' -- ${"x".repeat(400)}\nand created_at > now();\n`
    const { text } = drawEscalation(failed, { ...escalation, byHand: statement.repeat(60) }, now)
    expect(text.split("delete from profiles").length).toBe(text.split("and created_at &gt; now();").length)
    expect(text).toMatch(/[\d,]+ characters of statements left out here; all of them: stepback plan show staging --sql/)
  })
})

describe("the analysis", () => {
  const complete: Analysis = {
    ...analysis,
    rootCause: "a config key was renamed",
    prevention: "a check in CI",
    followUps: [{ text: "mend | the check", owner: "UBOB", due: "2025-12-01" }],
    revision: 2,
    filledBy: "UALICE",
  }

  it("says what it waits for until it is given", () => {
    expect(drawAnalysis(succeeded, analysis).text).toMatch(
      /^Post-rollback analysis · R-17 · staging · staging is back · waiting for: root cause, prevention/,
    )
    const { text } = drawAnalysis(succeeded, complete)
    expect(text).not.toContain("waiting for")
    expect(text).toContain("a config key was renamed")
    expect(text).toContain("filled in by <@UALICE>")
  })

  it("says whether it worked, and of what was done by hand what it does not know", () => {
    expect(drawAnalysis(failed, analysis).text).toMatch(
      /^Post-rollback analysis · R-17 · staging · staging is NOT back/,
    )
    const { text } = drawAnalysis({ ...succeeded, kind: "record" }, { ...analysis, criteria: [] })
    expect(text).toMatch(/^Post-rollback analysis · R-17 · staging · done by hand/)
    expect(text).toContain("3 Data affected: not known: it was done by hand")
    expect(text).toContain("Not checked: it was done by hand.")
    const document = analysisMarkdown({ ...succeeded, kind: "record" }, { ...analysis, criteria: [] })
    expect(document).toMatch(/not known: it was done by hand[\s\S]*Not checked: it was done by hand\./)
  })

  it("takes root cause and prevention one by one", () => {
    const optional = analysisForm(succeeded, analysis).blocks.flatMap((block) =>
      block.type === "input" && "optional" in block ? [block.optional] : [],
    )
    expect(optional).toEqual(Array.from({ length: 2 + 3 * 3 }, () => true))
  })

  it("has the five items and the criteria, each with its own mark", () => {
    const { text, blocks } = drawAnalysis(succeeded, analysis)
    for (const shown of [text, readable(blocks)]) {
      for (const fact of [
        "ran 1 min 09 s of 15 min",
        "waited 2 min 05 s",
        "needed 3 attempts",
        "profiles 37 removed",
        "5 min 19 s from the command",
        "kept for undo until 2025-12-22",
        "14:13:57 UTC asked for by",
        "4 Root cause",
        "5 Prevention",
      ])
        expect(shown).toContain(fact)
      expect(shown).toContain("✓ Database shows results_version = v1.2.0")
      expect(shown).toContain("– No scoring errors in the logs · not checked")
      expect(shown).toContain("✗ Edge functions operational · does not hold · 2 of 3 answer")
    }
    expect(buttonsOf(blocks)).toEqual([{ action_id: "fill_analysis", value: succeeded.id, style: undefined }])
  })

  it("ticks only what holds in the document", () => {
    const text = analysisMarkdown(succeeded, analysis)
    expect(text).toContain("- [x] Database shows")
    expect(text).toContain("- [ ] No scoring errors in the logs: **not checked**")
    expect(text).toContain("- [ ] Edge functions operational: **does not hold**")
  })

  it("asks for the rest in a form that keeps what was given", () => {
    const form = analysisForm(succeeded, complete)
    expect([form.callback_id, form.private_metadata]).toEqual(["analysis_form", `${succeeded.id} 2`])
    const ids = form.blocks.map((block) => block.block_id).filter((id) => id !== undefined)
    expect(ids.slice(0, 5)).toEqual([
      "root_cause",
      "prevention",
      ...["text", "owner", "due"].map((name) => `follow_up_0_${name}`),
    ])
    // One that is there, and three to write in.
    expect(ids).toHaveLength(2 + 4 * 3)
    const held = JSON.stringify(form)
    for (const kept of ['"a check in CI"', '"initial_user":"UBOB"', '"initial_date":"2025-12-01"'])
      expect(held).toContain(kept)
  })

  it("names the owner of each follow-up and its date", () => {
    expect(drawAnalysis(succeeded, complete).text).toContain("• mend | the check · <@UBOB> · until 2025-12-01")
    expect(analysisMarkdown(succeeded, complete)).toContain("| mend \\| the check | UBOB | 2025-12-01 |")
  })
})

describe("forms", () => {
  it("shows every statement with its parameters in Details", () => {
    const shown = readable(drawDetails(waiting).blocks)
    for (const fact of [
      "update scoring_config set value = to_jsonb($1::text)",
      '$1 = "v1.2.0"',
      "repeated only with the same key",
      "POST /functions/v1/finalizeAssessment",
    ])
      expect(shown).toContain(fact)
  })

  it("ends Details of a very long plan with the command that shows the rest", () => {
    const [first] = waiting.components
    if (first === undefined) throw new Error("the example has components")
    const view = drawDetails({ ...waiting, components: Array.from({ length: 80 }, () => first) })
    expect(view.blocks.length).toBeLessThanOrEqual(100)
    expect(readable(view.blocks)).toContain("the rest: stepback plan show staging")
  })

  it("asks for the reason of a denial", () => {
    const form = denyForm(waiting)
    expect([form.callback_id, form.private_metadata, form.blocks[0]?.block_id]).toEqual([
      "deny_form",
      "tok-17-1",
      "reason",
    ])
  })
})

describe("messages of the outbox", () => {
  const drawText = (message: Message): string => drawMessage(message, succeeded, { escalation, analysis }, now).text

  it("draws each kind", () => {
    expect(drawText({ kind: "card" })).toContain("staging is back · R-17")
    expect(drawText({ kind: "step", stepId: "set-version", attempt: 1 })).toContain("✓ Set results_version")
    expect(drawText({ kind: "escalation", escalationId: "esc-1" })).toContain("needs you")
    expect(drawText({ kind: "analysis" })).toMatch(/^Post-rollback analysis/)
    expect(drawText({ kind: "nudge" })).toMatch(
      /^<!subteam\^S0ONCALL>: Roll back staging · R-17 still waits for 1 approval/,
    )
    expect(drawText({ kind: "reminder" })).toBe(
      "<@UALICE>, <@UBOB>: the post-rollback analysis of R-17 · staging still waits for: root cause, prevention\n<https://team.slack.com/archives/C0DEPLOY/p11|to the card>",
    )
  })

  it("says the day of a question that waits until tomorrow", () => {
    const asked: Confirmation = {
      id: "c-1",
      kind: "manual",
      rollbackId: running.id,
      stepId: "set-version",
      attempt: 1,
      instruction: "press it",
      askedAt: now.toISOString(),
      expiresAt: "2025-11-23T14:32:00Z",
      expired: false,
      answer: null,
      reason: null,
      answeredBy: null,
      answeredAt: null,
    }
    const drawn = drawMessage({ kind: "manual", confirmationId: "c-1" }, running, { confirmation: asked }, now)
    expect(drawn.text).toContain("waits until 2025-11-23 14:32 UTC")
  })

  it("lets a text mention people of this rollback, and nobody whom somebody typed", () => {
    const text = drawText({
      kind: "text",
      text: "<@UALICE> noted: <!channel> <@UEVIL> <!subteam^S0ONCALL> see <https://x|y>",
    })
    expect(text).toBe(
      "<@UALICE> noted: &lt;·!channel&gt; &lt;·@UEVIL&gt; &lt;·!subteam^S0ONCALL&gt; see &lt;https://x|y&gt;",
    )
    expect(drawText({ kind: "text", text: "Post-rollback analysis? not yet" })).not.toMatch(/^Post-rollback analysis/)
  })
})
