import type { PlanComponent } from "./plan.ts"
import { fill, missing, namesIn, type Values } from "./values.ts"

/**
 * A workflow is started by the name of a branch or tag: GitHub takes no commit there, and whether the name still means what
 * was approved is asked before. So it is written down here, where a parameter is not yet the commit that it stands for.
 */
export function nameRefs(components: readonly PlanComponent[], parameters: Values): PlanComponent[] {
  return components.map((component) => ({
    ...component,
    steps: component.steps.map((step) =>
      step.kind === "workflow" && missing(namesIn(step.ref), parameters).length === 0
        ? { ...step, ref: fill(step.ref, parameters).replaceAll("$", "$$$$") }
        : step,
    ),
  }))
}
