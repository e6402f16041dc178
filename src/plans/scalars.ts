import { z } from "zod"
import type { Expected, RowExpectation } from "./plan.ts"

// A message that begins with "expected" is completed with what was found; see `issues.ts`.

const HOUR = 3_600_000
const UNITS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: HOUR, d: 24 * HOUR }

/** A mapping that has no other keys than these. The message lists them: `issues.ts` finds the nearest. */
export function strict<Shape extends z.core.$ZodLooseShape>(shape: Shape) {
  const known = Object.keys(shape).join(", ")
  return z.strictObject(shape, {
    error: (issue) => (issue.code === "unrecognized_keys" ? known : `expected a mapping with the keys ${known}`),
  })
}

export function text(what = "text") {
  const error = `expected ${what}`
  return z.string({ error }).refine((value) => value.trim() !== "", { error: `expected ${what} that is not empty` })
}

export function matching(pattern: RegExp, what: string) {
  const error = `expected ${what}`
  return z.string({ error }).regex(pattern, { error })
}

export function whole(min: number, max: number, what = "a whole number") {
  const error = `expected ${what} from ${min} to ${max}`
  return z.int({ error }).min(min, { error }).max(max, { error })
}

export function choice<const Values extends readonly [string, ...string[]]>(values: Values) {
  return z.enum(values, { error: `expected ${listWords(values)}` })
}

export const flag = z.boolean({ error: "expected true or false" })

export function listOf<Item extends z.ZodType>(item: Item, what: string) {
  return z.array(item, { error: `expected a list of ${what}` })
}

/** A list that has something in it. */
export function someOf<Item extends z.ZodType>(item: Item, what: string) {
  return listOf(item, what).min(1, { error: `expected a list of ${what} that is not empty` })
}

export function mappingOf<Key extends z.ZodString, Value extends z.ZodType>(key: Key, value: Value, what: string) {
  return z.record(key, value, {
    error: (issue) => (issue.code === "invalid_key" ? keyError(issue) : `expected a mapping of ${what}`),
  })
}

/** What is wrong with a key is said by the schema of the key, one level down. */
function keyError(issue: { issues?: unknown }): string {
  const [first] = Array.isArray(issue.issues) ? (issue.issues as { message?: string }[]) : []
  return first?.message ?? "expected another name"
}

