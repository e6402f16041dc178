import fc from "fast-check"
import { describe, expect, it } from "vitest"

import { analysisForm } from "../../../src/bot/blocks/analysis-form.ts"
import { analysisMarkdown, drawAnalysis } from "../../../src/bot/blocks/analysis.ts"
import { drawCard } from "../../../src/bot/blocks/card.ts"
import { denyForm } from "../../../src/bot/blocks/deny-form.ts"
import { drawDetails } from "../../../src/bot/blocks/details.ts"
import { drawMessage } from "../../../src/bot/blocks/message.ts"
import { historyText, statusText } from "../../../src/bot/blocks/words.ts"
import type {
  Analysis,
  Escalation,
  RehearsedStep,
  RollbackView,
  StepResult,
  StepRun,
  StepView,
} from "../../../src/rollback/facts.ts"
import { transitions } from "../../../src/rollback/states.ts"
import { problemsOf, viewProblems } from "./slack-limits.ts"
import { analysis, escalation, now, waiting } from "./views.ts"

const attacks = [
  "<!channel>",
  "<!here|here>",
  "<@UEVIL>",
  "<!subteam^SEVIL>",
  "<!everyone>",
  "&lt;!channel&gt;",
  "<https://evil.example|Approve>",
  "```",
  "a\u202eb\u200bc\u0000d",
  "\ud800",
  "\u{e0041}",
  "✓ all fine\n✓ everything can be undone",
  "x".repeat(5_000),
  '"\\'.repeat(2_000),
  "<".repeat(3_000),
  "line\n".repeat(1_000),
  "😀".repeat(2_000),
  "delete from t;\n".repeat(1_000),
  " ",
  "",
  "\n",
]
const hostile = fc.oneof(
  fc.constantFrom(...attacks),
  fc.string({ unit: "binary", maxLength: 60 }),
  fc.array(fc.constantFrom(...attacks), { minLength: 2, maxLength: 3 }).map((texts) => texts.join(" ")),
)
const maybe = <Value>(value: fc.Arbitrary<Value>): fc.Arbitrary<Value | null> => fc.option(value, { freq: 3 })
/** Few different ones, but any number of them: that is what makes a message too long. */
const many = <Value>(value: fc.Arbitrary<Value>): fc.Arbitrary<Value[]> =>
  fc
    .tuple(fc.array(value, { minLength: 1, maxLength: 2 }), fc.constantFrom(0, 1, 2, 20, 90))
    .map(([few, count]) => Array.from({ length: count }, (_, index) => few[index % few.length] as Value))
const some = <Value>(value: fc.Arbitrary<Value>): fc.Arbitrary<Value[]> => fc.array(value, { maxLength: 4 })

const ours = ["UALICE", "UBOB", "UCAROL", "S0ONCALL", "WLEAD"]
const id = fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...ours) }, { weight: 1, arbitrary: hostile })
const count = fc.oneof(fc.nat(5), fc.nat())
const when = fc.constantFrom("2025-11-22T14:18:07Z", "2025-11-21T10:00:00.000Z", "not a time")
const risk = fc.constantFrom("low" as const, "medium" as const, "high" as const)
const stepId = fc.constantFrom("one", "two", "three")

const change = fc.record({
  row: hostile,
  column: hostile,
  before: hostile,
  after: maybe(hostile),
  afterKnown: fc.boolean(),
})
const rehearsed: fc.Arbitrary<RehearsedStep> = fc.record({
  stepId,
  outcome: fc.constantFrom("looked" as const, "unknown" as const, "not_tried" as const),
  rows: maybe(count),
  changed: maybe(count),
  total: maybe(count),
  changes: many(change),
  children: many(
    fc.record({
      table: hostile,
      rows: count,
      action: fc.constantFrom("cascade" as const, "set null" as const, "set default" as const),
    }),
  ),
  holds: maybe(fc.boolean()),
  note: maybe(hostile),
  warnings: many(hostile),
  ms: count,
})
const result: fc.Arbitrary<StepResult> = fc.record({
  outcome: fc.constantFrom("succeeded" as const, "failed" as const, "unknown" as const, "skipped" as const),
  rows: maybe(count),
  changed: maybe(count),
  changes: many(change),
  affected: many(
    fc.record({ table: hostile, did: fc.constantFrom("changed" as const, "removed" as const), rows: count }),
  ),
  evidence: many(hostile),
  issues: many(hostile),
  captures: fc.constant({}),
  failure: maybe(
    fc.record({
      code: hostile,
      message: hostile,
      position: maybe(count),
      statement: maybe(hostile),
      detail: maybe(hostile),
      hint: maybe(hostile),
    }),
  ),
  attempts: count,
  ms: count,
  output: maybe(hostile),
  deployedBefore: maybe(hostile),
  skipped: maybe(fc.record({ by: id, reason: hostile })),
})
const run: fc.Arbitrary<StepRun> = fc.record({
  stepId,
  attempt: fc.nat(3),
  generation: fc.nat(3),
  result: maybe(result),
  startedAt: when,
  endedAt: maybe(when),
  skippedBy: maybe(id),
  skipReason: maybe(hostile),
})
const step: fc.Arbitrary<StepView> = fc.record({
  id: stepId,
  title: hostile,
  kind: fc.constantFrom("sql" as const, "check" as const, "http" as const, "command" as const, "purge" as const),
  effect: fc.constantFrom("transactional" as const, "none" as const, "keyed" as const, "blind" as const),
  irreversible: maybe(hostile),
  script: hostile,
  bindings: many(hostile),
})

