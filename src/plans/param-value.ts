import type { ParamType } from "./plan.ts"

/** Longer ones are cut where people read what they approve. */
const mostCharacters = 500

const patterns: Record<ParamType, { pattern: RegExp; expected: string }> = {
  string: {
    pattern: new RegExp(`^[^\\0]{0,${mostCharacters}}$`),
    expected: `text of at most ${mostCharacters} characters, without zero bytes`,
  },
  integer: { pattern: /^-?\d{1,18}$/, expected: "a whole number" },
  number: { pattern: /^-?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?$/, expected: "a number" },
  boolean: { pattern: /^(?:true|false)$/, expected: "true or false" },
  uuid: { pattern: /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i, expected: "a uuid" },
  // A leading hyphen would be an option of git; two dots are a range of commits.
  git_ref: { pattern: /^(?!-)(?!.*\.\.)[\w./@+#-]{1,200}$/, expected: "a branch, a tag or a commit" },
  timestamp: {
    pattern: /^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:Z|[+-]\d{2}(?::?\d{2})?)$/,
    expected: "a timestamp with time and zone, such as 2026-10-01T09:00:00Z",
  },
}

type Read = { value: string } | { expected: string }

/** A text as the value that is bound, or what was expected instead. Defaults and what people give are read alike. */
export function readValue(type: ParamType, text: string | null): Read {
  const { pattern, expected } = patterns[type]
  if (text === null || !pattern.test(text)) return { expected }
  return type === "timestamp" ? readTimestamp(text) : { value: text }
}

/** A column without a zone drops the offset of what it is compared with: in UTC there is none to lose. */
function readTimestamp(text: string): Read {
  const [, day = "", time = "", fraction = "", zone = ""] =
    /^([\d-]+)[T ](\d{2}:\d{2}(?::\d{2})?)(\.\d+)?(.+)$/.exec(text) ?? []
  const written = new Date(`${day}T${time.length === 5 ? `${time}:00` : time}Z`)
  if (Number.isNaN(written.getTime()) || !written.toISOString().startsWith(day))
    return { expected: "a day and a time that exist" }
  const [, sign = "+", hours = "0", minutes = "0"] = /^([+-])(\d{2}):?(\d{2})?$/.exec(zone) ?? []
  const offsetMs = (Number(hours) * 60 + Number(minutes)) * 60_000 * (sign === "-" ? -1 : 1)
  // As it was written, where that is UTC already: what was approved under it stays what it is.
  if (offsetMs === 0) return { value: text }
  return { value: `${new Date(written.getTime() - offsetMs).toISOString().slice(0, 19)}${fraction}Z` }
}
