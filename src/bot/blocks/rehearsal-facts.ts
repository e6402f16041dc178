import type { RehearsedStep, RollbackView, StepView } from "../../rollback/facts.ts"
import type { Forecast } from "../../rollback/forecast.ts"
import { knownLater } from "../../rollback/facts.ts"
import { stepLines } from "./changes.ts"
import { cut } from "./escape.ts"
import { duration, exactTime } from "./format.ts"
import { joined, list, listOf, type Line, type Part } from "./parts.ts"
import { latestRun, standingOf, stepsOf } from "./progress.ts"

/** What looking at the live target told: what changes, what is broken already, how long it takes, what cannot be undone. */
export function rehearsalFacts(view: RollbackView): Part[] {
  const seen = new Map((view.rehearsal?.steps ?? []).map((step) => [step.stepId, step]))
  const steps = stepsOf(view).filter((step) => view.leftOut?.includes(step.id) !== true)
  return [
    ...changesPart(
      view,
      steps.filter((step) => step.effect !== "none"),
      seen,
    ),
    ...listOf("Already broken, or not so yet", brokenLines(steps, seen)),
    ...listOf(null, workingLines(steps, seen)),
    ...listOf("Also seen", readLines(steps, seen)),
    ...listOf("Could not be looked at", unseenLines(view, steps, seen)),
    list(null, [outlook(view, steps, seen), ...partsLine(view)]),
    ...listOf("Cannot be undone", irreversibleLines(steps)),
    ...listOf("To know", warningLines(view, steps, seen)),
    ...(view.planNotes === null || view.planNotes.trim() === ""
      ? []
      : [list(null, [["Note from the plan: ", view.planNotes]])]),
  ]
}

type Seen = Map<string, RehearsedStep>

function changesPart(view: RollbackView, steps: StepView[], seen: Seen): Part[] {
  const at = view.rehearsal?.lookedAt ?? null
  const heading: Line = [
    { bold: "What changes" },
    at === null ? " · not looked at" : ` · looked at the live target at ${exactTime(at)}`,
  ]
  if (steps.length === 0) return [list(heading, [["Nothing: no step of this has an effect."]])]
  // A run that asks again in its middle does nothing twice.
  const toCome = steps.filter((step) => standingOf(latestRun(view, step.id)).word !== "done")
  if (toCome.length === 0) return [list(heading, [["Nothing more: what has an effect is done."]])]
  return [
    list(heading, [
      ...toCome.filter((step) => !waits(step, seen)).flatMap((step) => stepLines(step, seen.get(step.id) ?? null)),
      ...laterLine(toCome.filter((step) => waits(step, seen))),
    ]),
  ]
}

/** A database step whose values only the run gives: there is nothing to say of it yet but that it will run. */
function waits(step: StepView, seen: Seen): boolean {
  return seen.get(step.id)?.outcome === "not_tried" && step.bindings.some((binding) => binding.endsWith(knownLater))
}

function laterLine(steps: StepView[]): Line[] {
  if (steps.length === 0) return []
  const titles = steps.map((step) => step.title).join(", ")
  return [[`Runs too, with values that only the run gives: ${cut(titles, 400)}`]]
}

/** Checks that expect nothing in particular are there to be read. */
function readLines(steps: StepView[], seen: Seen): Line[] {
  return steps.flatMap((step): Line[] => {
    const found = seen.get(step.id)
    return step.informative === true && found?.holds === true && found.note !== null
      ? [[step.title, `: ${found.note}`]]
      : []
  })
}

function brokenLines(steps: StepView[], seen: Seen): Line[] {
  return steps.flatMap((step): Line[] => {
    const found = seen.get(step.id)
    return found?.holds === false ? [["✗ ", step.title, ...(found.note === null ? [] : [`: ${found.note}`])]] : []
  })
}

/** Probes that hold before anything is done: what works now must work afterwards. */
function workingLines(steps: StepView[], seen: Seen): Line[] {
  const titles = steps
    .filter(({ id, effect, informative }) => effect === "none" && informative !== true && seen.get(id)?.holds === true)
    .map(({ title }) => title)
  return titles.length === 0 ? [] : [[{ bold: "Holds already" }, `: ${cut(titles.join(", "), 400)}`]]
}

/** Steps with an effect say so in their own line; here are the probes, and the target as a whole. */
function unseenLines(view: RollbackView, steps: StepView[], seen: Seen): Line[] {
  const problems = (view.rehearsal?.problems ?? []).map((problem): Line => [problem])
  const probes = steps
    .filter((step) => step.effect === "none" && seen.get(step.id)?.outcome === "unknown")
    .map((step): Line => [step.title, `: ${seen.get(step.id)?.note ?? "no answer"}`])
  return [...problems, ...probes]
}

function outlook(view: RollbackView, steps: StepView[], seen: Seen): Line {
  const effects = steps.filter((step) => step.effect !== "none")
  const reversible =
    effects.length > 0 &&
    effects.every(({ id, irreversible }) => irreversible === null && seen.get(id)?.outcome !== "unknown")
  return joined([[forecastText(view.forecast, view.rtoMs)], reversible ? ["everything can be undone"] : null])
}

function forecastText(forecast: Forecast | null, rtoMs: number | null): string {
  if (forecast === null) return "How long it takes is not known: it has not run before"
  if (forecast.runs === 0) return "How long it takes is not known: its parts have not run together before"
  const { runs, medianMs, p90Ms, fastestMs, slowestMs } = forecast
  const range = runs === 1 ? "the last run" : `last ${runs} runs: ${duration(fastestMs)} to ${duration(slowestMs)}`
  const most = runs === 1 ? "" : `, 9 of 10 within ${duration(p90Ms)}`
  const over =
    rtoMs === null
      ? ""
      : medianMs > rtoMs
        ? `, longer than the RTO of ${duration(rtoMs)}`
        : p90Ms > rtoMs
          ? `, at times longer than the RTO of ${duration(rtoMs)}`
          : ""
  return `Takes about ${duration(medianMs)}${most} (${range})${over}`
}

/** Each part that has run before, with its own RTO where that is in danger; of a single part the whole says it all. */
function partsLine({ components, forecast }: RollbackView): Line[] {
  if (forecast === null || components.length < 2) return []
  const parts = components.flatMap(({ id, title, rtoMs }): Line[] => {
    const times = forecast.components.find((known) => known.id === id)
    if (times === undefined) return []
    const { medianMs, p90Ms, runs } = times
    const most = runs === 1 || duration(p90Ms) === duration(medianMs) ? "" : `, 9 of 10 within ${duration(p90Ms)}`
    const over = rtoMs !== null && p90Ms > rtoMs ? `, RTO ${duration(rtoMs)}` : ""
    return [[title, ` ${duration(medianMs)}${most}${over}`]]
  })
  return parts.length === 0 ? [] : [["Its parts: ", ...joined(parts)]]
}

function irreversibleLines(steps: StepView[]): Line[] {
  return steps.flatMap((step): Line[] =>
    step.irreversible === null ? [] : [["! ", step.title, `: ${step.irreversible}`]],
  )
}

function warningLines(view: RollbackView, steps: StepView[], seen: Seen): Line[] {
  const ofSteps = steps.flatMap((step) =>
    (seen.get(step.id)?.warnings ?? []).map((warning) => `${step.title}: ${warning}`),
  )
  const warnings = [...new Set([...(view.rehearsal?.warnings ?? []), ...ofSteps])]
  return [
    ...warnings.map((warning): Line => ["! ", warning]),
    ...(view.rehearsal?.notes ?? []).map((note): Line => ["• ", note]),
  ]
}
