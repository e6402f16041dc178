import { errorMessage, isPassing, LostLeaseError, takesNoWrites } from "../errors.ts"
import type { Logger } from "../log.ts"
import type { StepKind, StepOutcome } from "../rollback/facts.ts"
import type { Plans } from "../commands/ports.ts"
import type { TargetPools } from "../steps/target.ts"
import type { StoredRollback } from "../store/rows.ts"
import type { Store } from "../store/store.ts"
import { holdLease, leaseMs, type Lease } from "./lease.ts"
import { raiseWhole } from "./raise-whole.ts"
import { rehearseRollback } from "./rehearse.ts"
import { watchRto } from "./rto.ts"
import { runRollback } from "./run.ts"

/** What the jobs need. */
export type WorkDeps = {
  store: Store
  plans: Plans
  targets: TargetPools
  /** The worker's environment, of which plans may read what is theirs. */
  environment: Readonly<Record<string, string | undefined>>
  ring(kind: "rehearse" | "run", rollbackId: string): void
  wakeOutbox(): void
  newId(): string
  /** Whether approvers are still who may approve; null when nobody can tell now. */
  stillAllowed(userIds: string[], from: "anyone" | string[]): Promise<boolean | null>
  log: Logger
  /** For the figures. */
  stepEnded?(kind: StepKind, outcome: StepOutcome, ms: number): void
}

/**
 * In a row and in one process, so it is far more than a bad day has. Takeovers are no failures: a run that waits for people
 * outlives many workers.
 */
const failuresAtMost = 30

/** Does what there is to do for a rollback, if nobody else does: the same call for a first run and for a takeover. */
export function createWorkshop(deps: WorkDeps, workerId: string) {
  const inHand = new Map<string, Lease>()
  /** What goes on, from the question on whether the rollback is to be had: an end waits for that too. */
  const underway = new Set<Promise<void>>()
  const failures = createFailures(deps)
  let closing = false

  async function take(rollbackId: string): Promise<void> {
    const asked = performance.now()
    const claimed = await deps.store.runs.claim(rollbackId, workerId, leaseMs)
    if (!claimed) return
    // Asked to end meanwhile: another worker need not wait for the lease.
    if (closing) return deps.store.runs.release(claimed)
    const log = deps.log.child({ rollbackId, environment: claimed.environment, epoch: claimed.epoch })
    const lease = holdLease(
      claimed,
      deps.store,
      (runningMs) =>
        void watchRto(claimed, runningMs, deps).catch((err: unknown) => log.warn({ err }, "RTO check failed")),
      asked,
    )
    inHand.set(rollbackId, lease)
    try {
      if (claimed.state === "preparing") await rehearseRollback(claimed, lease.signal, { ...deps, log })
      else await runRollback(claimed, lease, () => closing, { ...deps, log })
      failures.forget(rollbackId)
    } catch (error) {
      if (error instanceof LostLeaseError || lease.lost()) log.info("rollback handed over")
      else {
        log.error({ err: error }, "work on a rollback was interrupted")
        await failures.count(claimed, error)
      }
    } finally {
      lease.end()
      inHand.delete(rollbackId)
      // After an end this changes nothing; after an interruption another worker need not wait for the lease.
      await deps.store.runs.release(claimed).catch(() => undefined)
    }
  }

  return {
    async work(rollbackId: string): Promise<void> {
      const mine = inHand.get(rollbackId)
      if (mine) return mine.check()
      if (closing) return
      const taken = take(rollbackId)
      underway.add(taken)
      await taken.finally(() => underway.delete(taken))
    },
    size: () => inHand.size,
    /** Lets the steps on their way end, for `graceMs`; then leaves them to another worker. */
    async close(graceMs: number): Promise<void> {
      closing = true
      const all = Promise.allSettled(underway)
      const timer = setTimeout(() => {
        for (const lease of inHand.values()) lease.abandon()
      }, graceMs)
      await all
      clearTimeout(timer)
    },
  }
}

function createFailures(deps: WorkDeps) {
  /** rollback -> how often work on it has failed since it last did not */
  const failures = new Map<string, number>()
  return {
    async count(claimed: StoredRollback, error: unknown): Promise<void> {
      // A run that is begun waits for its target however long that is away; a look that fails so often is asked for anew.
      if (claimed.state !== "preparing" && (isPassing(error) || takesNoWrites(error))) return
      const failed = (failures.get(claimed.id) ?? 0) + 1
      failures.set(claimed.id, failed)
      if (failed >= failuresAtMost && (await giveUp(claimed, error, deps))) failures.delete(claimed.id)
    },
    forget: (rollbackId: string) => void failures.delete(rollbackId),
  }
}

/** What fails each time it is taken up is ended, with its reason, instead of taken up for good. False when it was not ended. */
async function giveUp(claimed: StoredRollback, error: unknown, deps: WorkDeps): Promise<boolean> {
  const preparing = claimed.state === "preparing"
  const reason = `it could not be worked on: ${errorMessage(error)}`.slice(0, 500)
  const facts = { actor: "stepback", reason, epoch: claimed.epoch }
  const moved = await deps.store.rollbacks.move(claimed.id, preparing ? "cancelled" : "failed", facts).catch(() => null)
  if (moved?.kind === "moved" && !preparing) {
    // Once for each Retry, as what a run itself calls for.
    const key = `trouble/${claimed.generation}`
    const trouble = { key, trigger: "step_failed", headline: () => reason } as const
    await raiseWhole(claimed.id, trouble, deps).catch((err: unknown) => deps.log.warn({ err }, "call not raised"))
  }
  deps.wakeOutbox()
  return moved?.kind === "moved"
}

export type Workshop = ReturnType<typeof createWorkshop>
