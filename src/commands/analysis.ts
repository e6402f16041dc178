import type { Analysis, RollbackView } from "../rollback/facts.ts"
import { refuse, type Refused } from "../rollback/refusals.ts"
import type { Store } from "../store/store.ts"
import type { StoredRollback } from "../store/rows.ts"
import { analysisFacts } from "../rollback/analysis.ts"
import { mayAct, tidy, type Actor, type Deps } from "./ports.ts"
import { loadView } from "./view.ts"

/** The analysis of an ended rollback: facts as of now, with what people filled in. Null while there is none. */
export async function loadAnalysis(store: Store, rollback: StoredRollback, view?: RollbackView): Promise<Analysis | null> {
  const stored = await store.records.findAnalysis(rollback.id)
  if (!stored) return null
  const facts = analysisFacts(view ?? (await loadView(store, rollback)))
  return {
    ...facts,
    auditHead: rollback.audit_head,
    auditEntries: rollback.audit_entries,
    rootCause: stored.rootCause,
    prevention: stored.prevention,
    followUps: stored.followUps,
    filledBy: stored.filledBy,
  }
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
