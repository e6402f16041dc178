import type { Audience, RollbackView } from "../../rollback/facts.ts"
import { cut } from "./escape.ts"
import { deadline, duration, exactTime, plural, shortDigest } from "./format.ts"
import { nameBefore, subtitleOf } from "./naming.ts"
import { buttons, footer, headline, joined, list, listOf, mention, mentions, type Line, type Part } from "./parts.ts"
import { latestRun, standingOf, stepsOf } from "./progress.ts"
import { rehearsalFacts } from "./rehearsal-facts.ts"

/** The card before anybody has decided: while it is looked at, and while it waits. */
export function preparingParts(view: RollbackView): Part[] {
  const name = view.number === null ? "" : ` · R-${view.number}`
  const going = view.moved.length > 0 ? "looking again, what was shown has moved" : "nothing changes yet"
  return [
    headline(`Looking at ${view.environment}…${name}`, [going]),
    ...movedPart(view),
    whoAsks(view),
    ...footer(
      [`asked for at ${exactTime(view.createdAt)}`],
      view.number === null ? null : [`/rollback cancel R-${view.number} calls it off`],
    ),
  ]
}

export function waitingParts(view: RollbackView, now: Date): Part[] {
  const value = view.token ?? ""
  return [
    headline(nameBefore(view), ...riskFacts(view)),
    ...movedPart(view),
    whoAsks(view),
    ...riskReasons(view),
    ...doneBefore(view),
    ...rehearsalFacts(view),
    ...(view.token === null
      ? []
      : buttons(
          { id: "approve", label: "Approve", value, style: "primary" },
          { id: "deny", label: "Deny", value, style: "danger" },
          { id: "details", label: "Details", value },
          { id: "cancel", label: "Cancel", value },
        )),
    ...footer(needs(view), given(view), expiry(view, now), digest(view)),
  ]
}

/** A rehearsal is only a look: facts, and nothing to press. */
export function rehearsalParts(view: RollbackView): Part[] {
  const ended = view.endReason === null ? [] : [list(null, [[view.endReason]])]
  return [
    headline(nameBefore(view), ...riskFacts(view)),
    ...ended,
    whoAsks(view),
    ...riskReasons(view),
    ...(view.rehearsal === null ? [] : rehearsalFacts(view)),
    ...footer(["Only a look: nothing was changed, nothing to approve"], digest(view)),
  ]
}

/** Who asks and why, and what for. */
export function whoAsks(view: RollbackView): Part {
  const reason = view.reason.trim()
  const does = view.kind === "record" ? "did by hand" : "asks"
  const asks: Line = [mention(view.requesterId), reason === "" ? ` ${does}, without a reason` : ` ${does}: "${reason}"`]
  const subtitle = subtitleOf(view)
  const narrowed = selectionLine(view)
  return list(null, [
    asks,
    ...(subtitle === null ? [] : [[{ bold: subtitle }]]),
    ...(narrowed === null ? [] : [narrowed]),
  ])
}

/** "only: db-config · with: config-restore · since = 2025-11-21T16:00:00Z" */
function selectionLine({ selection }: RollbackView): Line | null {
  if (selection === undefined) return null
  const set = Object.entries(selection.parameters).map(([name, value]) => `${name} = ${cut(value, 120)}`)
  const line = joined([
    selection.only === null ? null : [`only: ${selection.only.join(", ")}`],
    selection.with.length === 0 ? null : [`with: ${selection.with.join(", ")}`],
    set.length === 0 ? null : [set.join(" · ")],
  ])
  return line.length === 0 ? null : line
}

export function riskFacts(view: RollbackView): Line[] {
  return [
    ...(view.risk === null ? [] : [[{ bold: `risk: ${view.risk}` }]]),
    ...(view.rtoMs === null ? [] : [[`RTO ${duration(view.rtoMs)}`]]),
  ]
}

/** "any full member", "@oncall, @lead" */
export function audienceLine(audience: Audience): Line {
  return audience === "anyone" ? ["any full member"] : mentions(audience)
}

export function digest(view: RollbackView): Line | null {
  return view.digest === null ? null : [`plan ${shortDigest(view.digest)}`]
}

function movedPart(view: RollbackView): Part[] {
  return listOf(
    "Changed since the earlier card",
    view.moved.map((moved): Line => ["• ", moved]),
  )
}

/** A run that asks again in its middle says what it has done already. */
function doneBefore(view: RollbackView): Part[] {
  const done = stepsOf(view).filter((step) => standingOf(latestRun(view, step.id)).word === "done")
  return listOf(
    "Done already, before it asked again",
    done.map((step): Line => ["✓ ", step.title]),
  )
}

function riskReasons(view: RollbackView): Part[] {
  if (view.riskReasons.length === 0) return []
  const [only] = view.riskReasons
  if (only !== undefined && view.riskReasons.length === 1) return [list(null, [["Risk raised because: ", only]])]
  return [
    list(
      "Risk raised because",
      view.riskReasons.map((reason): Line => ["• ", reason]),
    ),
  ]
}

function needs(view: RollbackView): Line {
  return [
    `Needs ${plural(view.approvalsNeeded, "approval")} from `,
    ...audienceLine(view.approveFrom),
    ", not ",
    ...mentions([view.requesterId, ...(view.askedToo ?? [])]),
  ]
}

function given(view: RollbackView): Line | null {
  if (view.approvals.length === 0) return null
  return joined([
    [
      `${view.approvals.length} of ${view.approvalsNeeded} given: `,
      ...mentions(view.approvals.map(({ userId }) => userId)),
    ],
  ])
}

function expiry(view: RollbackView, now: Date): Line | null {
  return view.expiresAt === null ? null : [`expires ${deadline(view.expiresAt, now)}`]
}
