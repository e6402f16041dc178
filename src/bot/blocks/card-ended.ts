import { analysisFacts } from "../../rollback/analysis.ts"
import type { RollbackView, StepRun } from "../../rollback/facts.ts"
import { neverLookedAt } from "../../rollback/states.ts"
import { criterionMarks } from "./analysis-facts.ts"
import { approvedBy, componentLine } from "./card-running.ts"
import { digest, whoAsks } from "./card-waiting.ts"
import { deployedText } from "./changes.ts"
import { failureLines } from "./failure.ts"
import { between, duration, exactTime, nameOf, number, plural, tookText } from "./format.ts"
import { nameAfter, nameBefore, takenBackFact } from "./naming.ts"
import { buttons, footer, headline, list, listOf, mention, type ButtonPart, type Line, type Part } from "./parts.ts"
import { elapsedOf, latestRun, progressOf, standingOf, stepsOf, troubleOf, type StepStanding } from "./progress.ts"

export type EndAction = "undo" | "retry" | "skip" | "leave" | "analysis"

const labels = {
  undo: "Undo",
  retry: "Retry",
  skip: "Skip",
  leave: "Leave it",
  analysis: "Analysis",
} as const satisfies Record<EndAction, string>

/** Succeeded, failed or stopped: the result first. */
export function endedParts(
  view: RollbackView,
  { state, now, actions }: { state: "succeeded" | "failed" | "stopped"; now: Date; actions: readonly EndAction[] },
): Part[] {
  const factsOf = { succeeded: succeededFacts, failed: failedFacts, stopped: stoppedFacts }[state]
  return [
    headline(nameAfter(view), takenBackFact(view), ...factsOf(view, now)),
    ...listOf(null, leftLines(view)),
    ...(state === "succeeded" ? succeededBody(view, now) : brokenOffBody(view)),
    whoAsks(view),
    ...buttons(...actions.map((action): ButtonPart => actionButton(view, action))),
    ...footer(approvedBy(view), digest(view)),
  ]
}

const leaveConfirm = {
  title: "Leave it as it is?",
  text: "Nobody can retry or skip after that. What was done stays; /rollback undo still takes it back.",
  yes: "Leave it",
  no: "Back",
}

/** Who decided that it stays as it is, and what can still be done. */
export function leftLines(view: RollbackView): Line[] {
  if (view.left === null) return []
  const name = nameOf(view)
  const way = name === null ? "" : `; /rollback undo ${name} still takes back what was done`
  return [["– ", { bold: "Left as it is" }, " by ", mention(view.left.by), ` at ${exactTime(view.left.at)}${way}`]]
}

/** Ended before anything ran. */
export function closedParts(view: RollbackView): Part[] {
  const begun = view.stepRuns.length > 0
  const again = [
    ...(view.state === "expired" ? [{ id: "ask_again", label: "Ask again", value: view.id }] : []),
    ...(begun && !view.takenBack ? [actionButton(view, "undo")] : []),
    ...(begun ? [actionButton(view, "analysis")] : []),
  ]
  // A run may have asked again in its middle: then some of it was done before it was closed.
  const done = !begun ? footer(["Nothing was changed"]) : doneAndNot(view)
  return [
    headline(nameBefore(view), takenBackFact(view), closedFact(view)),
    whoAsks(view),
    ...(again.length === 0 ? [] : buttons(...again)),
    ...done,
  ]
}

function closedFact(view: RollbackView): Line {
  const by: Line = view.endedBy === null ? [] : [" by ", mention(view.endedBy)]
  const why = view.endReason === null || view.endReason.trim() === "" ? "" : `: "${view.endReason.trim()}"`
  if (view.state === "denied") return [{ bold: "denied" }, ...by, why === "" ? ", without a reason" : why]
  if (view.state === "cancelled") return [{ bold: "cancelled" }, ...by, why]
  if (view.endReason === neverLookedAt) return [{ bold: "expired" }, `: ${neverLookedAt}`]
  const waited = between(view.createdAt, view.expiresAt ?? view.endedAt)
  return [{ bold: "expired" }, `: nobody approved it${waited === null ? "" : ` in ${duration(waited)}`}`]
}

function succeededFacts(view: RollbackView, now: Date): (Line | null)[] {
  return [timeFact(view, now), criteriaFact(view)]
}

function failedFacts(view: RollbackView, now: Date): (Line | null)[] {
  const trouble = troubleOf(view)
  return [trouble === null ? null : [atText(trouble)], componentsFact(view, now), timeFact(view, now)]
}

function atText({ step: { title, goesOn }, others }: NonNullable<ReturnType<typeof troubleOf>>): string {
  if (goesOn !== true) return `stopped at "${title}"`
  return `"${title}"${others === 0 ? "" : ` and ${plural(others, "other step")}`} failed`
}

