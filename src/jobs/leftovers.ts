import { setTimeout as pause } from "node:timers/promises"
import { errorCode, errorMessage, isPassing, LostLeaseError } from "../errors.ts"
import { stepsOf } from "../plans/frozen.ts"
import type { PlanStep } from "../plans/plan.ts"
import type { StepResult } from "../rollback/facts.ts"
import { endLeftover } from "../steps/command.ts"
import { runStep } from "../steps/definitions.ts"
import { findEntry, listEntries } from "../steps/ledger.ts"
import { purgedSoFar } from "../steps/purge-left.ts"
import { failure, stepResult } from "../steps/step.ts"
import { fence, fenceStanding } from "./fence.ts"
import { leaseMs } from "./lease.ts"
import { interrupted, recordResult } from "./run-steps.ts"
import { contextOf, type RunState } from "./step-context.ts"
import type { WorkDeps } from "./work.ts"

type Pool = NonNullable<RunState["target"]["pool"]>

/** How long a target that is away is waited for by a run that only wants to end. */
const patienceMs = 15_000

/**
 * Before a run ends with steps that did not run: an earlier worker may have begun one of them outside of any transaction
 * and died before it could say so. However the run ends, each gets an outcome, and none of it goes on.
 */
export async function reportInterrupted(state: RunState, deps: WorkDeps): Promise<void> {
  for (const step of stepsOf(state.run)) if (hasBegun(step, state)) await reportBegun(step, state, deps)
}

/**
 * The same for what was done in the target: what its ledger has is reported, so that people hear of it and undo takes it
 * back. Gives what is in doubt, when the ledger could not be asked.
 */
export async function reportLeftovers(state: RunState, trouble: string | null, deps: WorkDeps): Promise<string | null> {
  const steps = stepsOf(state.run)
  const { pool } = state.target
  const open = steps.filter((step) => mayBeLeft(step, state))
  if (pool === null || open.length === 0) return null
  const started = performance.now()
  for (;;)
    try {
      // Whatever an earlier worker has on its way is over behind the fence. One that was frozen before it came as far as its
      // target finds the fence when it wakes: without one it would do there what is stopped here. What may be another target
      // than that of the run is not written to where no fence of it stands.
      if (trouble === null && !isFirst(state)) await fence(pool, state, deps)
      else if (!(await fenceStanding(pool, state, deps))) return null
      const done = await listEntries(pool, state.key.rollbackId)
      for (const step of open) if (done.has(step.id)) await report(step, pool, state, deps)
      return null
    } catch (error) {
      if (error instanceof LostLeaseError || state.lease.lost()) throw error
      const over = performance.now() - started > patienceMs || !isPassing(error)
      if (over && (noLedger.has(errorCode(error)) || isFirst(state))) return null
      if (over)
        return `whether all that was done is on record is not known: ${state.secrets.redact(errorMessage(error))}`
      await pause(500)
    }
}

/** Nobody worked on this run before: it was claimed when it began, both by the database's clock. */
function isFirst({ rollback: { started_at: startedAt, lease_until: leaseUntil } }: RunState): boolean {
  return Date.parse(leaseUntil ?? "") - leaseMs - Date.parse(startedAt ?? "") < 1_000
}

/** Its intent is on record and no result: whoever had it died. */
function hasBegun(step: PlanStep, { latest }: RunState): boolean {
  return step.effect !== "transactional" && latest.get(step.id)?.result === null
}

/** A question is closed, a workflow that was started is found and ended, of anything else nobody knows the outcome. */
async function reportBegun(step: PlanStep, state: RunState, deps: WorkDeps): Promise<void> {
  const attempt = state.latest.get(step.id)?.attempt ?? 1
  const context = { ...contextOf(step, attempt, state, deps), signal: AbortSignal.abort(), interrupted: true }
  if (step.kind === "manual" || step.kind === "workflow") {
    // As a token that this worker lacks: then nobody knows what became of it.
    const result = await runStep(step, context).catch((error: unknown) => {
      if (error instanceof LostLeaseError || isPassing(error)) throw error
      return { ...interrupted(), evidence: [state.secrets.redact(errorMessage(error))] }
    })
    return write(step, attempt, result, state, deps)
  }
  endLeftover(await deps.store.runs.findProcess(state.rollback.id, step.id, attempt))
  return write(step, attempt, step.effect === "none" ? endedWithRun() : interrupted(), state, deps)
}

/** What only looks is in doubt for nobody. */
function endedWithRun(): StepResult {
  const message = "its worker was interrupted while this ran, and the run ended before it was begun again"
  return stepResult({ outcome: "failed", failure: failure("stopped", message) })
}

/** There is no table, or no schema: nobody ever did anything there. */
const noLedger = new Set(["42P01", "3F000", "ledger_missing"])

/**
 * A step with a transaction in the target that did not come to a good end, and of which this generation has not heard, or
 * may not have heard all: one that asks what now is tried again within it.
 */
function mayBeLeft(step: PlanStep, { latest, rollback }: RunState): boolean {
  const before = latest.get(step.id)
  if (step.effect !== "transactional" || before?.result?.outcome === "succeeded") return false
  return before?.result == null || before.generation < rollback.generation || step.onFailure === "ask"
}

async function report(step: PlanStep, pool: Pool, state: RunState, deps: WorkDeps): Promise<void> {
  const before = state.latest.get(step.id)
  const result = step.kind === "purge" ? await purged(step, pool, state) : await done(step, pool, state)
  if (result === null) return
  const attempt = (before?.attempt ?? 1) + (before?.result == null ? 0 : 1)
  await write(step, attempt, result, state, deps)
}

async function write(
  step: PlanStep,
  attempt: number,
  result: StepResult,
  state: RunState,
  deps: WorkDeps,
): Promise<void> {
  await recordResult(step, attempt, result, state, deps)
  deps.log.warn({ step: step.id, attempt }, "a step of an earlier worker was reported at the end")
}

async function done(step: PlanStep, pool: Pool, { key }: RunState): Promise<StepResult | null> {
  return (await findEntry(pool, key, step.id))?.result ?? null
}

/** What it removed is told unless it was: an earlier attempt may have reported as much. */
async function purged(
  step: Extract<PlanStep, { kind: "purge" }>,
  pool: Pool,
  { key, latest }: RunState,
): Promise<StepResult | null> {
  const result = await purgedSoFar(step, pool, key)
  const told = latest.get(step.id)?.result?.rows ?? 0
  return (result?.rows ?? 0) > told ? result : null
}
