import { setTimeout as pause } from "node:timers/promises"
import { errorMessage, isPassing, LostLeaseError } from "../errors.ts"
import { canonicalJson, type FrozenRun } from "../plans/frozen.ts"
import type { PlanComponent, PlanStep } from "../plans/plan.ts"
import type { StepResult, StepRun } from "../rollback/facts.ts"
import { endLeftover } from "../steps/command.ts"
import { runStep } from "../steps/definitions.ts"
import type { RunKey } from "../steps/ledger.ts"
import type { Secrets } from "../steps/secrets.ts"
import { failure, stepResult, type People, type RunContext } from "../steps/step.ts"
import type { Target } from "../steps/target.ts"
import type { StoredRollback } from "../store/rows.ts"
import { hashFilesOf } from "./freeze-run.ts"
import type { Lease } from "./lease.ts"
import type { WorkDeps } from "./work.ts"

/** Where a run stands. `captures` and `latest` grow as steps end. */
export type RunState = {
  rollback: StoredRollback
  run: FrozenRun
  key: RunKey
  target: Target
  secrets: Secrets
  captures: Record<string, string>
  latest: Map<string, StepRun>
  lease: Lease
  closing(): boolean
  failed: boolean
}

/** Runs a component's steps, one after the other or, when the plan says parallel, as soon as what they need is done. */
export async function runComponent(component: PlanComponent, state: RunState, deps: WorkDeps): Promise<void> {
  if (!component.parallel) {
    for (const step of component.steps) {
      if (!mayBegin(state)) return
      await settle(step, state, deps)
    }
    return
  }
  const running = new Map<string, Promise<boolean>>()
  for (const step of component.steps) {
    const needed = step.needs.map((need) => running.get(need) ?? Promise.resolve(true))
    running.set(
      step.id,
      Promise.all(needed).then(
        async (held) => held.every(Boolean) && mayBegin(state) && (await settle(step, state, deps)),
      ),
    )
  }
  const ended = await Promise.allSettled(running.values())
  const broken = ended.find((result) => result.status === "rejected")
  if (broken) throw broken.reason
}

function mayBegin(state: RunState): boolean {
  return !state.failed && !state.lease.stopRequested() && !state.closing() && !state.lease.lost()
}

/** Brings one step to its end and records it; true when what follows may rely on it. */
async function settle(step: PlanStep, state: RunState, deps: WorkDeps): Promise<boolean> {
  const before = state.latest.get(step.id)
  const held = before?.result?.outcome === "succeeded" || before?.result?.outcome === "skipped"
  const again = before?.result != null && before.generation < state.rollback.generation
  if (held) return true
  if (before?.result && !again) {
    if (step.onFailure !== "continue") state.failed = true
    return false
  }
  const attempt = (before?.attempt ?? 1) + (again ? 1 : 0)
  const started = performance.now()
  const result = await tryPatiently(step, again ? undefined : before, attempt, state, deps)
  if (state.lease.lost()) throw new LostLeaseError(state.rollback.id)
  const timed = result.ms > 0 ? result : { ...result, ms: Math.round(performance.now() - started) }
  await record(step, attempt, timed, state, deps)
  state.latest.set(step.id, {
    stepId: step.id,
    attempt,
    generation: state.rollback.generation,
    result: timed,
    startedAt: "",
    endedAt: null,
    skippedBy: null,
    skipReason: null,
  })
  Object.assign(state.captures, timed.captures)
  const good = timed.outcome === "succeeded" || timed.outcome === "skipped"
  if (!good && step.onFailure !== "continue") state.failed = true
  return good
}

/** What another try a moment later may cure: nothing of these took effect. */
const curable = new Set(["55P03", "40001", "40P01", "53300", "57014", "not_started"])
const retryEveryMs = 1_000

/** As often as the plan's `retries` say, for errors that retrying can cure. */
async function tryPatiently(
  step: PlanStep,
  before: StepRun | undefined,
  attempt: number,
  state: RunState,
  deps: WorkDeps,
): Promise<StepResult> {
  for (let tried = 1; ; tried++) {
    const result = await tryStep(step, before, attempt, state, deps)
    const again = result.outcome === "failed" && curable.has(result.failure?.code ?? "") && tried <= step.retries
    if (!again || state.lease.signal.aborted || state.closing())
      return tried === 1 ? result : { ...result, attempts: tried }
    await pause(retryEveryMs)
  }
}

