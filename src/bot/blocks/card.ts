import type { RollbackView } from "../../rollback/facts.ts"
import { closedParts, endedParts, type EndAction } from "./card-ended.ts"
import { approvedParts, runningParts } from "./card-running.ts"
import { preparingParts, rehearsalParts, waitingParts } from "./card-waiting.ts"
import { draw, type Drawn } from "./fit.ts"
import { troubleOf } from "./progress.ts"
import type { Part } from "./parts.ts"

export type { EndAction } from "./card-ended.ts"
export type { Drawn } from "./fit.ts"

/** The one message of a rollback that is edited in place. `actions`: what an ended one offers. */
export function drawCard(view: RollbackView, now: Date, actions: readonly EndAction[] = actionsOf(view)): Drawn {
  return draw(cardParts(view, now, actions))
}

/** What an ended rollback offers: going on where it broke off, taking back what it did, reading about it. */
function actionsOf(view: RollbackView): EndAction[] {
  if (view.left !== null || view.takenBack) return ["analysis"]
  const offered: EndAction[] = view.state === "succeeded" ? [] : ["retry"]
  if (troubleOf(view) !== null) offered.push("skip")
  const acting = new Set(
    view.components.flatMap(({ steps }) => steps.filter((step) => step.effect !== "none").map((step) => step.id)),
  )
  const didSomething = view.stepRuns.some(
    ({ stepId, result }) =>
      acting.has(stepId) && (result?.outcome === "succeeded" || (result?.affected.length ?? 0) > 0),
  )
  if (didSomething) offered.push("undo")
  if (view.state !== "succeeded") offered.push("leave")
  return [...offered, "analysis"]
}

function cardParts(view: RollbackView, now: Date, actions: readonly EndAction[]): Part[] {
  if (view.kind === "rehearsal" && view.state !== "preparing") return rehearsalParts(view)
  switch (view.state) {
    case "preparing":
      return preparingParts(view)
    case "awaiting_approval":
      return waitingParts(view, now)
    case "approved":
      return approvedParts(view)
    case "running":
      return runningParts(view, now)
    case "succeeded":
    case "failed":
    case "stopped":
      return endedParts(view, { state: view.state, now, actions })
    case "denied":
    case "cancelled":
    case "expired":
      return closedParts(view)
  }
}
