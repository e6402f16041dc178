import { loadView, readRun } from "../commands/view.ts"
import type { Logger } from "../log.ts"
import { callingOf, wholeStanding } from "../rollback/escalation.ts"
import type { EscalationTrigger } from "../rollback/facts.ts"
import type { Store } from "../store/store.ts"

/** What people are told by time alone: approvers called again, a lost worker, an analysis that waits. */
export function telling({ store, newId, log }: { store: Store; newId(): string; log: Logger }) {
  async function raise(
    rollbackId: string,
    key: string,
    trigger: EscalationTrigger,
    headline: string,
  ): Promise<boolean> {
    const rollback = await store.rollbacks.get(rollbackId)
    const run = readRun(rollback)
    if (!run) return false
    const view = await loadView(store, rollback, { forecast: false })
    const raised = await store.records.raise(rollbackId, `${rollbackId}/${key}`, newId(), {
      trigger,
      stepId: null,
      headline,
      ...wholeStanding(view),
      ...callingOf(run.escalate),
    })
    if (raised) log.warn({ rollbackId, trigger }, "escalation raised")
    return raised
  }

  return {
    nudge: (afterMs: number): Promise<number> => store.waiting.nudge(afterMs),

    async lostWorkers(afterMs: number): Promise<number> {
      let told = 0
      for (const { id, epoch } of await store.waiting.listLost(afterMs)) {
        if (!(await raise(id, `lost/${epoch}`, "worker_lost", "no worker goes on with it: is one running?"))) continue
        told++
        // Taken in this very moment, it was over before it was said: who took it found nothing to end.
        if ((await store.rollbacks.get(id)).epoch !== epoch) await store.records.resolve(`${id}/lost/`)
      }
      return told
    },

    async nobodyApproved(): Promise<number> {
      let told = 0
      for (const id of await store.waiting.listExpiredUntold())
        if (await raise(id, "nobody", "nobody_approved", "nobody approved it in time, nothing was changed")) told++
      return told
    },

    /** Analyses that still wait for root cause or prevention. */
    remind: (): Promise<number> => store.analyses.remind(),
  }
}
