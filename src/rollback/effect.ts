import type { StepResult, StepView } from "./facts.ts"

/** Whether a step did something to the world, or may have: what an undo has to do with. */
export function tookEffect(step: Pick<StepView, "kind" | "effect">, result: StepResult): boolean {
  if (step.effect === "none") return false
  // It met nothing, and kept nothing: there would be nothing to give back, which reads as if that had been lost.
  if (step.effect === "transactional" && result.outcome === "succeeded" && (result.rows ?? 0) === 0)
    return result.affected.length > 0
  // A purge that was broken off has removed rows all the same.
  if (result.outcome === "succeeded" || result.outcome === "unknown" || result.affected.length > 0) return true
  // What ran and failed may have done its work, or part of it.
  if (result.earlierEffect === true) return true
  const code = result.failure?.code ?? ""
  if (step.kind === "command") return /^(timed_out|stopped|exit_)/.test(code)
  // A run was seen: without one nothing was started.
  if (step.kind === "workflow") return result.evidence.length > 0
  // Done, and answered with another status or other words than expected; or given up on the way. 4xx and 503 refuse.
  return step.kind === "http" && /^(expectation|http_([23]|5(?!03)))/.test(code)
}
