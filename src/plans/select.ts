import { closest, distance } from "fastest-levenshtein"
import type { Refusal } from "../rollback/refusals.ts"
import type { Plan, PlanComponent, PlanParam } from "./plan.ts"

/** What a person narrowed, widened or set on the command line. */
export type Selection = { only: string[] | null; with: string[]; parameters: Record<string, string> }

/** The nearest of `known`, when it is near enough to be a typo. */
export function nearest(given: string, known: readonly string[]): string | null {
  if (known.length === 0) return null
  const longer = known.filter(
    (name) =>
      name.toLowerCase().startsWith(given.toLowerCase()) || name.toLowerCase().endsWith(`-${given.toLowerCase()}`),
  )
  if (given.length >= 3 && longer.length === 1) return longer[0] as string
  const best = closest(given.toLowerCase(), [...known])
  return distance(given.toLowerCase(), best.toLowerCase()) <= Math.max(2, Math.floor(given.length / 3)) ? best : null
}

/** The components that run, in their order, or why not. */
export function selectComponents(
  plan: Plan,
  selection: Selection,
): { components: PlanComponent[] } | { refusal: Refusal } {
  const known = plan.components.map((component) => component.id)
  for (const given of [...(selection.only ?? []), ...selection.with])
    if (!known.includes(given))
      return { refusal: { reason: "unknown_component", given, nearest: nearest(given, known), known } }
  const chosen = plan.components.filter((component) =>
    selection.only === null
      ? !component.optional || selection.with.includes(component.id)
      : selection.only.includes(component.id) || selection.with.includes(component.id),
  )
  if (chosen.length === 0) return { refusal: { reason: "nothing_selected" } }
  const ids = chosen.map((component) => component.id)
  for (const component of chosen) {
    const absent = component.needs.find((need) => !ids.includes(need))
    if (absent !== undefined) return { refusal: { reason: "component_needs", component: component.id, needs: absent } }
  }
  return { components: inOrder(chosen) }
}

/** The plan's order, but nothing before what it needs. */
function inOrder(components: PlanComponent[]): PlanComponent[] {
  const ordered: PlanComponent[] = []
  const waiting = [...components]
  while (waiting.length > 0) {
    const next = waiting.findIndex((component) =>
      component.needs.every((need) => ordered.some((done) => done.id === need)),
    )
    // The plan's checks refused cycles.
    ordered.push(...waiting.splice(Math.max(0, next), 1))
  }
  return ordered
}

const patterns: Record<PlanParam["type"], { pattern: RegExp; expected: string }> = {
  string: { pattern: /^[^\u0000]{1,500}$/s, expected: "text" },
  integer: { pattern: /^-?\d{1,18}$/, expected: "a whole number" },
  number: { pattern: /^-?\d+(\.\d+)?$/, expected: "a number" },
  boolean: { pattern: /^(true|false)$/, expected: "true or false" },
  timestamp: {
    pattern: /^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}(:?\d{2})?)$/,
    expected: "a time with its zone, like 2026-10-01T09:30:00Z",
  },
  uuid: { pattern: /^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/i, expected: "a uuid" },
  // No leading dash: git would take it for an option.
  git_ref: { pattern: /^(?!-)[A-Za-z0-9._/@-]{1,200}$/, expected: "a commit, tag or branch" },
}

/** Values of the plan's parameters for one run, or why not. */
export function resolveParameters(
  plan: Plan,
  given: Record<string, string>,
): { parameters: Record<string, string> } | { refusal: Refusal } {
  const known = Object.keys(plan.params)
  for (const name of Object.keys(given))
    if (!known.includes(name))
      return { refusal: { reason: "unknown_parameter", given: name, nearest: nearest(name, known), known } }
  const parameters: Record<string, string> = {}
  for (const [name, param] of Object.entries(plan.params)) {
    const value = given[name] ?? param.default
    const { pattern, expected } = patterns[param.type]
    const fits = value !== null && pattern.test(value)
    const taken = fits && param.type === "timestamp" ? inUtc(value) : fits ? value : null
    if (taken === null) return { refusal: { reason: "bad_parameter", name, given: value ?? "nothing", expected } }
    parameters[name] = taken
  }
  return { parameters }
}

/**
 * A column without a zone drops the offset of what it is compared with: in UTC there is none to lose. Null for a day or
 * a time that does not exist.
 */
function inUtc(value: string): string | null {
  const [, day = "", time = "", fraction = "", zone = ""] =
    /^([\d-]+)[T ](\d{2}:\d{2}(?::\d{2})?)(\.\d+)?(.+)$/.exec(value) ?? []
  const written = new Date(`${day}T${time.length === 5 ? `${time}:00` : time}Z`)
  if (Number.isNaN(written.getTime()) || !written.toISOString().startsWith(day)) return null
  const [, sign = "+", hours = "0", minutes = "0"] = /^([+-])(\d{2}):?(\d{2})?$/.exec(zone) ?? []
  const offsetMs = (Number(hours) * 60 + Number(minutes)) * 60_000 * (sign === "-" ? -1 : 1)
  // As it was written, where that is UTC already: what was approved under it stays what it is.
  if (offsetMs === 0) return value
  return `${new Date(written.getTime() - offsetMs).toISOString().slice(0, 19)}${fraction}Z`
}
