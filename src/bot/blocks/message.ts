import type { Analysis, Confirmation, Escalation, Message, RollbackView } from "../../rollback/facts.ts"
import { postedHeadText } from "../../rollback/audit.ts"
import { drawAnalysis } from "./analysis.ts"
import { drawCard, type EndAction } from "./card.ts"
import { leftLines } from "./card-ended.ts"
import { drawEscalation } from "./escalation.ts"
import { drawFailureQuestion } from "./failure-question.ts"
import { draw, type Drawn } from "./fit.ts"
import { drawManual } from "./manual.ts"
import { footer, list, mention, type Line } from "./parts.ts"
import { titleOf } from "./progress.ts"
import { drawNudge, drawReminder } from "./reminders.ts"
import { drawProgress, drawStep } from "./step-reply.ts"

export type Extras = {
  confirmation?: Confirmation
  escalation?: Escalation
  analysis?: Analysis
  actions?: readonly EndAction[]
}

/** Draws a message of the outbox from what is known when it is sent. */
export function drawMessage(message: Message, view: RollbackView, extras: Extras, now: Date): Drawn {
  switch (message.kind) {
    case "card":
      return drawCard(view, now, extras.actions)
    case "step": {
      const run = view.stepRuns.find(({ stepId, attempt }) => stepId === message.stepId && attempt === message.attempt)
      if (message.progress && !run?.result) return drawProgress(view, message.stepId, message.progress)
      return run === undefined
        ? drawText(`${titleOf(view, message.stepId)}: its result is not known here`, view)
        : drawStep(view, run)
    }
    case "file":
      throw new Error("a file is uploaded, not drawn")
    case "text":
      return drawText(message.text, view)
    case "left":
      return drawLeft(view)
    case "nudge":
      return drawNudge(view, now)
    case "reminder":
      return drawReminder(view, extras.analysis)
    case "escalation":
      if (extras.escalation === undefined)
        throw new Error(`escalation ${message.escalationId} was not given to be drawn`)
      return drawEscalation(view, extras.escalation, now)
    case "manual":
      if (extras.confirmation === undefined)
        throw new Error(`question ${message.confirmationId} was not given to be drawn`)
      return extras.confirmation.kind === "failure"
        ? drawFailureQuestion(view, extras.confirmation, now)
        : drawManual(view, extras.confirmation, now)
    case "analysis":
      if (extras.analysis === undefined) throw new Error(`the analysis of ${view.id} was not given to be drawn`)
      return drawAnalysis(view, extras.analysis)
    case "audit":
      return draw(footer([postedHeadText({ number: view.number ?? 0, entry: message.entry, hash: message.head })]))
  }
}

/** The decision, where everybody who followed the run reads it. */
function drawLeft(view: RollbackView): Drawn {
  return draw([list(null, leftLines(view))])
}

/**
 * A text of ours, which may quote people. A mention in it is one only when it names somebody of this rollback, and a
 * group only in front of all words: what somebody typed calls nobody together.
 */
function drawText(text: string, view: RollbackView): Drawn {
  const lines = text.split("\n").filter((line) => line.trim() !== "")
  const shown = lines.map((line, index) => mentioned(line, view, index === 0))
  // The analysis is known by its first words: nothing else may begin with them.
  const [first] = shown
  if (/^\s*post-rollback analysis/i.test(lines[0] ?? "")) first?.unshift("» ")
  return draw([list(null, shown)])
}

function mentioned(text: string, view: RollbackView, first: boolean): Line {
  const people = peopleOf(view)
  const called = Array.isArray(view.approveFrom) ? view.approveFrom : []
  let leading = first
  return text.split(/(<@\w+>|<!subteam\^\w+>)/).flatMap((piece, index): Line => {
    const id = index % 2 === 1 ? piece.replace(/^<(?:@|!subteam\^)|>$/g, "") : ""
    if (id !== "" && (people.has(id) || (leading && called.includes(id)))) return [mention(id)]
    if (piece.trim() !== "") leading = false
    return piece === "" ? [] : [piece]
  })
}

function peopleOf(view: RollbackView): Set<string> {
  const ids = [
    view.requesterId,
    view.endedBy,
    view.stopRequestedBy,
    ...view.approvals.map(({ userId }) => userId),
    ...view.notes.map(({ userId }) => userId),
    ...view.stepRuns.map(({ skippedBy }) => skippedBy),
    ...(Array.isArray(view.approveFrom) ? view.approveFrom : []),
  ]
  return new Set(ids.filter((id) => id !== null && /^[UW]/.test(id)).map(String))
}
