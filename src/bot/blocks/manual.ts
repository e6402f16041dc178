import type { Confirmation, RollbackView } from "../../rollback/facts.ts"
import { cut } from "./escape.ts"
import { draw, type Drawn } from "./fit.ts"
import { deadline, exactTime, nameOf } from "./format.ts"
import { buttons, footer, joined, list, mention, mentions, type Line } from "./parts.ts"
import { titleOf } from "./progress.ts"

/** Asks in the thread for what only a person can do; afterwards the same message says who answered what. */
export function drawManual(view: RollbackView, asked: Confirmation, now: Date): Drawn {
  const title: Line = [{ bold: cut(titleOf(view, asked.stepId), 200) }]
  const lines = asked.instruction.split("\n").filter((line) => line.trim() !== "")
  const instruction = list(
    null,
    lines.map((line): Line => [line]),
  )
  if (asked.answer !== null)
    return draw([list(null, [joined([[...outcomeMark(asked), ...title], outcome(asked)])]), instruction])
  const people = [...new Set([view.requesterId, ...view.approvals.map(({ userId }) => userId)])]
  const until = joined([
    [`waits until ${deadline(asked.expiresAt, now)}`],
    ["any full member of this workspace may answer, the first answer counts"],
  ])
  return draw([
    {
      kind: "call",
      line: [...mentions(people), `: ${nameOf(view) ?? view.environment} waits for somebody to do this by hand`],
    },
    list(null, [title]),
    instruction,
    ...footer(until),
    ...buttons(
      { id: "manual_done", label: "Done", value: asked.id, style: "primary" },
      { id: "manual_not_done", label: "Not done", value: asked.id },
    ),
  ])
}

function outcomeMark({ answer }: Confirmation): Line {
  return [answer === "done" ? "✓ " : answer === "stopped" ? "– " : "✗ "]
}

function outcome({ answer, answeredBy, answeredAt }: Confirmation): Line {
  const at = answeredAt === null ? "" : ` at ${exactTime(answeredAt)}`
  const by: Line = answeredBy === null ? ["somebody"] : [mention(answeredBy)]
  switch (answer) {
    case "done":
      return ["done, says ", ...by, at]
    case "not_done":
      return ["not done, says ", ...by, at]
    case "timed_out":
      return [`nobody answered in time${at}`]
    default:
      return [`no longer waited for: the rollback was stopped${at}`]
  }
}
