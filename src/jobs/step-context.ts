import { LostLeaseError } from "../errors.ts"
import type { FrozenRun } from "../plans/frozen.ts"
import type { PlanStep } from "../plans/plan.ts"
import type { StepRun } from "../rollback/facts.ts"
import type { RunKey } from "../steps/ledger.ts"
import type { Secrets } from "../steps/secrets.ts"
import type { People, RunContext } from "../steps/step.ts"
import type { Target } from "../steps/target.ts"
import type { StoredRollback } from "../store/rows.ts"
import { unusedKeys, type Keys } from "./keys.ts"
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
  /** This worker has tried to raise the fence: what stands there may be its own. */
  fenced: boolean
  closing(): boolean
  failed: boolean
  /** Somebody pressed "Stop here": what is asked beside that is not asked any more. */
  endsHere: boolean
  /** Steps that people want left out: asked of the approvers when what runs beside them has ended. */
  skips: StoredRollback["skips"]
  /** Components of which every step did what it should: what others may build on. */
  heldComponents: Set<string>
  /** step -> what earlier attempts make of the names of its outside effect. */
  keys: Map<string, Keys>
  /** step -> the run at GitHub that one of its attempts was told of last: attempts that never saw it may have come after. */
  workflowRuns: Map<string, number>
}

/** What a step is given in a run. */
export function contextOf(step: PlanStep, attempt: number, state: RunState, deps: WorkDeps): RunContext {
  const { rollback, run, lease } = state
  const keys = state.keys.get(step.id) ?? unusedKeys
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
    keyNumber: 1 + keys.spent,
    inDoubt: keys.doubt,
    workflowRun: state.workflowRuns.get(step.id) ?? null,
    rehearsed: run.rehearsal.steps.find((seen) => seen.stepId === step.id) ?? null,
    fingerprint: run.target.fingerprint,
    // By hash alone: which snapshot goes back is part of what was approved.
    baseline: { rules: null, newest: async () => null, find: (hash) => deps.store.baselines.find(hash), others: [] },
    recordProcess: (started) =>
      void deps.store.runs
        .recordProcess(rollback.id, rollback.epoch, step.id, attempt, started)
        .catch((err: unknown) => deps.log.warn({ err }, "process not recorded")),
    checkpoint: async () => {
      await lease.check()
      if (lease.lost()) throw new LostLeaseError(rollback.id)
    },
    stillOurs: lease.stillOurs,
    tell: (progress) =>
      void deps.store.runs
        .tellProgress(rollback.id, rollback.epoch, { id: step.id, attempt, progress })
        .then(deps.wakeOutbox, (err: unknown) => deps.log.warn({ err }, "progress not told")),
    closing: state.closing,
    endsHere: () => state.endsHere,
    since: rollback.created_at,
    people: peopleOf(step, attempt, state, deps),
  }
}

export function peopleOf(
  step: PlanStep,
  attempt: number,
  { rollback }: RunState,
  deps: WorkDeps,
  kind: "manual" | "failure" = "manual",
): People {
  const { confirmations } = deps.store
  return {
    ask: async (instruction, timeoutMs) => {
      const question = { id: deps.newId(), kind, stepId: step.id, attempt, instruction, timeoutMs }
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
