import type { RollbackView, StepProgress, StepResult, StepRun } from "../../rollback/facts.ts"
import { changeText, deployedText } from "./changes.ts"
import { cut } from "./escape.ts"
import { failureLines, failureStatement } from "./failure.ts"
import { draw, type Drawn } from "./fit.ts"
import { duration, number, plural } from "./format.ts"
import { joined, list, listOf, mention, type Line, type Part } from "./parts.ts"
import { standingOf, titleOf } from "./progress.ts"

const shownChanges = 10

/** One reply in the thread: what a step did, by which evidence, how long it took. */
export function drawStep(view: RollbackView, run: StepRun): Drawn {
  const { mark, word } = standingOf(run)
  const title: Line = [`${mark} `, { bold: cut(titleOf(view, run.stepId), 200) }]
  const { result } = run
  if (run.skippedBy !== null)
    return draw([list(null, [[...title, " · skipped by ", mention(run.skippedBy), because(run.skipReason)]])])
  if (result === null) return draw([list(null, [[...title, " · started, no result yet"]])])
  const said = word === "done" ? null : [word === "not known" ? "not known whether it happened" : word]
  return draw([
    list(null, [joined([title, said, effort(run, result), [duration(result.ms)]])]),
    ...listOf(null, [
      ...result.evidence.map((line) => evidenceLine(line, result.confirmedBy)),
      ...rowLines(result, titleOf(view, run.stepId)),
    ]),
    ...failureParts(result),
  ])
}

/** The same reply while the step goes on: it becomes its result. */
export function drawProgress(view: RollbackView, stepId: string, { rows, of }: StepProgress): Drawn {
  const rest = of === null || of < rows ? "" : ` of ${number(of)}`
  return draw([
    list(null, [["▸ ", { bold: cut(titleOf(view, stepId), 200) }, ` · ${number(rows)}${rest} rows removed so far`]]),
  ])
}

/** Whose word it is, as a mention; the address of a run, as a link. */
function evidenceLine(line: string, confirmedBy: string | undefined): Line {
  const run = /^run (https:\/\/\S+)$/.exec(line)?.[1]
  if (run !== undefined) return ["run ", { link: run, label: run }]
  if (confirmedBy === undefined) return [line]
  return line.split(confirmedBy).flatMap((part, index): Line => (index === 0 ? [part] : [mention(confirmedBy), part]))
}

function because(reason: string | null): string {
  return reason === null || reason.trim() === "" ? "" : `: "${reason.trim()}"`
}

/** Which run of the step it was, and its tries in it, unless the evidence counts them already. */
function effort(run: StepRun, result: StepResult): Line | null {
  const attempt = run.attempt > 1 ? `run ${number(run.attempt)} of it` : null
  const counted = result.evidence.some((line) => /\battempts\b/.test(line))
  const tries = result.attempts > 1 && !counted ? plural(result.attempts, "attempt") : null
  const words = [attempt, tries].filter((text) => text !== null)
  return words.length === 0 ? null : [words.join(", ")]
}

function rowLines(result: StepResult, title: string): Line[] {
  const changes = result.changes.slice(0, shownChanges).map((change): Line => [changeText(change, title)])
  const more: Line[] =
    result.changes.length > changes.length ? [[`… and ${number(result.changes.length - changes.length)} more`]] : []
  if (result.outcome !== "succeeded") {
    const deployed = deployedText(result)
    return deployed === null ? [] : [[deployed]]
  }
  const said = result.evidence.some((line) => line.includes("already"))
  if (wasSoAlready(result) && said) return []
  if (wasSoAlready(result)) return [[alreadyText(result)]]
  const summary = result.evidence.length > 0 ? null : rowText(result)
  return [...(summary === null ? [] : [[summary]]), ...changes, ...more]
}

/** Nothing changed because it was so before: that is not sold as a change. */
function wasSoAlready({ rows, changed }: StepResult): boolean {
  return changed === 0 && (rows === null || rows > 0)
}

function alreadyText({ rows }: StepResult): string {
  return rows === null
    ? "It was so already: nothing was changed"
    : `${plural(rows, "row")} matched; it was so already: nothing was changed`
}

function rowText({ rows, changed, affected }: StepResult): string | null {
  if (affected.length > 0)
    return affected.map(({ table, did, rows: count }) => `${table}: ${plural(count, "row")} ${did}`).join(" · ")
  if (rows === null) return null
  return changed === null || changed === rows
    ? plural(rows, "row")
    : `${plural(rows, "row")} matched, ${number(changed)} changed`
}

function failureParts({ failure }: StepResult): Part[] {
  if (failure === null) return []
  return [list(null, failureLines(failure, { code: true })), ...failureStatement(failure)]
}
