import type { Plans } from "../commands/ports.ts"
import type { Logger } from "../log.ts"
import { doneSteps } from "../rollback/escalation.ts"
import type { RollbackView } from "../rollback/facts.ts"
import { isLive, neverLookedAt } from "../rollback/states.ts"
import type { Store } from "../store/store.ts"
import { raiseWhole } from "./raise-whole.ts"

/** What people are told by time alone: approvers called again, a lost worker, an analysis that waits. */
export function telling(deps: { store: Store; plans: Plans; newId(): string; log: Logger }) {
  const { store, log } = deps
  /** What cannot be read of one rollback keeps nobody from being called about the others. */
  const raised = (id: string, trouble: Parameters<typeof raiseWhole>[1]) =>
    raiseWhole(id, trouble, deps).catch((err: unknown) => {
      log.warn({ err, rollbackId: id }, "call not raised")
      return false
    })
  return {
    nudge: (afterMs: number): Promise<number> => store.waiting.nudge(afterMs),

    async lostWorkers(afterMs: number): Promise<number> {
      let told = 0
      for (const { id, epoch } of await store.waiting.listLost(afterMs)) {
        const headline = () => "no worker goes on with it: is one running?"
        if (!(await raised(id, { key: `lost/${epoch}`, trigger: "worker_lost", headline }))) continue
        told++
        // Taken or ended in this very moment, it was over before it was said: who did that found nothing to end.
        const now = await store.rollbacks.get(id)
        if (now.epoch !== epoch || !isLive(now.state)) await store.records.resolve(`${id}/lost/`)
      }
      return told
    },

    async nobodyApproved(): Promise<number> {
      let told = 0
      for (const id of await store.waiting.listExpiredUntold())
        if (await raised(id, { key: "nobody", trigger: "nobody_approved", headline: expiredWords })) told++
      return told
    },

    /** Analyses that still wait for root cause or prevention. */
    remind: (): Promise<number> => store.analyses.remind(),
  }
}

/** It may have asked again in its middle: then the environment is in between. */
function expiredWords(view: RollbackView): string {
  const why = view.endReason === neverLookedAt ? neverLookedAt : "nobody approved it in time"
  return doneSteps(view).length === 0
    ? `${why}, nothing was changed`
    : `it asked again and ${why}: it is done in part, and stays so`
}
