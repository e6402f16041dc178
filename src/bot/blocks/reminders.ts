import type { Analysis, RollbackView } from "../../rollback/facts.ts"
import { missingOf } from "./analysis-facts.ts"
import { draw, type Drawn } from "./fit.ts"
import { between, deadline, duration, nameOf, plural } from "./format.ts"
import { nameBefore } from "./naming.ts"
import { buttons, footer, joined, list, mention, mentions, type Line } from "./parts.ts"

/** Calls the approvers again, while nobody has decided. */
export function drawNudge(view: RollbackView, now: Date): Drawn {
  const left = Math.max(1, view.approvalsNeeded - view.approvals.length)
  const waited = between(view.rehearsedAt ?? view.createdAt, now.toISOString())
  const called: Line = view.approveFrom === "anyone" ? [] : [...mentions(view.approveFrom), ": "]
  const still = ` still waits for ${plural(left, "approval")}${waited === null ? "" : `, ${duration(waited)} so far`}`
  const reason = view.reason.trim()
  return draw([
    { kind: "call", line: [...called, nameBefore(view), still] },
    list(null, [[mention(view.requesterId), reason === "" ? " asks, without a reason" : ` asks: "${reason}"`]]),
    ...footer(
      view.risk === null ? null : [`risk: ${view.risk}`],
      view.approveFrom === "anyone" ? ["any full member may approve, but not ", mention(view.requesterId)] : null,
      view.expiresAt === null ? null : [`expires ${deadline(view.expiresAt, now)}`],
      toTheCard(view),
    ),
  ])
}

/** Asks those who know for what only people know. */
export function drawReminder(view: RollbackView, analysis: Analysis | undefined): Drawn {
  const missing = analysis === undefined ? ["root cause", "prevention"] : missingOf(analysis)
  const people = [...new Set([view.requesterId, ...view.approvals.map(({ userId }) => userId)])]
  const what = joined([nameOf(view) === null ? null : [`R-${view.number}`], [view.environment]])
  const waits = missing.length === 0 ? " is complete now" : ` still waits for: ${missing.join(", ")}`
  return draw([
    { kind: "call", line: [...mentions(people), ": the post-rollback analysis of ", ...what, waits] },
    ...(missing.length === 0 ? [] : buttons({ id: "fill_analysis", label: "Fill in", value: view.id })),
    ...footer(toTheCard(view)),
  ])
}

function toTheCard(view: RollbackView): Line | null {
  return view.permalink === null ? null : [{ link: view.permalink, label: "to the card" }]
}
