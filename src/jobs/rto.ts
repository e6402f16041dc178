import { loadView } from "../commands/view.ts"
import type { FrozenRun } from "../plans/frozen.ts"
import type { PlanComponent } from "../plans/plan.ts"
import { callingOf, wholeStanding } from "../rollback/escalation.ts"
import type { EscalationFacts } from "../store/records.ts"
import type { StoredRollback } from "../store/rows.ts"
import { leaseMs } from "./lease.ts"
import type { RunState } from "./step-context.ts"
import type { WorkDeps } from "./work.ts"

/** At this share of its RTO the thread is told; at all of it the people on call are. */
const warnedShare = 0.8

/** Runs of which this process has told that they take longer than they may. */
const breached = new WeakSet<StoredRollback>()

/** Tells once each when most of the RTO is used and when it is over. `runningMs`: since the approval, on the database's clock. */
export async function watchRto(rollback: StoredRollback, runningMs: number | null, deps: WorkDeps): Promise<void> {
  if (rollback.frozen === null || runningMs === null || rollback.state !== "running") return
  const run = JSON.parse(rollback.frozen) as FrozenRun
  if (run.rtoMs === null || runningMs < run.rtoMs * warnedShare) return
  // After a Retry the clock runs anew.
  const { id, generation } = rollback
  if (runningMs <= run.rtoMs)
    return warn(id, `rto80/${generation}`, `of the RTO is used: ${seconds(runningMs)} of ${seconds(run.rtoMs)}`, deps)
  // Asked with every sign of life: it is raised once whoever asks, and need not be put together each time.
  if (breached.has(rollback)) return
  await breach(
    { rollback, key: `rto/${generation}`, run },
    `it takes longer than its RTO of ${seconds(run.rtoMs)}`,
    `${seconds(runningMs)} since the approval`,
    deps,
  )
  breached.add(rollback)
}

/** Timers cannot wait longer; a component does not run for that long. */
const longestMs = 2 ** 31 - 1

/** The same for one component, from its own start. Gives what ends the watching when the component has ended. */
export function watchComponentRto(component: PlanComponent, state: RunState, deps: WorkDeps): () => void {
  const { rtoMs, id, title } = component
  const { rollback, run } = state
  if (rtoMs === null || rtoMs > longestMs) return () => undefined
  const key = `part/${id}/${rollback.generation}`
  let breached = false
  const alreadyMs = ranBefore(component, state)
  const at = (share: number, tell: () => Promise<void>) =>
    setTimeout(
      () => void whileOurs(tell, state).catch((err: unknown) => deps.log.warn({ err }, "RTO check failed")),
      Math.max(0, rtoMs * share - alreadyMs),
    )
  const early = `of the RTO of "${title}" is used: ${seconds(rtoMs * warnedShare)} of ${seconds(rtoMs)}`
  const timers = [
    ...(alreadyMs < rtoMs
      ? [at(warnedShare, () => warn(rollback.id, `part80/${id}/${rollback.generation}`, early, deps))]
      : []),
    at(1, () => {
      breached = true
      const headline = `${title} takes longer than its RTO of ${seconds(rtoMs)}`
      const evidence = `it was going on for ${seconds(Math.max(rtoMs, alreadyMs))}`
      return breach({ rollback, key, run }, headline, evidence, deps)
    }),
  ]
  return () => {
    for (const timer of timers) clearTimeout(timer)
    if (!breached || !state.heldComponents.has(id)) return
    // The end of the run ends what this cannot.
    void deps.store.records
      .resolve(`${rollback.id}/${key}`)
      .catch((err: unknown) => deps.log.warn({ err }, "call not ended"))
  }
}

/** A timer of a process that stood still goes off when it wakes: then others know better. */
async function whileOurs(tell: () => Promise<void>, { lease }: RunState): Promise<void> {
  await lease.check()
  if (!lease.lost()) await tell()
}

/** How long earlier workers have been at it when this one claimed the run: both moments are the database's. */
function ranBefore(component: PlanComponent, { latest, rollback }: RunState): number {
  const starts = component.steps.flatMap((step) => {
    const run = latest.get(step.id)
    return run?.generation === rollback.generation ? [Date.parse(run.startedAt)] : []
  })
  const claimedAt = Date.parse(rollback.lease_until ?? "") - leaseMs
  return starts.length === 0 ? 0 : Math.max(0, claimedAt - Math.min(...starts))
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`
}

async function warn(id: string, key: string, text: string, deps: WorkDeps): Promise<void> {
  const whole = `${Math.round(warnedShare * 100)} % ${text}`
  await deps.store.outbox.enqueue(id, `${id}/${key}`, { kind: "text", text: whole })
  deps.wakeOutbox()
}

async function breach(
  about: { rollback: StoredRollback; key: string; run: FrozenRun },
  headline: string,
  evidence: string,
  deps: WorkDeps,
): Promise<void> {
  const { id } = about.rollback
  const standing = wholeStanding(await loadView(deps.store, about.rollback, { forecast: false }))
  const facts: EscalationFacts = {
    trigger: "rto_breached",
    stepId: null,
    headline,
    evidence: [evidence, ...standing.evidence],
    byHand: standing.byHand,
    ...callingOf(about.run.escalate),
  }
  const raised = await deps.store.records.raise(id, `${id}/${about.key}`, deps.newId(), facts, about.rollback.epoch)
  if (raised) deps.wakeOutbox()
}