/** "a, b or c" */
export function listWords(words: readonly string[]): string {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`
}

/** `90s`, `15m`, `2h`, `800ms`, `30d` -> milliseconds. */
export function duration(maxMs = 365 * 24 * HOUR) {
  return matching(/^[0-9]{1,9}(?:ms|s|m|h|d)$/, "a duration such as 800ms, 90s, 15m, 2h or 30d")
    .transform((written) => Number.parseInt(written, 10) * (UNITS[written.replace(/^[0-9]+/, "")] ?? Number.NaN))
    .refine((ms) => ms > 0, { error: "expected a duration longer than nothing" })
    .refine((ms) => ms <= maxMs, { error: `expected a duration of at most ${maxMs / HOUR}h` })
}

/** `2%` -> 0.02 */
export function share() {
  const what = "a share such as 2% or 0.5%, at most 100%"
  return matching(/^[0-9]{1,3}(?:\.[0-9]+)?%$/, what)
    .transform((written) => Number.parseFloat(written) / 100)
    .refine((fraction) => fraction <= 1, { error: `expected ${what}` })
}

/** `1.5x` -> 1.5 */
export const factor = matching(/^[0-9]{1,4}(?:\.[0-9]+)?x$/, "a factor such as 1.5x")
  .transform((written) => Number.parseFloat(written))
  .refine((value) => value > 1, { error: "expected a factor above 1x" })

const ROWS = "a number of rows, a range such as 1..5, or rehearsed"
export const rows = z
  .union(
    [
      z.int({ error: `expected ${ROWS}` }).min(0, { error: `expected ${ROWS}` }),
      matching(/^(?:rehearsed|[0-9]{1,15}\.\.[0-9]{1,15})$/, ROWS),
    ],
    { error: `expected ${ROWS}` },
  )
  .transform(toRowExpectation)
  .refine((value) => value.kind !== "range" || value.min <= value.max, {
    error: "expected a range whose first number is not above its second",
  })

function toRowExpectation(written: number | string): RowExpectation {
  if (typeof written === "number") return { kind: "range", min: written, max: written }
  if (written === "rehearsed") return { kind: "rehearsed", tolerance: null }
  const [min, max] = written.split("..").map(Number)
  return { kind: "range", min: min ?? 0, max: max ?? 0 }
}

/** `/…/` -> the source between the slashes. */
export const pattern = matching(
  /^\/[\s\S]+\/$/,
  "a regular expression between slashes, such as /^ok/ (no flags after it; write (?i:…) inside)",
)
  .transform((written) => written.slice(1, -1))
  .check((context) => addPatternProblem(context, context.value))

/** A literal, `$name`, or `/…/`. */
export const expected = z
  .unknown()
  .transform(toExpected)
  .check((context) => {
    const { value } = context
    if (value.kind === "pattern") addPatternProblem(context, value.source)
    if (value.kind === "literal" && typeof value.value === "string" && /^\/.+\/[dgimsuvy]+$/.test(value.value))
      context.issues.push({
        code: "custom",
        message:
          "expected a regular expression without flags after it: write (?i:…) inside, or $name for a text like this",
        input: value.value,
      })
  })

function addPatternProblem(context: z.core.ParsePayload, source: string): void {
  try {
    RegExp(source)
  } catch (error) {
    const problem = error instanceof Error ? error.message.replace(/^Invalid regular expression: /, "") : String(error)
    const message = `the regular expression does not compile: ${problem}`
    context.issues.push({ code: "custom", message, input: context.value })
  }
}

function toExpected(written: unknown): Expected {
  if (typeof written !== "string") return { kind: "literal", value: written }
  const reference = /^\$([A-Za-z_][A-Za-z0-9_]*)$/.exec(written)
  if (reference?.[1]) return { kind: "ref", name: reference[1] }
  const isPattern = written.length > 2 && written.startsWith("/") && written.endsWith("/")
  return isPattern ? { kind: "pattern", source: written.slice(1, -1) } : { kind: "literal", value: written }
}

/** Under these every mapping of JavaScript has something: a step of such a name was taken for one that is skipped. */
const isFree = (word: string) => !(word in Object.prototype)
const taken = "expected another name: this one is a word of JavaScript's own"

export const identifier = matching(
  /^[A-Za-z0-9][A-Za-z0-9_-]{0,59}$/,
  "an id of letters, digits, hyphens and underscores that begins with a letter or a digit",
).refine(isFree, { error: taken })
export const name = matching(/^[A-Za-z_][A-Za-z0-9_]{0,59}$/, "a name of letters, digits and underscores").refine(
  isFree,
  { error: taken },
)
/** What is written instead of `${NAME}` may be the secret itself: the message does not repeat it. */
export function secretly(pattern: RegExp, error: string) {
  return z.string({ error }).regex(pattern, { error })
}

export const column = z.string({ error: "expected a column name" }).min(1, { error: "expected a column name" })
export const table = matching(
  /^[A-Za-z_][A-Za-z0-9_$]*(?:\.[A-Za-z_][A-Za-z0-9_$]*)?$/,
  "a table name such as profiles or public.profiles",
)
export const pointer = matching(/^(?:\/(?:[^~]|~[01])*)?$/, 'a JSON pointer, which begins with "/"')

const member = matching(/^[UWS][A-Z0-9]{1,20}$/, "the id of a user (U… or W…) or of a user group (S…), not a name")
export const members = listOf(member, "user and user-group ids")

const AUDIENCE = "expected anyone, or a list of user ids (U…, W…) and user-group ids (S…) that is not empty"
/** `anyone`, or a list that names somebody. */
export const audience = z.union([z.literal("anyone", { error: AUDIENCE }), members.min(1, { error: AUDIENCE })], {
  error: AUDIENCE,
})
export const channel = matching(/^[CG][A-Z0-9]{1,20}$/, "the id of a channel (C…), not its name")
