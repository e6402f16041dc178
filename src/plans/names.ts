import type { PlanStep } from "./plan.ts"
import { namesIn } from "./values.ts"

/** Parameters and captures that a step uses. */
export function namesOf(step: PlanStep): string[] {
  switch (step.kind) {
    case "sql":
    case "purge":
      return step.params
    case "check":
      return [...step.params, ...refs(Object.values(step.expect.values))]
    case "http":
      return [
        ...namesIn(JSON.stringify([step.path, step.headers, step.json, step.body])),
        ...refs(Object.values(step.expect.json)),
      ]
    case "command":
      return [...step.command, ...(step.deployed ?? []), step.cwd ?? ""].flatMap(namesIn)
    case "workflow":
      return namesIn(JSON.stringify([step.ref, step.inputs]))
    case "manual":
      return namesIn(step.instruction)
    default:
      return []
  }
}

function refs(expected: readonly { kind: string; name?: string }[]): string[] {
  return expected.flatMap((item) => (item.kind === "ref" && item.name !== undefined ? [item.name] : []))
}
