import type { Analysis, CriterionResult, Event, RollbackView } from "../../rollback/facts.ts"
import { between, dateAndTime, duration, exactTime, number, span, tookText } from "./format.ts"

/** The words beside the symbol: what was not checked never looks like what holds. */
export const criterionMarks = {
  holds: { mark: "✓", word: "" },
  fails: { mark: "✗", word: "does not hold" },
  not_checked: { mark: "–", word: "not checked" },
} as const satisfies Record<CriterionResult["outcome"], { mark: string; word: string }>

export function missingOf(analysis: Analysis): string[] {
  return [
    ...(filledIn(analysis.rootCause) ? [] : ["root cause"]),
    ...(filledIn(analysis.prevention) ? [] : ["prevention"]),
  ]
}

/** Issues that the run met, and those that people noted, each once. */
export function issuesOf(view: RollbackView, analysis: Analysis): string[] {
  const notes = view.notes
    .map((note) => note.text)
    .filter((text) => !analysis.issues.some((issue) => issue.includes(text)))
  return [...analysis.issues, ...notes]
}

/** "2025-11-22 14:16:02 → 14:19:16 UTC · 3 min 14 s from the command · waited 2 min 05 s for approval · ran 1 min 09 s of 15 min" */
export function timesText(view: RollbackView, analysis: Analysis): string {
  const { requestedAt, startedAt, endedAt, waitedMs, ranMs } = analysis
  const byHand = view.kind === "record"
  const from = byHand ? startedAt : requestedAt
  const when =
    from !== null && endedAt !== null
      ? span(from, endedAt)
      : `${from === null ? "start not known" : dateAndTime(from)} → end not known`
  const total = byHand ? null : between(requestedAt, endedAt)
  const ran = ranMs === null ? [] : [`ran ${tookText(ranMs, view.rtoMs)}`]
  const waited = waitedMs === null ? [] : [`waited ${duration(waitedMs)} for approval`]
  return [when, ...(total === null ? [] : [`${duration(total)} from the command`]), ...waited, ...ran].join(" · ")
}

/** "scoring_config 1 changed · profiles 37 removed (archived) · kept for undo until 2025-12-22" */
export function affectedText({ kind }: RollbackView, { affected, keptUntil }: Analysis): string {
  if (kind === "record") return "not known: it was done by hand"
  if (affected.length === 0) return "none"
  const tables = affected.map(({ table, did, rows, archived = 0 }) => {
    const kept = archived === 0 ? "" : archived === rows ? " (archived)" : `, ${number(archived)} of them archived`
    return `${table} ${number(rows)} ${did}${kept}`
  })
  return [...tables, ...(keptUntil === null ? [] : [`kept for undo until ${keptUntil.slice(0, 10)}`])].join(" · ")
}

/** In place of criteria. */
export function noCriteria({ kind }: RollbackView): string {
  return kind === "record" ? "Not checked: it was done by hand." : "The plan names none."
}

const eventWords: Record<string, string> = {
  requested: "asked for",
  recorded: "recorded",
  rehearsed: "looked at",
  approval: "approved",
  moved: "sent back: something had moved",
  stop_requested: "told to stop",
  confirmed: "answered in the thread",
  answered_retry: "Retry chosen in the thread",
  answered_skip: "Skip asked for in the thread",
  answered_leave: "ended in the thread",
  escalated: "the people on call were called",
  acknowledged: "taken on",
  watched: "the watch ended",
  retried: "retried",
  succeeded: "succeeded",
  failed: "failed",
  stopped: "stopped",
  denied: "denied",
  cancelled: "cancelled",
  expired: "expired",
  left: "left as it is",
}

/** What happened, in its order. `by` is null for what Stepback did itself. */
export function eventOf({ at, kind, actor }: Event): { at: string; did: string; by: string | null } {
  const did = eventWords[kind] ?? kind.replaceAll("_", " ")
  return { at: exactTime(at), did, by: actor === "stepback" ? null : actor }
}

/** Counted from the card, not from the command as the waiting is. */
export function approvalText(afterMs: number | null): string {
  return afterMs === null ? "" : `, ${duration(afterMs)} after the card`
}

export function componentText({ title, ranMs, rtoMs }: Analysis["components"][number]): string {
  return ranMs === null ? `${title}: did not run` : `${title}: ${tookText(ranMs, rtoMs)}`
}

export function filledIn(text: string | null): text is string {
  return text !== null && text.trim() !== ""
}
