import type { Problem } from "./plan.ts"

/** `plans/staging.yaml:34:7: message` */
export function formatProblem(problem: Problem): string {
  return `${problem.file}:${problem.line}:${problem.column}: ${problem.message}`
}
