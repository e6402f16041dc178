import { loadView } from "../commands/view.ts"
import type { FrozenRun } from "../plans/frozen.ts"
import { escalationsOf } from "../rollback/escalation.ts"
import type { StoredRollback } from "../store/rows.ts"
import type { WorkDeps } from "./work.ts"

type Trouble = Parameters<typeof escalationsOf>[2]["trouble"]

/**
 * Tells the people on call what went wrong, each thing once, however often it is looked at. Only while the run is ours: a
 * worker that was frozen would call for what another has brought to a good end since.
 */
export async function escalate(
  rollback: StoredRollback,
  run: FrozenRun,
  at: { state: "running" | "failed" | "stopped"; reason: string | null; trouble: Trouble },
  deps: WorkDeps,
): Promise<void> {
  const seen = await loadView(deps.store, rollback, { forecast: false })
  const view = { ...seen, state: at.state, endReason: at.reason }
  for (const { key, facts } of escalationsOf(view, run, { trouble: at.trouble }))
    await deps.store.records.raise(
      rollback.id,
      `${rollback.id}/${key}/${rollback.generation}`,
      deps.newId(),
      facts,
      rollback.epoch,
    )
}
