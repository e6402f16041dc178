import { listSteps } from "./finding.ts"
import type { Finding, StepPlace } from "./finding.ts"
import { findNear } from "./issues.ts"
import { sortByNeeds } from "./order.ts"
import type { WrittenPlan } from "./schema.ts"
import { getEffect } from "./step-schema.ts"
import type { Path } from "./yaml-source.ts"

/** Ids and what refers to them: steps, components, `needs`, `success`, `watch`. */
export function checkNames(plan: WrittenPlan): Finding[] {
  const steps = listSteps(plan)
  return [
    ...checkStepIds(steps),
    ...checkComponents(plan),
    ...Object.keys(plan.components).flatMap((id) => checkStepNeeds(plan, id)),
    ...checkSuccess(plan, steps),
    ...checkWatch(plan, steps),
  ]
}

/** What always runs and needs what may not: a request that names nothing more is refused each time. */
export function warnNames({ components }: WrittenPlan): Finding[] {
  return Object.entries(components).flatMap(([id, { optional, needs }]) =>
    (optional === true ? [] : (needs ?? [])).flatMap((need, index): Finding[] => {
      if (components[need]?.optional !== true) return []
      const message = `"${id}" always runs and needs "${need}", which is optional: every request without --with ${need} is refused`
      return [{ path: ["components", id, "needs", index], message }]
    }),
  )
}

function checkStepIds(steps: readonly StepPlace[]): Finding[] {
  return steps.flatMap(({ step, path }, index) => {
    const first = steps.slice(0, index).find((other) => other.step.id === step.id)
    const message = `step id "${step.id}" is taken by a step of component "${first?.componentId}": ids are unique in the plan`
    return first ? [{ path: [...path, "id"], message }] : []
  })
}

function checkComponents(plan: WrittenPlan): Finding[] {
  const entries = Object.entries(plan.components)
  const path = ["components"]
  if (entries.length === 0) return [{ path, message: "expected at least one component" }]
  const ids = entries.map(([id]) => id)
  const findings = entries.flatMap(([id, component]) => [
    // JavaScript puts keys that are numbers first, which would change the order in which components run.
    ...(/^[0-9]+$/.test(id)
      ? [
          {
            path: [...path, id],
            message: `component id ${id}: expected an id with a letter in it`,
            want: "key" as const,
          },
        ]
      : []),
    ...(component.needs ?? []).flatMap((need, index) =>
      findUnknown(need, ids, "component", [...path, id, "needs", index]),
    ),
  ])
  if (entries.every(([, component]) => component.optional)) {
    findings.push({ path, message: "every component is optional: expected at least one that always runs", want: "key" })
  }
  const sorted = sortByNeeds(entries.map(([id, component]) => ({ id, needs: component.needs ?? [] })))
  if ("order" in sorted) return findings
  const [first = ""] = sorted.circle
  return [
    ...findings,
    { path: [...path, first, "needs"], message: `components wait for each other: ${sorted.circle.join(" → ")}` },
  ]
}

function checkStepNeeds(plan: WrittenPlan, componentId: string): Finding[] {
  const component = plan.components[componentId]
  if (!component) return []
  const path = ["components", componentId, "steps"]
  const ids = component.steps.map((step) => step.id)
  const all = listSteps(plan)
  const findings = component.steps.flatMap((step, index) =>
    (step.needs ?? []).flatMap((need, at): Finding[] => {
      const place = [...path, index, "needs", at]
      const other = all.find((candidate) => candidate.step.id === need)
      if (other && other.componentId !== componentId) {
        return [
          {
            path: place,
            message: `step "${need}" belongs to component "${other.componentId}": write needs: [${other.componentId}] on component "${componentId}"`,
          },
        ]
      }
      const isLater = ids.includes(need) && !component.parallel && ids.indexOf(need) >= index
      if (isLater)
        return [
          {
            path: place,
            message: `step "${need}" does not run before "${step.id}": move it up, or make the component parallel`,
          },
        ]
      return findUnknown(need, ids, "step", place)
    }),
  )
  const sorted = sortByNeeds(component.steps.map(({ id, needs = [] }) => ({ id, needs })))
  if ("order" in sorted || findings.length > 0) return findings
  const first = ids.indexOf(sorted.circle[0] ?? "")
  return [{ path: [...path, first, "needs"], message: `steps wait for each other: ${sorted.circle.join(" → ")}` }]
}

function checkSuccess(plan: WrittenPlan, steps: readonly StepPlace[]): Finding[] {
  const ids = steps.map(({ step }) => step.id)
  return (plan.success ?? []).flatMap(({ from }, index) =>
    from.flatMap((id, at): Finding[] => {
      const path = ["success", index, "from", at]
      const step = steps.find((place) => place.step.id === id)?.step
      const isEmpty = step && "check" in step && !step.expect?.rows && !step.expect?.values && !step.expect?.matches
      if (isEmpty) return [{ path, message: `check "${id}" expects nothing, so it is no evidence: give it an expect` }]
      return findUnknown(id, ids, "step", path)
    }),
  )
}

function checkWatch(plan: WrittenPlan, steps: readonly StepPlace[]): Finding[] {
  const { watch } = plan
  if (!watch) return []
  const ids = steps.map(({ step }) => step.id)
  const findings = watch.steps.flatMap((id, at): Finding[] => {
    const path = ["watch", "steps", at]
    const step = steps.find((place) => place.step.id === id)?.step
    if (!step || getEffect(step) === "none") return findUnknown(id, ids, "step", path)
    return [
      { path, message: `step "${id}" has an effect (${getEffect(step)}): a watch repeats steps of effect none only` },
    ]
  })
  const isTooSeldom = watch.every !== undefined && watch.every > watch.for
  return isTooSeldom
    ? [...findings, { path: ["watch", "every"], message: "expected a duration not longer than watch.for" }]
    : findings
}

function findUnknown(id: string, known: readonly string[], what: string, path: Path): Finding[] {
  if (known.includes(id)) return []
  const near = findNear(id, known)
  return [
    {
      path,
      message: `no ${what} is called "${id}"${near ? `; did you mean "${near}"?` : `; there are ${known.slice(0, 20).join(", ")}`}`,
    },
  ]
}
