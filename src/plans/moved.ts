import { canonicalJson, sha256, type FrozenRun } from "./frozen.ts"
import { nameRefs } from "./name-refs.ts"
import type { Plan, PlanComponent, PlanStep } from "./plan.ts"
import { resolveParameters, selectComponents, type Selection } from "./select.ts"

/** Names what a plan does: comments and layout of its file do not count, everything else does. */
export function planFingerprint(plan: Plan): string {
  return sha256(canonicalJson(plan))
}

/** What differs between a run that was shown and the plan as it is now, a line each. Never empty when they differ. */
export function whatMoved(run: FrozenRun, plan: Plan, selection: Selection): string[] {
  const selected = selectComponents(plan, selection)
  const parameters = resolveParameters(plan, selection.parameters)
  if ("refusal" in selected) return ["a component that was chosen is no longer in the plan"]
  if ("refusal" in parameters) return ["a parameter of the plan"]
  const moved = [
    ...movedParameters(run.parameters, parameters.parameters),
    ...movedSteps(run.components, nameRefs(selected.components, parameters.parameters)),
    ...(differ(run.target.postgres, plan.target.postgres) || differ(run.target.http, plan.target.http)
      ? ["the target"]
      : []),
    ...(movedPolicy(run, plan) ? ["who approves"] : []),
  ]
  return moved.length > 0 ? moved : ["the plan file"]
}

function movedPolicy(run: FrozenRun, plan: Plan): boolean {
  const rule = plan.approve[run.policy.risk]
  return differ({ count: rule.count, from: rule.from }, { count: run.policy.count, from: run.policy.from })
}

function movedParameters(shown: Record<string, string>, now: Record<string, string>): string[] {
  return [...new Set([...Object.keys(shown), ...Object.keys(now)])]
    .filter((name) => shown[name] !== now[name])
    .map((name) => `parameter ${name}: ${shown[name] ?? "none"} → ${now[name] ?? "none"}`)
}

function movedSteps(shown: PlanComponent[], now: PlanComponent[]): string[] {
  const before = byId(shown)
  const after = byId(now)
  const moved: string[] = []
  for (const [id, step] of before) {
    const other = after.get(id)
    if (!other) moved.push(`step ${id} is gone`)
    else if (differ(step, other)) moved.push(describe(step, other))
  }
  for (const id of after.keys()) if (!before.has(id)) moved.push(`step ${id} is new`)
  return moved
}

function describe(before: PlanStep, after: PlanStep): string {
  const parts = Object.keys({ ...before, ...after }).filter(
    (key) =>
      key !== "facts" && differ((before as Record<string, unknown>)[key], (after as Record<string, unknown>)[key]),
  )
  return `step ${before.id}: ${parts.join(", ")}`
}

function byId(components: PlanComponent[]): Map<string, PlanStep> {
  return new Map(components.flatMap((component) => component.steps.map((step) => [step.id, step] as const)))
}

function differ(a: unknown, b: unknown): boolean {
  return canonicalJson(a ?? null) !== canonicalJson(b ?? null)
}
