import type { Expected } from "../plans/plan.ts"
import type { Values } from "../plans/values.ts"
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
  const shown = shorten(redact(seen))
  if (expected.kind === "pattern")
    return new RegExp(expected.source).test(seen) ? null : `${name} is ${shown}, expected to match /${expected.source}/`
  const wanted = expected.kind === "ref" ? values[expected.name] : expected.value
  if (wanted !== undefined && (textOf(wanted) === seen || sameJson(wanted, value) || sameMeaning(wanted, value)))
    return null
  return `${name} is ${shown}, expected ${shorten(redact(textOf(wanted)))}`
}

function sameJson(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}

/** A numeric arrives as text with all its digits, a timestamp as a moment: both are compared as what they mean. */
function sameMeaning(wanted: unknown, value: unknown): boolean {
  if (typeof wanted === "number") return typeof value === "string" && value.trim() !== "" && Number(value) === wanted
  return value instanceof Date && typeof wanted === "string" && Date.parse(wanted) === value.getTime()
}

/** RFC 6901. Undefined when there is nothing. */
export function pointer(document: unknown, path: string): unknown {
  if (path === "" || path === "/") return document
  let at: unknown = document
  for (const raw of path.slice(1).split("/")) {
    const key = raw.replaceAll("~1", "/").replaceAll("~0", "~")
    if (at === null || typeof at !== "object") return undefined
    at = (at as Record<string, unknown>)[key]
  }
  return at
}
