import type { Analysis, CriterionResult, RollbackView } from "../../rollback/facts.ts"
import { dateAndTime, duration, number, span, tookText } from "./format.ts"

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

/** "2025-11-22 14:18:07 → 14:19:16 UTC · ran 1 min 09 s of 15 min · waited 2 min 05 s for approval" */
export function timesText(view: RollbackView, { startedAt, endedAt, waitedMs, ranMs }: Analysis): string {
  const from = startedAt === null ? "start not known" : dateAndTime(startedAt)
  const when = startedAt !== null && endedAt !== null ? span(startedAt, endedAt) : `${from} → end not known`
  const ran = ranMs === null ? [] : [`ran ${tookText(ranMs, view.rtoMs)}`]
  const waited = waitedMs === null ? [] : [`waited ${duration(waitedMs)} for approval`]
  return [when, ...ran, ...waited].join(" · ")
}

export function affectedText({ affected }: Analysis): string {
  if (affected.length === 0) return "none"
  return affected.map(({ table, did, rows }) => `${table} ${number(rows)} ${did}`).join(" · ")
}

export function componentText({ title, ranMs, rtoMs }: Analysis["components"][number]): string {
  return ranMs === null ? `${title}: did not run` : `${title}: ${tookText(ranMs, rtoMs)}`
}

export function filledIn(text: string | null): text is string {
  return text !== null && text.trim() !== ""
}
