import type { Analysis, RollbackView } from "../rollback/facts.ts"
import { refuse, type Refused } from "../rollback/refusals.ts"
import type { Store } from "../store/store.ts"
import type { StoredRollback } from "../store/rows.ts"
import { analysisFacts, latestRuns } from "../rollback/analysis.ts"
import { describeWatch, measureOf } from "../rollback/watch.ts"
import { mayAct, tidy, type Actor, type Deps } from "./ports.ts"
import { loadView } from "./view.ts"

/** The analysis of an ended rollback: facts as of now, with what people filled in. Null while there is none. */
export async function loadAnalysis(
  store: Store,
  rollback: StoredRollback,
  view?: RollbackView,
): Promise<Analysis | null> {
  const stored = await store.records.findAnalysis(rollback.id)
  if (!stored) return null
  const seen = view ?? (await loadView(store, rollback))
  const facts = analysisFacts(seen)
  return {
    ...facts,
    auditHead: rollback.audit_head,
    auditEntries: rollback.audit_entries,
    rootCause: stored.rootCause,
    prevention: stored.prevention,
    followUps: stored.followUps,
    filledBy: stored.filledBy,
    watch: await watchLine(store, rollback, seen),
  }
}

async function watchLine(store: Store, rollback: StoredRollback, view: RollbackView): Promise<string | null> {
  const watch = await store.watches.find(rollback.id)
  if (!watch) return null
  if (!watch.ended) return "going on"
  const titles = new Map(
    view.components.flatMap((component) => component.steps.map((step) => [step.id, step.title] as const)),
  )
  const latest = latestRuns(view)
  const measures = new Map(
    Object.keys(watch.seen).map((id) => [
      id,
      measureOf(
        view.rehearsal?.steps.find((step) => step.stepId === id),
        latest.get(id)?.result ?? null,
      ),
    ]),
  )
  return describeWatch(titles, watch.seen, measures)
}

export async function fillAnalysis(
  rollbackId: string,
  filled: { rootCause: string; prevention: string; followUps: string },
  actor: Actor,
  deps: Deps,
): Promise<{ kind: "filled" } | Refused> {
  const rollback = await deps.store.rollbacks.find(rollbackId)
  if (!rollback) return refuse("fill", { reason: "old_card", number: null })
  const notAllowed = await mayAct(deps.people, actor.userId, "anyone")
  if (notAllowed) return refuse("fill", notAllowed)
  const text = (value: string) => (value.trim() === "" ? null : tidy(value, 3_000))
  await deps.store.records.fillAnalysis(rollbackId, actor.userId, {
    rootCause: text(filled.rootCause),
    prevention: text(filled.prevention),
    followUps: text(filled.followUps),
  })
  deps.wakeOutbox()
  return { kind: "filled" }
}
