import { closest, distance } from "fastest-levenshtein"
import type { Refusal } from "../rollback/refusals.ts"
import { namesOf } from "./names.ts"
import { readValue } from "./param-value.ts"
import type { Plan, PlanComponent } from "./plan.ts"

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
    const absent = [...component.needs, ...givers(component, plan)].find((need) => !ids.includes(need))
    if (absent !== undefined) return { refusal: { reason: "component_needs", component: component.id, needs: absent } }
  }
  return { components: inOrder(chosen) }
}

/** Components whose steps capture what the steps of this one use: without them it would fail in the middle. */
function givers({ steps }: PlanComponent, plan: Plan): string[] {
  const used = new Set(steps.flatMap(namesOf))
  return plan.components
    .filter((other) =>
      other.steps.some((step) => "capture" in step && Object.keys(step.capture).some((name) => used.has(name))),
    )
    .map(({ id }) => id)
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
    const read = readValue(param.type, value)
    if ("expected" in read) return { refusal: { reason: "bad_parameter", name, given: value, ...read } }
    parameters[name] = read.value
  }
  return { parameters }
}
