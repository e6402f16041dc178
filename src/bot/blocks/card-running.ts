import type { RollbackView } from "../../rollback/facts.ts"
import { between, clock, duration, plural, tookText } from "./format.ts"
import { nameDuring } from "./naming.ts"
import { buttons, headline, joined, list, listOf, mention, mentions, type Line, type Part } from "./parts.ts"
import { elapsedOf, latestRun, progressOf, standingOf, stepsOf, type ComponentProgress } from "./progress.ts"
import { whoAsks } from "./card-waiting.ts"

export function approvedParts(view: RollbackView): Part[] {
  return [
    headline(nameDuring(view), approvedBy(view), ["starting"]),
    whoAsks(view),
    ...stopLine(view),
    ...stopButton(view),
  ]
}

export function runningParts(view: RollbackView, now: Date): Part[] {
  const shown = view.components.map((component) => componentLine(progressOf(view, component, now)))
  return [
    headline(nameDuring(view), clockFact(view, now), stepFact(view), approvedBy(view)),
    list(null, shown),
    ...listOf(null, [...waitLines(view), ...askLines(view)]),
    ...stopLine(view),
    ...stopButton(view),
    whoAsks(view),
  ]
}

/** "approved by @bob after 2 min 05 s" */
export function approvedBy(view: RollbackView): Line | null {
  if (view.approvals.length === 0) return null
  const waited = between(view.createdAt, view.approvedAt)
  const after = waited === null ? [] : [` after ${duration(waited)}`]
  return ["approved by ", ...mentions(view.approvals.map(({ userId }) => userId)), ...after]
}

/** "1:22 of 5:00", said when it is over. */
function clockText(ms: number, rtoMs: number | null): string {
  if (rtoMs === null) return clock(ms)
  return `${clock(ms)} of ${clock(rtoMs)}${ms > rtoMs ? ", over the RTO" : ""}`
}

export function componentLine({ component, mark, settled, current, ms }: ComponentProgress): Line {
  const count = component.steps.length
  const time = ms === null ? null : [mark === "▸" ? clockText(ms, component.rtoMs) : tookText(ms, component.rtoMs)]
  const steps = mark === "✓" || mark === "·" ? null : [`${settled} of ${plural(count, "step")}`]
  const word = { "✓": "done", "✗": "failed", "?": "outcome not known", "–": "skipped", "▸": "now", "·": "" }[mark]
  const at = current === null ? null : [`${word}: ${current.title}`]
  return [
    `${mark} `,
    { bold: component.title },
    ...prefixed(joined([time, steps, at ?? (word === "skipped" ? [word] : null)])),
  ]
}

function prefixed(line: Line): Line {
  return line.length === 0 ? [] : [" · ", ...line]
}

function clockFact(view: RollbackView, now: Date): Line | null {
  const ms = elapsedOf(view, now)
  return ms === null ? null : [{ bold: clockText(ms, view.rtoMs) }]
}

/** How far it is, in steps: this is what changes from one edit of the card to the next. */
function stepFact(view: RollbackView): Line | null {
  const steps = stepsOf(view)
  if (steps.length === 0) return null
  const words = steps.map((step) => standingOf(latestRun(view, step.id)).word)
  const settled = words.filter((word) => word === "done" || word === "skipped").length
  return [`${settled} of ${plural(steps.length, "step")} done`]
}

/** The clock runs, and it is a person that it waits for. */
function waitLines(view: RollbackView): Line[] {
  return stepsOf(view)
    .filter((step) => step.kind === "manual" && standingOf(latestRun(view, step.id)).word === "running")
    .map((step): Line => ["? ", { bold: step.title }, " waits for a person: the thread asks for it"])
}

/** A step that failed and asks: the answer is given in the thread. */
function askLines(view: RollbackView): Line[] {
  return stepsOf(view)
    .filter((step) => step.asks === true && ["failed", "not known"].includes(standingOf(latestRun(view, step.id)).word))
    .map((step): Line => ["? ", { bold: step.title }, " has failed: the thread asks what to do"])
}

function stopLine(view: RollbackView): Part[] {
  if (view.stopRequestedBy === null) return []
  return [list(null, [["■ Stopping after this step, asked by ", mention(view.stopRequestedBy)]])]
}

/** Pressed once is enough: the button goes when somebody has asked to stop. */
function stopButton(view: RollbackView): Part[] {
  return view.stopRequestedBy === null ? buttons({ id: "stop", label: "Stop", value: view.id, style: "danger" }) : []
}
