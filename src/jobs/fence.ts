import { LostLeaseError } from "../errors.ts"
import type { PlanStep } from "../plans/plan.ts"
import type { FrozenRun } from "../plans/frozen.ts"
import { raiseFence, raiseStanding, standing } from "../steps/ledger.ts"
import { createSecrets } from "../steps/secrets.ts"
import type { Target } from "../steps/target.ts"
import type { StoredRollback } from "../store/rows.ts"
import { openTarget } from "./open-target.ts"
import type { RunState } from "./step-context.ts"
import type { WorkDeps } from "./work.ts"

type Pool = NonNullable<Target["pool"]>

/** Raises this run's fence in its target. */
export async function fence(pool: Pool, state: RunState, deps: WorkDeps, signal?: AbortSignal): Promise<void> {
  await compared(() => raiseFence(pool, state.key, signal), state, deps)
}

/** The same where one stands; false where none does. */
export async function fenceStanding(pool: Pool, state: RunState, deps: WorkDeps, signal?: AbortSignal) {
  return (await compared(() => raiseStanding(pool, state.key, signal), state, deps)) !== null
}

const forgotten =
  "The target knows this run from later than my database does: my database was put back to a backup, or lost its last moments. What the target's own record has of it is not repeated; requests and commands that may not be repeated and of which I have no record any more wait for somebody to look."

/**
 * A fence that no worker known to the state database can have raised: the run went on in what that database has forgotten.
 * It is written down, since a request or a command may have been sent then, and the run is taken anew.
 */
async function compared(raise: () => Promise<number | null>, state: RunState, deps: WorkDeps): Promise<number | null> {
  const { rollback } = state
  // What is found at a second attempt may be what the first one wrote.
  const first = !state.fenced
  state.fenced = true
  const { stood, lost } = await raise().then(
    (epoch) => ({ stood: epoch, lost: null }),
    (error: unknown) => {
      if (!(error instanceof LostLeaseError) || error.fence === null) throw error
      return { stood: error.fence, lost: error }
    },
  )
  if (lost === null && (!first || stood === null || stood <= rollback.run_epoch_before)) return stood
  if (await deps.store.forgotten.mark(rollback, stood ?? 0, forgotten)) {
    deps.log.warn({ fence: stood }, "the state database has forgotten a part of this run")
    deps.ring("run", rollback.id)
    deps.wakeOutbox()
  }
  throw lost ?? new LostLeaseError(rollback.id)
}

/**
 * Whether the run that is looked at again went on in what was forgotten: whoever approves reads it. A target that cannot be
 * asked now is asked when the run begins.
 */
export async function wentOn(
  { id, run_epoch: known }: Pick<StoredRollback, "id" | "run_epoch">,
  run: FrozenRun,
  deps: Pick<WorkDeps, "environment" | "targets" | "log">,
): Promise<string[]> {
  const { pool } = openTarget(run.target, createSecrets(deps.environment), deps.targets)
  if (pool === null || run.target.fingerprint === null) return []
  const found = await standing(pool, id).catch((err: unknown) => {
    deps.log.debug({ err }, "no fence could be looked for")
    return null
  })
  return found === null || found <= known ? [] : [ran]
}

const ran =
  "this has run already, after what my database knows: what the target has on record of it is not done again, requests and commands that may not be repeated wait for somebody to look"

/** Nothing is on record of it since a part of this run was forgotten: it may have been begun then. */
export function mayBeForgotten(step: PlanStep, { rollback: { forgotten_at: at }, latest }: RunState): boolean {
  if (at === null) return false
  const last = latest.get(step.id)
  if (last === undefined) return true
  return last.endedAt !== null && Date.parse(last.endedAt) < Date.parse(at)
}
