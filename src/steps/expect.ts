import { isDeepStrictEqual } from "node:util"
import type { Expected } from "../plans/plan.ts"
import { patternOf, type Values } from "../plans/values.ts"
import { losesDigits, plain } from "../plans/digits.ts"
import { shorten } from "./shown.ts"

/** A value as text: what a person would compare. */
export function textOf(value: unknown): string {
  if (value === null || value === undefined) return "null"
  return typeof value === "string" ? value : value instanceof Date ? value.toISOString() : JSON.stringify(value)
}

/** Null when `value` is as expected; else a sentence, its values without secrets and then cut. Literals are compared as text too: "1" is 1, since SQL and URLs know no difference. */
export function mismatch(
  name: string,
  value: unknown,
  expected: Expected,
  values: Values,
  redact: (text: string) => string,
): string | null {
  const seen = textOf(value)
  const shown = value === "null" ? theWord : shorten(redact(seen))
  if (expected.kind === "pattern")
    return !isNothing(value) && patternOf(expected.source, values).test(seen)
      ? null
      : `${name} is ${shown}, expected to match /${expected.source}/`
  const wanted = expected.kind === "ref" ? values[expected.name] : expected.value
  if (wanted !== undefined && isSame(wanted, value)) return null
  if (expected.kind === "ref" && expected.number && !isNothing(value) && sameNumber(wanted, seen)) return null
  return `${name} is ${shown}, expected ${wanted === "null" ? theWord : shorten(redact(textOf(wanted)))}`
}

const theWord = 'the word "null"'

/** Null and what is not there are no text: no pattern fits them, and the word "null" is something else. */
function isNothing(value: unknown): boolean {
  return value === null || value === undefined
}

function isSame(wanted: unknown, value: unknown): boolean {
  if (isNothing(wanted) || isNothing(value)) return isNothing(wanted) && isNothing(value)
  return (
    textOf(wanted) === textOf(value) || sameList(wanted, value) || sameJson(wanted, value) || sameMeaning(wanted, value)
  )
}

/** Postgres's lists have the same items as its columns: numbers and moments as its own text. */
function sameList(wanted: unknown, value: unknown): boolean {
  if (!Array.isArray(wanted) || !Array.isArray(value)) return false
  return wanted.length === value.length && wanted.every((item, index) => isSame(item, value[index]))
}

/** Whatever the order of their keys: jsonb keeps none. */
function sameJson(a: unknown, b: unknown): boolean {
  return isDeepStrictEqual(a, b)
}

/** Numbers and moments arrive as Postgres's own text, with all their digits: both are compared as what they mean. */
function sameMeaning(wanted: unknown, value: unknown): boolean {
  if (typeof value !== "string" || value.trim() === "") return false
  if (typeof wanted === "number") return sameNumber(wanted, value)
  if (typeof wanted !== "string") return false
  const at = microseconds(wanted)
  return at !== null && at === microseconds(value)
}

function sameNumber(wanted: unknown, value: string): boolean {
  const [a, b] = [plain(String(wanted)), plain(value)]
  return a !== null && b !== null ? a === b : value.trim() !== "" && Number(value) === Number(wanted)
}

const moment = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,6}))?)?\s?(Z|[+-]\d\d(?::?\d\d)?)?$/

/** ISO and Postgres's own way of writing moments; without a zone they are UTC's, as those of our transactions are. */
function microseconds(text: string): bigint | null {
  const found = moment.exec(text.trim())
  if (!found) return null
  const [, day, time = "00:00", fraction = "", zone = "Z"] = found
  const offset = zone === "Z" ? zone : `${zone.slice(0, 3)}:${zone.slice(3).replace(":", "") || "00"}`
  const ms = Date.parse(`${day}T${time}${offset}`)
  return Number.isNaN(ms) ? null : BigInt(ms) * 1000n + BigInt(fraction.padEnd(6, "0"))
}

type Raw = { rawJSON(source: string): object }

/** A JSON document whose numbers keep all their digits: one that a double would round stands as its own text. */
export function parseExactly(body: string): unknown {
  // The text of a value, and values that are written as their text, are younger than the language's types.
  const keep = (_key: string, value: unknown, { source }: { source?: string } = {}) =>
    typeof value === "number" && source !== undefined && losesDigits(source, value)
      ? (JSON as unknown as Raw).rawJSON(source)
      : value
  return JSON.parse(body, keep) as unknown
}

/** RFC 6901: "" is the whole document, "/" its key "". Undefined when there is nothing. */
export function pointer(document: unknown, path: string): unknown {
  if (path === "") return document
  let at: unknown = document
  for (const raw of path.slice(1).split("/")) {
    const key = raw.replaceAll("~1", "/").replaceAll("~0", "~")
    if (at === null || typeof at !== "object" || !Object.hasOwn(at, key)) return undefined
    at = (at as Record<string, unknown>)[key]
  }
  return at
}