function stoppedFacts(view: RollbackView, now: Date): (Line | null)[] {
  const by = view.stopRequestedBy ?? view.endedBy
  return [by === null ? null : ["by ", mention(by)], componentsFact(view, now), timeFact(view, now)]
}

function timeFact(view: RollbackView, now: Date): Line | null {
  const ms = elapsedOf(view, now)
  return ms === null ? null : [tookText(ms, view.rtoMs)]
}

/** "4 of 5 criteria hold, 1 not checked": what was not checked is never counted with what holds. */
function criteriaFact(view: RollbackView): Line | null {
  const { criteria } = analysisFacts(view)
  if (criteria.length === 0) return null
  const count = (outcome: string): number => criteria.filter((each) => each.outcome === outcome).length
  const rest = [
    count("fails") === 0 ? null : `${number(count("fails"))} failed`,
    count("not_checked") === 0 ? null : `${number(count("not_checked"))} not checked`,
  ].filter((text) => text !== null)
  return [[`${number(count("holds"))} of ${number(criteria.length)} criteria hold`, ...rest].join(", ")]
}

function componentsFact(view: RollbackView, now: Date): Line | null {
  if (view.components.length === 0) return null
  const done = view.components.filter((component) => progressOf(view, component, now).mark === "✓").length
  return [`${done} of ${view.components.length} components done`]
}

function succeededBody(view: RollbackView, now: Date): Part[] {
  const unmet = analysisFacts(view).criteria.filter(({ outcome }) => outcome !== "holds")
  return [
    ...(view.endReason === null ? [] : [list(null, [[view.endReason]])]),
    ...listOf(
      null,
      view.components.map((component) => componentLine(progressOf(view, component, now))),
    ),
    ...listOf("Left out", leftOutLines(view)),
    ...listOf(null, affectedLines(view)),
    ...listOf(
      "Criteria that are not met or not checked",
      unmet.map(({ text, outcome }): Line => [
        `${criterionMarks[outcome].mark} `,
        text,
        `: ${criterionMarks[outcome].word}`,
      ]),
    ),
  ]
}

/** Whoever reads only that it is back must not take what somebody had skipped for done. */
function leftOutLines(view: RollbackView): Line[] {
  const skipped = stepsOf(view).filter((step) => standingOf(latestRun(view, step.id)).word === "skipped")
  return skipped.map((step): Line => ["– ", step.title])
}

function brokenOffBody(view: RollbackView): Part[] {
  const trouble = troubleOf(view)
  const failure = trouble?.run.result?.failure ?? null
  // Which step it was stands in the headline already.
  const said = trouble !== null && view.endReason === trouble.step.title
  const endReason = said ? null : view.endReason
  return [
    ...listOf(null, failure === null ? [] : failureLines(failure, { code: false })),
    ...(endReason === null ? [] : [list(null, [[endReason]])]),
    ...doneAndNot(view),
    ...listOf(null, affectedLines(view)),
  ]
}

const notDone = {
  done: "",
  "not run": "",
  failed: ": failed",
  stopped: ": stopped before its end",
  "not known": ": not known whether it happened",
  running: ": started, not known whether it happened",
  skipped: ": skipped",
} as const satisfies Record<StepStanding["word"], string>

/** What was done and what was not, step by step: whoever takes over must not have to guess. */
function doneAndNot(view: RollbackView): Part[] {
  const steps = stepsOf(view).map((step) => {
    const run = latestRun(view, step.id)
    return { step, run, at: standingOf(run) }
  })
  const done = steps.filter(({ at }) => at.word === "done")
  const rest = steps.filter(({ at }) => at.word !== "done")
  return [
    list(
      "Done",
      done.length === 0 ? [["nothing"]] : done.map(({ step, run, at }) => [`${at.mark} `, step.title, version(run)]),
    ),
    ...listOf(
      "Not done",
      rest.map(({ step, run, at }): Line => [`${at.mark} `, step.title, notDone[at.word], version(run)]),
    ),
  ]
}

/** A deployment that was broken off leaves some on the new version and some on the old one: each says which. */
function version(run: StepRun | null): string {
  const deployed = run?.result ? deployedText(run.result) : null
  return deployed === null ? "" : ` · ${deployed}`
}

function affectedLines(view: RollbackView): Line[] {
  const { affected } = analysisFacts(view)
  if (affected.length === 0) return []
  return [
    [
      "Data: ",
      ...affected.flatMap(({ table, did, rows }, index): Line => [
        index === 0 ? "" : " · ",
        `${table} ${number(rows)} ${did}`,
      ]),
    ],
  ]
}

function actionButton(view: RollbackView, action: EndAction): ButtonPart {
  const undoPart = action === "undo" && view.state !== "succeeded"
  return {
    id: action,
    label: undoPart ? "Undo what was done" : labels[action],
    value: action === "retry" ? `${view.id}/${view.generation}` : view.id,
    ...(action === "leave" ? { confirm: leaveConfirm } : {}),
  }
}
