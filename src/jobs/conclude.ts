import { stepsOf } from "../plans/frozen.ts"
import type { PlanStep } from "../plans/plan.ts"
import { errorCode } from "../errors.ts"
import { effectLost, firstTrouble, isBroken, wasStopped } from "../rollback/analysis.ts"
import type { StepResult, StepRun } from "../rollback/facts.ts"
import { listEntries } from "../steps/ledger.ts"
import { failure, stepResult } from "../steps/step.ts"
import { escalate } from "./escalate.ts"
import { leaseMs } from "./lease.ts"
import { watchRto } from "./rto.ts"
import type { RunState } from "./step-context.ts"
import type { WorkDeps } from "./work.ts"

/** The end: what the ledger says is compared with what was reported, trouble escalates, the analysis follows. */
export async function conclude(state: RunState, trouble: string | null, deps: WorkDeps): Promise<void> {
  const { rollback, run } = state
  const lost = trouble === null ? await lostEffects(state) : []
  const complete = everyStep(
    state,
    (stepRun) => stepRun?.result?.outcome === "succeeded" || stepRun?.result?.outcome === "skipped",
  )
  const titles = lost.map((step) => step.title)
  const reason =
    trouble ?? (lost.length > 0 ? `the target has lost what was done: ${titles.join(", ")}` : failedTitle(state))
  for (const step of lost) await recordLost(step, state, deps)
  const end =
    reason === null && complete ? "succeeded" : reason === null && state.lease.stopRequested() ? "stopped" : "failed"
  const alarm =
    trouble !== null
      ? ({ trigger: "step_failed", headline: trouble } as const)
      : lost.length > 0
        ? ({ trigger: "data_inconsistent", headline: reason ?? "" } as const)
        : null
  await watchAtEnd(state, deps)
  // A good end needs no look back.
  const fresh = end === "succeeded" ? rollback : await deps.store.rollbacks.get(rollback.id)
  if (end !== "succeeded")
    await escalate({ ...fresh, epoch: rollback.epoch }, run, { state: end, reason, trouble: alarm }, deps)
  const numbers = trouble === null && lost.length === 0 && !state.lease.stopRequested() ? newNumbers(state) : []
  // Nothing of that step was done: the approvers see the new numbers and decide again. Not after a Stop: it ends.
  const again =
    numbers.length > 0 &&
    (await deps.store.rollbacks.prepareAgain(rollback.id, ["running"], numbers, { epoch: rollback.epoch })).kind ===
      "moved"
  if (again) {
    deps.ring("rehearse", rollback.id)
    deps.wakeOutbox()
    deps.log.warn({ numbers }, "asked again with new numbers")
    return
  }
  await deps.store.runs.finish(rollback.id, rollback.epoch, {
    state: end,
    reason,
    by: end === "stopped" ? (fresh.stop_requested_by ?? "stepback") : "stepback",
    analysis: {},
    remindMs: run.remindMs,
    // What is not back is not watched.
    watchMs: end === "succeeded" ? (run.watch?.forMs ?? null) : null,
  })
  deps.wakeOutbox()
  deps.log.info({ number: rollback.number, state: end, reason }, "rollback ended")
}

/** Looked at by the clock alone, a breach in the last moments would not be met. */
async function watchAtEnd({ rollback, run }: RunState, deps: WorkDeps): Promise<void> {
  if (run.rtoMs === null) return
  const { held, runningMs } = await deps.store.runs.renew(rollback, leaseMs)
  if (held && (runningMs ?? 0) > run.rtoMs) await watchRto(rollback, runningMs, deps)
}

/** A step whose count was approved: another count is a question for the approvers. */
function asksForNumbers(step: PlanStep): boolean {
  return (
    step.kind === "restore" || ((step.kind === "purge" || step.kind === "sql") && step.expectRows.kind === "rehearsed")
  )
}

function isAboutNumbers({ failure }: StepResult): boolean {
  return ["row_count", "not_rehearsed"].includes(failure?.code ?? "")
}

/** Whether the approvers will be asked about this failure anyway. */
export function goesToApprovers(step: PlanStep, result: StepResult): boolean {
  return asksForNumbers(step) && isAboutNumbers(result)
}

/** Steps that stopped before their effect because their counts are not those that were approved. */
function newNumbers(state: RunState): string[] {
  // What nobody knows the outcome of is for a person first.
  if (!everyStep(state, (stepRun) => stepRun?.result?.outcome !== "unknown")) return []
  return state.run.components
    .flatMap((component) => component.steps)
    .filter(asksForNumbers)
    .flatMap((step) => {
      const latest = state.latest.get(step.id)
      const result = latest?.result
      const fresh = latest?.generation === state.rollback.generation
      const nothingDone = result?.outcome === "failed" && result.affected.length === 0
      return fresh && nothingDone && isAboutNumbers(result) ? [`${step.title}: ${result.failure?.message ?? ""}`] : []
    })
}

function failedTitle({ run, latest, lease }: RunState): string | null {
  const failed = stepsOf(run).flatMap(({ id, title, onFailure }) => {
    const result = latest.get(id)?.result
    // What Stop itself ended has not failed.
    if (!result || (wasStopped(result) && lease.stopRequested())) return []
    return isBroken(result) ? [{ title, goesOn: onFailure === "continue" }] : []
  })
  return firstTrouble(failed)?.title ?? null
}

/** It is not done any more: people see it, and Retry does it again. */
async function recordLost(step: PlanStep, { rollback, latest }: RunState, deps: WorkDeps): Promise<void> {
  const attempt = (latest.get(step.id)?.attempt ?? 0) + 1
  const result = stepResult({ outcome: "failed", failure: failure(effectLost, "the target has lost what this did") })
  await deps.store.runs.recordStep(rollback.id, rollback.epoch, { id: step.id, attempt, result })
}

/** Steps that were reported done and that the target's ledger no longer has: it was restored or failed over meanwhile. */
async function lostEffects(state: RunState): Promise<PlanStep[]> {
  if (!state.target.pool) return []
  const done = state.run.components
    .flatMap((component) => component.steps)
    .filter((step) => step.effect === "transactional" && state.latest.get(step.id)?.result?.outcome === "succeeded")
  if (done.length === 0) return []
  const entries = await listEntries(state.target.pool, state.rollback.id).catch((error: unknown) => {
    // A backup from before there was a ledger.
    if (["42P01", "3F000"].includes(errorCode(error))) return new Set<string>()
    throw error
  })
  return done.filter((step) => !entries.has(step.id))
}

/** Whether it holds for every step of the run; undefined stands for one that did not run. */
export function everyStep(state: RunState, holds: (run: StepRun | undefined) => boolean): boolean {
  return state.run.components.every((component) => component.steps.every((step) => holds(state.latest.get(step.id))))
}
