import { tookEffect } from "../../rollback/effect.ts"
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
  const steps = new Map(view.components.flatMap((component) => component.steps.map((step) => [step.id, step] as const)))
  const didSomething = view.stepRuns.some(({ stepId, result }) => {
    const step = steps.get(stepId)
    if (step === undefined || result === null || !tookEffect(step, result)) return false
    // What failed may have done a part: that is worth a button where there is a way back.
    return result.outcome !== "failed" || result.affected.length > 0 || step.irreversible === null
  })
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
