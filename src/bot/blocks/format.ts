import type { RollbackView } from "../../rollback/facts.ts"

const second = 1000

/** "12 ms", "41 s", "1 min 09 s", "15 min", "1 h 05 min", "3 d 4 h". */
export function duration(ms: number): string {
  const time = Math.max(0, Math.round(ms))
  if (time < second) return `${time} ms`
  if (time < 10 * second && time % second !== 0) return `${(time / second).toFixed(1)} s`.replace(".0 s", " s")
  const seconds = Math.round(time / second)
  if (seconds < 60) return `${seconds} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return seconds % 60 === 0 ? `${minutes} min` : `${minutes} min ${two(seconds % 60)} s`
  const hours = Math.floor(minutes / 60)
  if (hours < 24) return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${two(minutes % 60)} min`
  return hours % 24 === 0 ? `${Math.floor(hours / 24)} d` : `${Math.floor(hours / 24)} d ${hours % 24} h`
}

/** A running clock: "0:41", "15:00", "1:05:00". */
export function clock(ms: number): string {
  const seconds = Math.floor(Math.max(0, ms) / second)
  const hours = Math.floor(seconds / 3600)
  const minutes = Math.floor((seconds % 3600) / 60)
  return hours === 0 ? `${minutes}:${two(seconds % 60)}` : `${hours}:${two(minutes)}:${two(seconds % 60)}`
}

/** "1 min 09 s of 15 min", of what has ended. */
export function tookText(ms: number, rtoMs: number | null): string {
  if (rtoMs === null) return duration(ms)
  return `${duration(ms)} of ${duration(rtoMs)}${ms > rtoMs ? ", over the RTO" : ""}`
}

/** "12,480" */
export function number(value: number): string {
  return value.toLocaleString("en-US")
}

/** "1 row", "37 rows" */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${number(value)} ${value === 1 ? one : many}`
}

/** The first eight hex digits, in two groups that can be read aloud: "4f3a-91cc". */
export function shortDigest(digest: string): string {
  const digits = digest.replace(/^sha256:/, "").slice(0, 8)
  return `${digits.slice(0, 4)}-${digits.slice(4)}`
}

/** "14:32 UTC" */
export function timeOfDay(iso: string): string {
  return parsed(iso, (text) => `${text.slice(11, 16)} UTC`)
}

/** "14:32:05 UTC" */
export function exactTime(iso: string): string {
  return parsed(iso, (text) => `${text.slice(11, 19)} UTC`)
}

/** "2025-11-22 14:32:05 UTC" */
export function dateAndTime(iso: string): string {
  return parsed(iso, (text) => `${text.slice(0, 10)} ${text.slice(11, 19)} UTC`)
}

/** When something ends: the day is said only when it is not today. "14:32 UTC", "2025-11-23 14:32 UTC". */
export function deadline(iso: string, now: Date): string {
  const sameDay = parsed(iso, (text) => text.slice(0, 10)) === now.toISOString().slice(0, 10)
  return sameDay ? timeOfDay(iso) : parsed(iso, (text) => `${text.slice(0, 10)} ${text.slice(11, 16)} UTC`)
}

/** From a moment to its end: the date is said once. "2025-11-22 14:18:07 → 14:21:22 UTC". */
export function span(from: string, to: string): string {
  const start = dateAndTime(from)
  const end = dateAndTime(to)
  if (start.slice(0, 10) !== end.slice(0, 10)) return `${start} → ${end}`
  return `${start.replace(" UTC", "")} → ${end.slice(11)}`
}

/** Milliseconds between two moments; null when one of them is not known. */
export function between(from: string | null, to: string | null): number | null {
  if (from === null || to === null) return null
  const ms = Date.parse(to) - Date.parse(from)
  return Number.isNaN(ms) ? null : Math.max(0, ms)
}

/** "R-17"; nothing for a rehearsal, which has no number. */
export function nameOf(view: Pick<RollbackView, "number">): string | null {
  return view.number === null ? null : `R-${view.number}`
}

/** "staging · R-17" */
export function placeOf(view: Pick<RollbackView, "number" | "environment">): string {
  return [view.environment, nameOf(view)].filter((word) => word !== null).join(" · ")
}

function parsed(iso: string, show: (text: string) => string): string {
  const time = new Date(iso)
  return Number.isNaN(time.getTime()) ? "unknown time" : show(time.toISOString())
}

function two(value: number): string {
  return String(value).padStart(2, "0")
}
