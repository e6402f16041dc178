import type { Escalation, RollbackView } from "../../rollback/facts.ts"
import { draw, type Drawn } from "./fit.ts"
import { between, duration, nameOf, timeOfDay } from "./format.ts"
import { buttons, code, footer, joined, list, listOf, mention, mentions, type Line, type Part } from "./parts.ts"

/** The call for help: who is meant, what happened, what to do by hand, and who is on it. */
export function drawEscalation(view: RollbackView, escalation: Escalation, now: Date): Drawn {
  const open = escalation.acknowledgedAt === null && escalation.resolvedAt === null
  return draw([
    { kind: "call", line: calls(view, escalation) },
    list(null, [[{ bold: escalation.headline }]]),
    ...listOf(
      null,
      escalation.evidence.map((line): Line => [line]),
    ),
    ...byHand(view, escalation),
    ...footer(standing(view, escalation, now), thread(view)),
    ...(open ? buttons({ id: "acknowledge", label: "I'm on it", value: escalation.id, style: "primary" }) : []),
  ])
}

function calls(view: RollbackView, { mention: called }: Escalation): Line {
  const who: Line = called.length === 0 ? [] : [...mentions(called, 20), ": "]
  const name = nameOf(view)
  const what = view.kind === "undo" ? "undo" : "rollback"
  return [...who, `${view.environment} ${what}${name === null ? "" : ` ${name}`} needs you`]
}

function byHand(view: RollbackView, escalation: Escalation): Part[] {
  if (escalation.byHand === null || escalation.byHand.trim() === "") return []
  const rest = `stepback plan show ${view.environment} --sql`
  return [code([{ bold: "By hand" }], escalation.byHand, { pasted: true, rest })]
}

function standing(view: RollbackView, escalation: Escalation, now: Date): Line {
  const { acknowledgedBy, acknowledgedAt, resolvedAt, raisedAt, timesTold, acknowledgeWithinMs } = escalation
  const onIt: Line | null =
    acknowledgedAt === null
      ? null
      : [
          ...(acknowledgedBy === null ? ["somebody"] : [mention(acknowledgedBy)]),
          ` is on it since ${timeOfDay(acknowledgedAt)}`,
        ]
  // Left is not mended: it only calls nobody any more.
  const resolved: Line | null =
    resolvedAt === null
      ? null
      : escalation.followed
        ? ["– it failed again after this: the newer call stands for it"]
        : view.left === null
          ? [`✓ resolved at ${timeOfDay(resolvedAt)}`]
          : ["– left as it is by ", mention(view.left.by), ` at ${timeOfDay(view.left.at)}`]
  if (onIt !== null || resolved !== null) return joined([resolved, onIt])
  const open = between(raisedAt, now.toISOString())
  const told = timesTold > 1 ? [`told ${timesTold} times in ${duration(open ?? 0)}`] : null
  return joined([told, [`told again in ${duration(acknowledgeWithinMs)} unless somebody is on it`]])
}

function thread(view: RollbackView): Line | null {
  return view.permalink === null ? null : [{ link: view.permalink, label: "thread of the rollback" }]
}
