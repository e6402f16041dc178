import { setTimeout as pause } from "node:timers/promises"
import { LostLeaseError } from "../errors.ts"
import type { WorkflowStep } from "../plans/plan.ts"
import type { StepResult } from "../rollback/facts.ts"
import { GitHubProblem } from "./github.ts"
import { idInput, type Actions, type WorkflowRun } from "./github-actions.ts"
import { failure, stepResult, type RunContext } from "./step.ts"

export type Awaited = {
  actions: Actions
  runId: number
  ref: string
  id: string
  deadline: number
  issues: string[]
  /** Found by its name. */
  nameChecked: boolean
}

/** Polls slow down: a deployment takes minutes, and requests are counted. */
const firstPollMs = 250
const lastPollMs = 10_000
/** A run that was just started may not be readable at once. */
const settlingMs = 20_000
/** A cancelled run still cleans up. */
const cancelMs = 30_000

/** Awaits a run's end; cancels it when it must not go on. */
export async function awaitRun(awaited: Awaited, step: WorkflowStep, context: RunContext): Promise<StepResult> {
  const approved = context.rehearsed?.commit ?? null
  const began = performance.now()
  let etag: string | null = null
  let run: WorkflowRun | null = null
  for (let wait = firstPollMs; ; wait = Math.min(wait * 1.5, lastPollMs)) {
    if (context.signal.aborted) return stopRun(awaited, run, context)
    if (context.closing?.() === true) throw new LostLeaseError(context.rollbackId)
    try {
      const seen = await awaited.actions.run(awaited.runId, etag)
      etag = seen.etag
      run = seen.run ?? run
    } catch (error) {
      if (!(error instanceof GitHubProblem)) throw error
      const early = error.code === "github_404" && performance.now() - began < settlingMs
      if (!error.retryable && !early) return lostSight(error, run, awaited, step)
    }
    if (run !== null && approved !== null && run.headSha !== approved)
      return wrongCommit(awaited, run, approved, context)
    if (run?.status === "completed") return judge(awaited, run)
    if (performance.now() > awaited.deadline) return overdue(awaited, run, step, context)
    await pause(wait, undefined, { signal: context.signal }).catch(() => undefined)
  }
}

function evidenceOf(run: WorkflowRun | null, { ref }: Awaited): string[] {
  return run === null ? [] : [`run ${run.link}`, `at ${ref} (${run.headSha.slice(0, 7)})`]
}

async function judge(awaited: Awaited, run: WorkflowRun): Promise<StepResult> {
  const nameless =
    awaited.nameChecked || run.title.includes(awaited.id)
      ? []
      : [
          `the run's name lacks its id: put \${{ inputs.${idInput} }} into the workflow's run-name, so that it is found again after a crash`,
        ]
  const issues = [...awaited.issues, ...nameless]
  if (run.conclusion === "success") return stepResult({ evidence: evidenceOf(run, awaited), issues })
  const failures = await awaited.actions.listFailures(run.id).catch(() => ["which job failed could not be read"])
  return stepResult({
    outcome: "failed",
    evidence: [...evidenceOf(run, awaited), ...failures.slice(0, 10)],
    issues,
    failure: failure(
      `run_${run.conclusion ?? "unknown"}`,
      `the workflow ended with ${run.conclusion ?? "no conclusion"}${failures.length === 0 ? "" : `: ${failures[0]}`}`,
    ),
  })
}

/** Ends a run and sees its end; null when that could not be seen in time. Throws when the rollback is another worker's. */
async function cancelRun({ actions, runId }: Awaited, context: RunContext): Promise<WorkflowRun | null> {
  const until = performance.now() + cancelMs
  let asked = false
  while (performance.now() < until) {
    await context.checkpoint()
    try {
      if (!asked) await actions.cancel(runId)
      asked = true
      const { run } = await actions.run(runId)
      if (run?.status === "completed") return run
    } catch (error) {
      if (!(error instanceof GitHubProblem) || !error.retryable) throw error
    }
    await pause(500)
  }
  return null
}

/** The end of a run that was cancelled, in words; what cannot be ended is for a person to look at. */
async function ended(
  awaited: Awaited,
  run: WorkflowRun | null,
  context: RunContext,
): Promise<{ run: WorkflowRun | null; said: string; over: boolean }> {
  try {
    const last = await cancelRun(awaited, context)
    if (last === null) return { run, said: "it was told to end and still goes on: look at it", over: false }
    return {
      run: last,
      said: last.conclusion === "cancelled" ? "its run was cancelled" : `its run ended with ${last.conclusion ?? "?"}`,
      over: true,
    }
  } catch (error) {
    if (!(error instanceof GitHubProblem)) throw error
    return { run, said: `its run could not be cancelled: ${error.message}`, over: false }
  }
}

async function stopRun(awaited: Awaited, seen: WorkflowRun | null, context: RunContext): Promise<StepResult> {
  // The signal tells of a lost lease too: then the run belongs to the next worker.
  await context.checkpoint()
  const { run, said, over } = await ended(awaited, seen, context)
  if (run?.conclusion === "success") return judge(awaited, run)
  return stepResult({
    outcome: over ? "failed" : "unknown",
    evidence: evidenceOf(run, awaited),
    issues: awaited.issues,
    failure: failure("stopped", `stopped: ${said}`),
  })
}

async function overdue(
  awaited: Awaited,
  seen: WorkflowRun | null,
  step: WorkflowStep,
  context: RunContext,
): Promise<StepResult> {
  const { run, said, over } = await ended(awaited, seen, context)
  if (run?.conclusion === "success") return judge(awaited, run)
  const standing = seen?.status === "waiting" ? " (it waited for an approval at GitHub)" : ""
  return stepResult({
    outcome: over ? "failed" : "unknown",
    evidence: evidenceOf(run, awaited),
    issues: awaited.issues,
    failure: failure("timed_out", `did not end in ${step.timeoutMs / 1000} s${standing}: ${said}`),
  })
}

async function wrongCommit(
  awaited: Awaited,
  seen: WorkflowRun,
  approved: string,
  context: RunContext,
): Promise<StepResult> {
  const { run, said } = await ended(awaited, seen, context)
  return stepResult({
    outcome: "failed",
    evidence: evidenceOf(run, awaited),
    issues: awaited.issues,
    failure: failure(
      "moved",
      `it started at ${seen.headSha.slice(0, 7)}, and ${approved.slice(0, 7)} was approved: ${awaited.ref} moved in that moment; ${said}`,
    ),
  })
}

/** It was started, and can no longer be looked at. */
function lostSight(problem: GitHubProblem, run: WorkflowRun | null, awaited: Awaited, step: WorkflowStep): StepResult {
  return stepResult({
    outcome: "unknown",
    evidence: run === null ? [`run ${awaited.runId} of ${step.repo}`] : evidenceOf(run, awaited),
    issues: awaited.issues,
    failure: failure(problem.code, `the workflow was started and its end is not known: ${problem.message}`),
  })
}