const view: fc.Arbitrary<RollbackView> = fc
  .record({
    number: maybe(count),
    kind: fc.constantFrom("rollback" as const, "undo" as const, "rehearsal" as const, "record" as const),
    environment: hostile,
    title: hostile,
    state: fc.constantFrom(...(Object.keys(transitions) as RollbackView["state"][])),
    requesterId: id,
    reason: hostile,
    planNotes: maybe(hostile),
    approvedAt: maybe(when),
    endedAt: maybe(when),
    expiresAt: maybe(when),
    endedBy: maybe(id),
    endReason: maybe(hostile),
    stopRequestedBy: maybe(id),
    risk: maybe(risk),
    riskReasons: many(hostile),
    rtoMs: maybe(count),
    digest: maybe(hostile),
    token: maybe(fc.string({ maxLength: 100 })),
    approveFrom: fc.oneof(fc.constant("anyone" as const), many(id)),
    approvals: many(fc.record({ userId: id, decidedAt: when })),
    components: many(fc.record({ id: hostile, title: hostile, risk, rtoMs: maybe(count), steps: some(step) })),
    rehearsal: maybe(
      fc.record({ lookedAt: when, steps: some(rehearsed), problems: many(hostile), warnings: many(hostile) }),
    ),
    stepRuns: some(run),
    criteria: many(fc.record({ text: hostile, from: some(stepId) })),
    notes: many(fc.record({ userId: id, text: hostile, at: when })),
    moved: many(hostile),
    permalink: maybe(hostile),
  })
  .map((drawn) => ({ ...waiting, ...drawn }))

const anAnalysis: fc.Arbitrary<Analysis> = fc
  .record({
    issues: many(hostile),
    rootCause: maybe(hostile),
    prevention: maybe(hostile),
    followUps: many(fc.record({ text: hostile, owner: maybe(id), due: maybe(hostile) })),
    approvals: many(fc.record({ userId: id, afterMs: maybe(count) })),
    timeline: many(fc.record({ at: when, kind: hostile, actor: id })),
    filledBy: maybe(id),
    auditHead: hostile,
    affected: many(fc.record({ table: hostile, did: hostile, rows: count })),
    criteria: many(
      fc.record({
        text: hostile,
        outcome: fc.constantFrom("holds" as const, "fails" as const, "not_checked" as const),
        evidence: hostile,
      }),
    ),
    components: many(fc.record({ title: hostile, ranMs: maybe(count), rtoMs: maybe(count) })),
  })
  .map((drawn) => ({ ...analysis, ...drawn, watch: drawn.rootCause }))

const anEscalation: fc.Arbitrary<Escalation> = fc
  .record({
    headline: hostile,
    evidence: many(hostile),
    byHand: maybe(hostile),
    mention: many(id),
    acknowledgedBy: maybe(id),
    acknowledgedAt: maybe(when),
    resolvedAt: maybe(when),
  })
  .map((drawn) => ({ ...escalation, ...drawn }))

const runs = { numRuns: 200 }

describe("whatever the facts are, Slack takes the message and nobody is called who is not meant", () => {
  it("cards", { timeout: 30_000 }, () => {
    fc.assert(
      fc.property(view, (shown) => {
        expect(problemsOf(drawCard(shown, now, ["undo", "retry", "skip", "leave", "analysis"]), ours)).toEqual([])
      }),
      runs,
    )
  })

  it("replies, escalations, analyses and texts", { timeout: 30_000 }, () => {
    fc.assert(
      fc.property(view, run, anEscalation, anAnalysis, hostile, (shown, done, raised, known, text) => {
        const withRun = { ...shown, stepRuns: [done] }
        const extras = { escalation: raised, analysis: known }
        const messages = [
          drawMessage({ kind: "step", stepId: done.stepId, attempt: done.attempt }, withRun, extras, now),
          drawMessage({ kind: "escalation", escalationId: raised.id }, shown, extras, now),
          drawMessage({ kind: "text", text: `noted: ${text}` }, shown, extras, now),
          drawMessage({ kind: "nudge" }, shown, extras, now),
          drawMessage({ kind: "reminder" }, shown, extras, now),
          drawAnalysis(shown, known),
        ]
        for (const message of messages) expect(problemsOf(message, ours)).toEqual([])
        const begun = messages.map((message) => message.text.startsWith("Post-rollback analysis"))
        expect(begun).toEqual(messages.map((_, index) => index === messages.length - 1))
      }),
      runs,
    )
  })

  it("forms", { timeout: 30_000 }, () => {
    fc.assert(
      fc.property(view, anAnalysis, (shown, known) => {
        expect(viewProblems(drawDetails(shown))).toEqual([])
        expect(viewProblems(denyForm(shown))).toEqual([])
        expect(viewProblems(analysisForm(shown, known))).toEqual([])
      }),
      runs,
    )
  })

  it("the analysis as a document", { timeout: 30_000 }, () => {
    fc.assert(
      fc.property(view, anAnalysis, (shown, known) => {
        const ticked = analysisMarkdown(shown, known).match(/^- \[x\] /gm)?.length ?? 0
        expect(ticked).toBe(known.criteria.filter(({ outcome }) => outcome === "holds").length)
      }),
      { numRuns: 30 },
    )
  })

  it("answers to commands", { timeout: 30_000 }, () => {
    fc.assert(
      fc.property(view, (shown) => {
        const text = [
          statusText(
            Array.from({ length: 50 }, () => shown),
            shown.environment,
          ),
          historyText(Array.from({ length: 50 }, () => shown)),
        ]
        for (const each of text) expect(problemsOf({ text: each, blocks: [{ type: "divider" }] }, ours)).toEqual([])
      }),
      runs,
    )
  })
})
