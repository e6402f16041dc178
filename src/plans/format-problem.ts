import type { Problem } from "./plan.ts"

/** `plans/staging.yaml:34:7: message`, one line whatever the message quotes. */
export function formatProblem(problem: Problem): string {
  return `${problem.file}:${problem.line}:${problem.column}: ${problem.message.replace(/\s*[\r\n]\s*/g, " ")}`
}
