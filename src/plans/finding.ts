import type { Problem } from "./plan.ts"
import type { WrittenComponent, WrittenPlan } from "./schema.ts"
import { locateInText } from "./sql-place.ts"
import type { WrittenStep } from "./step-schema.ts"
import { locate } from "./yaml-source.ts"
import type { Path, YamlSource } from "./yaml-source.ts"

/** Something wrong at a path of the plan. `position`: the character inside the SQL that stands there. */
export type Finding = { path: Path; message: string; want?: "key" | "value"; position?: number | null }

export type StepPlace = {
  componentId: string
  component: WrittenComponent
  step: WrittenStep
  index: number
  path: Path
}

/** All steps of a plan in the order of the file, each with its path. */
export function listSteps(plan: WrittenPlan): StepPlace[] {
  return Object.entries(plan.components).flatMap(([componentId, component]) =>
    component.steps.map((step, index) => {
      return { componentId, component, step, index, path: ["components", componentId, "steps", index] }
    }),
  )
}

export function toProblem(yaml: YamlSource, { path, message, want = "value", position }: Finding): Problem {
  const place = typeof position === "number" ? locateInText(yaml, path, position) : locate(yaml, path, want)
  return { file: yaml.file, ...place, message }
}
