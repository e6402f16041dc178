import type { Confirmation, RollbackView } from "../../rollback/facts.ts"
import { cut } from "./escape.ts"
import { failureLines } from "./failure.ts"
import { draw, type Drawn } from "./fit.ts"
import { deadline, exactTime, nameOf } from "./format.ts"
import { buttons, footer, joined, list, listOf, mention, mentions, type Line } from "./parts.ts"
import { titleOf } from "./progress.ts"

/** Asks in the thread what is to become of a step that failed, while the run waits; afterwards it says who decided what. */
export function drawFailureQuestion(view: RollbackView, asked: Confirmation, now: Date): Drawn {
  const title: Line = [{ bold: cut(titleOf(view, asked.stepId), 200) }]
  if (asked.answer !== null) return draw([list(null, [["▸ ", ...title, " had failed: ", ...decision(asked)]])])
  const run = view.stepRuns.find(({ stepId, attempt }) => stepId === asked.stepId && attempt === asked.attempt)
  const failure = run?.result?.failure ?? null
  const people = [...new Set([view.requesterId, ...view.approvals.map(({ userId }) => userId)])]
  return draw([
    {
      kind: "call",
      line: [...mentions(people), `: ${nameOf(view) ?? view.environment} waits for you to decide, a step has failed`],
    },
    list(null, [["✗ ", ...title]]),
    ...listOf(null, failure === null ? [] : failureLines(failure, { code: false })),
    list(null, [
      ["• Retry: the step as it was approved, one person is enough"],
      ["• Skip: the run goes on without it, when a second person approves that"],
      ["• Stop here: the run ends, and its card offers Undo what was done and Leave it"],
    ]),
    ...footer([`waits until ${deadline(asked.expiresAt, now)}, then it stops here`]),
    ...buttons(
      { id: "failure_retry", label: "Retry", value: asked.id, style: "primary" },
      { id: "failure_skip", label: "Skip", value: asked.id },
      { id: "failure_leave", label: "Stop here", value: asked.id, style: "danger" },
    ),
  ])
}

function decision({ answer, answeredBy, answeredAt, reason }: Confirmation): Line {
  const at = answeredAt === null ? "" : ` at ${exactTime(answeredAt)}`
  const by: Line = answeredBy === null ? ["somebody"] : [mention(answeredBy)]
  switch (answer) {
    case "retry":
      return ["retried by ", ...by, at]
    case "skip":
      return joined([
        ["to be skipped, asks ", ...by, `${at}: "${(reason ?? "").trim()}"`],
        ["another person has to approve it"],
      ])
    case "leave":
      return ["stopped here by ", ...by, at]
    case "timed_out":
      return [`nobody decided in time${at}, it stopped here`]
    default:
      return [`no longer asked: the rollback was stopped${at}`]
  }
}