/** The state database may be away for a while; a result that cannot be written yet is kept and written then. */
async function record(
  step: PlanStep,
  attempt: number,
  result: StepResult,
  state: RunState,
  deps: WorkDeps,
): Promise<void> {
  for (let wait = 50; ; wait = Math.min(wait * 2, 1_000)) {
    try {
      const { stop } = await deps.store.runs.recordStep(state.rollback.id, state.rollback.epoch, {
        id: step.id,
        attempt,
        result,
      })
      if (stop) state.lease.sawStop()
      deps.wakeOutbox()
      deps.log.info({ step: step.id, attempt, outcome: result.outcome, ms: result.ms }, "step ended")
      return
    } catch (error) {
      if (!isPassing(error) || state.lease.lost()) throw error
      await pause(wait)
    }
  }
}

async function tryStep(
  step: PlanStep,
  before: StepRun | undefined,
  attempt: number,
  state: RunState,
  deps: WorkDeps,
): Promise<StepResult> {
  const { rollback } = state
  const skip = state.run.skip[step.id]
  if (skip) return stepResult({ outcome: "skipped", skipped: skip, evidence: [`skipped: ${skip.reason}`] })
  try {
    const outside = step.effect === "keyed" || step.effect === "blind"
    // What a person is asked for is kept until it is answered: the next worker goes on waiting.
    if (before && step.effect === "blind" && step.kind !== "manual")
      return stepResult({
        outcome: "unknown",
        failure: failure(
          "interrupted",
          "the worker was interrupted while this ran; whether it took effect is not known: look, then retry or skip",
        ),
      })
    if (before && endLeftover(await deps.store.runs.findProcess(rollback.id, step.id, attempt)))
      deps.log.warn({ step: step.id }, "a leftover process of an earlier worker was ended")
    if (step.kind === "command") {
      const files = await hashFilesOf(step, state.secrets)
      if (canonicalJson(files) !== canonicalJson(state.run.files[step.id] ?? {}))
        return stepResult({
          outcome: "failed",
          failure: failure("changed", "a file that this command runs is not the one that was approved"),
        })
    }
    if (outside || step.kind === "command")
      await deps.store.runs.recordIntent(rollback.id, rollback.epoch, step.id, attempt)
    return await runStep(step, { ...contextOf(step, attempt, state, deps), interrupted: before !== undefined })
  } catch (error) {
    if (error instanceof LostLeaseError) throw error
    return stepResult({ outcome: "failed", failure: failure("error", state.secrets.redact(errorMessage(error))) })
  }
}

function contextOf(step: PlanStep, attempt: number, state: RunState, deps: WorkDeps): RunContext {
  const { rollback, run, lease } = state
  return {
    rollbackId: rollback.id,
    environment: run.environment,
    values: { ...state.captures, ...run.parameters, ...run.commits[step.id] },
    secrets: state.secrets,
    target: state.target,
    redact: run.redact,
    signal: lease.signal,
    log: deps.log,
    key: state.key,
    attempt,
    rehearsed: run.rehearsal.steps.find((seen) => seen.stepId === step.id) ?? null,
    fingerprint: run.target.fingerprint,
    // By hash alone: which snapshot goes back is part of what was approved.
    baseline: { rules: null, newest: async () => null, find: (hash) => deps.store.baselines.find(hash), others: [] },
    recordProcess: (started) =>
      void deps.store.runs
        .recordProcess(rollback.id, step.id, attempt, started)
        .catch((err: unknown) => deps.log.warn({ err }, "process not recorded")),
    checkpoint: async () => {
      await lease.check()
      if (lease.lost()) throw new LostLeaseError(rollback.id)
    },
    closing: state.closing,
    since: rollback.created_at,
    people: peopleOf(step, attempt, state, deps),
  }
}

function peopleOf(step: PlanStep, attempt: number, { rollback }: RunState, deps: WorkDeps): People {
  const { confirmations } = deps.store
  return {
    ask: async (instruction, timeoutMs) => {
      const question = { id: deps.newId(), stepId: step.id, attempt, instruction, timeoutMs }
      const asked = await confirmations.ask(rollback.id, rollback.epoch, question)
      deps.wakeOutbox()
      return asked
    },
    look: confirmations.find,
    close: async (id, why) => {
      const closed = await confirmations.close(id, why)
      deps.wakeOutbox()
      return closed
    },
  }
}
