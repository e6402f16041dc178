import type { RollbackView } from "../../rollback/facts.ts"
import { exactTime, nameOf } from "./format.ts"
import type { Line } from "./parts.ts"

/** How a rollback is called in each phase. Every one of them begins with what, where and its number. */
export function nameBefore(view: RollbackView): string {
  switch (view.kind) {
    case "rollback":
      return withNumber(view, `Roll back ${view.environment}`)
    case "undo":
      return withNumber(view, `Undo on ${view.environment}`)
    case "rehearsal":
      return withNumber(view, `Rehearsal of ${view.environment}`)
    case "record":
      return withNumber(view, `Done by hand on ${view.environment}`)
  }
}

export function nameDuring(view: RollbackView): string {
  if (view.kind === "rollback") return withNumber(view, `Rolling back ${view.environment}`)
  return view.kind === "undo" ? withNumber(view, `Undoing on ${view.environment}`) : nameBefore(view)
}

export function nameAfter(view: RollbackView): string {
  if (view.kind === "rehearsal" || view.kind === "record") return nameBefore(view)
  return withNumber(view, standingNow(view))
}

/** Whether it worked, and whether that still stands. */
export function standingNow(view: RollbackView): string {
  return view.state === "succeeded" && view.takenBack ? pastOf(view) : resultOf(view)
}

/** Nobody may read of an old message that it is still so. */
export function takenBackFact({ takenBack }: RollbackView): Line | null {
  return takenBack ? [{ bold: `taken back by R-${takenBack.number ?? "?"}` }, ` at ${exactTime(takenBack.at)}`] : null
}

function pastOf({ kind, environment }: RollbackView): string {
  return kind === "undo" ? `Undone on ${environment}, and taken back` : `${environment} was back`
}

/** Whether it worked, in a few words. */
function resultOf({ kind, state, environment }: RollbackView): string {
  if (kind === "record") return "done by hand"
  if (state === "stopped")
    return kind === "undo" ? `Undo on ${environment} stopped` : `Rollback of ${environment} stopped`
  if (state === "succeeded") return kind === "undo" ? `Undone on ${environment}` : `${environment} is back`
  return kind === "undo" ? `NOT undone on ${environment}` : `${environment} is NOT back`
}

/** The plan's title, where the headline does not say it already. */
export function subtitleOf(view: RollbackView): string | null {
  const title = view.title.trim()
  const said = [nameBefore(view), `Roll back ${view.environment}`, `Rehearsal of ${view.environment}`, view.environment]
  return title === "" || said.some((name) => name.toLowerCase() === title.toLowerCase()) ? null : title
}

function withNumber(view: RollbackView, words: string): string {
  const name = nameOf(view)
  return name === null ? words : `${words} · ${name}`
}
