import type { Expected, PlanStep } from "./plan.ts"
import { namesIn, namesInPattern } from "./values.ts"

/** Parameters and captures that a step uses. */
export function namesOf(step: PlanStep): string[] {
  switch (step.kind) {
    case "sql":
    case "purge":
      return step.params
    case "check":
      return [...step.params, ...refs(Object.values(step.expect.values)), ...namesInPattern(step.expect.matches ?? "")]
    case "http":
      return [
        ...namesIn(JSON.stringify([step.path, step.headers, step.json, step.body])),
        ...refs(Object.values(step.expect.json)),
        ...namesInPattern(step.expect.matches ?? ""),
      ]
    case "command":
      return [
        ...[...step.command, ...(step.deployed ?? []), step.cwd ?? ""].flatMap(namesIn),
        ...[step.expect.stdout ?? "", ...Object.values(step.capture)].flatMap(namesInPattern),
      ]
    case "workflow":
      return namesIn(JSON.stringify([step.ref, step.inputs]))
    case "manual":
      return namesIn(step.instruction)
    default:
      return []
  }
}

function refs(expected: readonly Expected[]): string[] {
  return expected.flatMap(namesInExpected)
}

/** Names that an expectation refers to. */
export function namesInExpected(expected: Expected): string[] {
  if (expected.kind === "ref") return [expected.name]
  return expected.kind === "pattern" ? namesInPattern(expected.source) : []
}
