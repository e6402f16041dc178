import { closest, distance } from "fastest-levenshtein"
import type { z } from "zod"
import { STEP_KINDS } from "./step-kinds.ts"
import type { Problem } from "./plan.ts"
import { listWords } from "./scalars.ts"
import { locate } from "./yaml-source.ts"
import type { Path, YamlSource } from "./yaml-source.ts"

type Issue = z.core.$ZodIssue

/** What the schema found, as sentences with places. */
export function describeIssues(yaml: YamlSource, issues: readonly Issue[]): Problem[] {
  return issues.flatMap((issue) => describeIssue(yaml, issue, issue.path))
}

function describeIssue(yaml: YamlSource, issue: Issue, path: Path): Problem[] {
  if (issue.code === "unrecognized_keys") {
    const known = issue.message.split(", ")
    return issue.keys.map((key) => place(yaml, [...path, key], describeUnknownKey(key, known), "key"))
  }
  if (issue.code === "invalid_union") return describeUnion(yaml, issue, path)
  if (issue.code === "invalid_key") return [place(yaml, path, `${issue.message}, found ${show(path.at(-1))}`, "key")]
  const found = valueAt(yaml.value, path)
  return [place(yaml, path, complete(issue.message, path, found), "value")]
}

function place(yaml: YamlSource, path: Path, message: string, want: "key" | "value"): Problem {
  return { file: yaml.file, ...locate(yaml, path, want), message }
}

/** Every branch of a union says what it misses; only the one that was meant helps. */
function describeUnion(yaml: YamlSource, issue: z.core.$ZodIssueInvalidUnion, path: Path): Problem[] {
  const found = valueAt(yaml.value, path)
  const isStep = issue.errors.length === STEP_KINDS.length
  if (isStep) return describeStep(yaml, issue, path)
  const meant = issue.errors.find((branch) => branch.length > 0 && branch.every((inner) => inner.path.length > 0))
  if (meant) return meant.flatMap((inner) => describeIssue(yaml, inner, [...path, ...inner.path]))
  return [place(yaml, path, complete(issue.message, path, found), "value")]
}

function describeStep(yaml: YamlSource, issue: z.core.$ZodIssueInvalidUnion, path: Path): Problem[] {
  const found = valueAt(yaml.value, path)
  if (!isMapping(found)) return [place(yaml, path, `expected a step, found ${show(found)}`, "value")]
  const kinds = STEP_KINDS.filter((kind) => Object.hasOwn(found, kind))
  const [kind, second] = kinds
  if (kind && second)
    return [
      place(
        yaml,
        [...path, second],
        `a step does one thing, found ${kinds.join(" and ")}: make each a step of its own`,
        "key",
      ),
    ]
  if (kind) {
    const branch = issue.errors[STEP_KINDS.indexOf(kind)] ?? []
    return branch.flatMap((inner) => describeIssue(yaml, inner, [...path, ...inner.path]))
  }
  const near = Object.keys(found).find((key) => findNear(key, STEP_KINDS) !== null)
  const hint = near ? `; did you mean ${findNear(near, STEP_KINDS)} instead of ${near}?` : ""
  const message = `the step does nothing: expected one of the keys ${listWords(STEP_KINDS)}${hint}`
  return [place(yaml, near ? [...path, near] : path, message, near ? "key" : "value")]
}

function describeUnknownKey(key: string, known: readonly string[]): string {
  const near = findNear(key, known)
  return near ? `unknown key "${key}"; did you mean "${near}"?` : `unknown key "${key}"; expected ${listWords(known)}`
}

/** The nearest of some names, unless it is too far to be what was meant. */
export function findNear(word: string, known: readonly string[]): string | null {
  if (known.length === 0 || word.length > 100) return null
  const near = closest(word.toLowerCase(), known)
  return distance(word.toLowerCase(), near) <= Math.max(1, Math.ceil(near.length * 0.4)) ? near : null
}

function complete(message: string, path: Path, found: unknown): string {
  if (!message.startsWith("expected ")) return message
  if (found === undefined) return `"${String(path.at(-1) ?? "")}" is missing: ${message}`
  const wantsText =
    !/number|true or false|mapping|list/.test(message) && /^(?:number|boolean|bigint)$/.test(typeof found)
  return `${message}, found ${show(found)}${wantsText && message.includes("text") ? "; put it in quotes" : ""}`
}

/** A value as a few words for a message. */
export function show(value: unknown): string {
  if (value === null || value === undefined) return "nothing"
  if (Array.isArray(value)) return value.length === 0 ? "an empty list" : "a list"
  if (typeof value === "string")
    return value === "" ? "empty text" : `"${value.length > 60 ? `${value.slice(0, 60)}…` : value}"`
  if (typeof value === "object") return "a mapping"
  return typeof value === "number" || typeof value === "boolean" ? `${value}` : typeof value
}

function valueAt(value: unknown, path: Path): unknown {
  return path.reduce<unknown>((parent, step) => {
    if (Array.isArray(parent)) return parent[Number(step)] as unknown
    return isMapping(parent) && Object.hasOwn(parent, step) ? parent[String(step)] : undefined
  }, value)
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value)
}
