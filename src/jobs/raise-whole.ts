import type { Plans } from "../commands/ports.ts"
import { loadView, readRun } from "../commands/view.ts"
import type { Logger } from "../log.ts"
import { callingOf, wholeStanding } from "../rollback/escalation.ts"
import type { EscalationTrigger, RollbackView } from "../rollback/facts.ts"
import type { Store } from "../store/store.ts"

type Trouble = { key: string; trigger: EscalationTrigger; headline: (view: RollbackView) => string }

/** Calls about a rollback as a whole; false when it was called about already, or nobody is known to call. */
export async function raiseWhole(
  rollbackId: string,
  { key, trigger, headline }: Trouble,
  { store, plans, newId, log }: { store: Store; plans: Plans; newId(): string; log: Logger },
): Promise<boolean> {
  const rollback = await store.rollbacks.get(rollbackId)
  // Before its first look nothing is frozen: then it is the people of the plan as it is now.
  const rules =
    readRun(rollback)?.escalate ?? (await plans.load()).plans.get(rollback.environment)?.plan.escalate ?? null
  if (rules === null) return false
  const view = await loadView(store, rollback, { forecast: false })
  const raised = await store.records.raise(rollbackId, `${rollbackId}/${key}`, newId(), {
    trigger,
    stepId: null,
    headline: headline(view),
    ...wholeStanding(view),
    ...callingOf(rules),
  })
  if (raised) log.warn({ rollbackId, trigger }, "escalation raised")
  return raised
}
