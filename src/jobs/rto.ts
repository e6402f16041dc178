import type { FrozenRun } from "../plans/frozen.ts"
import { callingOf } from "../rollback/escalation.ts"
import type { StoredRollback } from "../store/rows.ts"
import type { WorkDeps } from "./work.ts"

/** At this share of its RTO the thread is told; at all of it the people on call are. */
const warnedShare = 0.8

/** Tells once each when most of the RTO is used and when it is over. `runningMs`: since the approval, on the database's clock. */
export async function watchRto(rollback: StoredRollback, runningMs: number | null, deps: WorkDeps): Promise<void> {
  if (rollback.frozen === null || runningMs === null || rollback.state !== "running") return
  const run = JSON.parse(rollback.frozen) as FrozenRun
  if (run.rtoMs === null || runningMs < run.rtoMs * warnedShare) return
  const seconds = (ms: number) => `${Math.round(ms / 1000)} s`
  if (runningMs <= run.rtoMs) {
    await deps.store.outbox.enqueue(rollback.id, `${rollback.id}/rto80`, {
      kind: "text",
      text: `${Math.round(warnedShare * 100)} % of the RTO is used: ${seconds(runningMs)} of ${seconds(run.rtoMs)}`,
    })
    deps.wakeOutbox()
    return
  }
  const raised = await deps.store.records.raise(rollback.id, `${rollback.id}/rto`, deps.newId(), {
    trigger: "rto_breached",
    stepId: null,
    headline: `it takes longer than its RTO of ${seconds(run.rtoMs)}`,
    evidence: [`${seconds(runningMs)} since the approval`],
    byHand: null,
    ...callingOf(run.escalate),
  })
  if (raised) deps.wakeOutbox()
}
