import type { Pool } from "pg"
import type { PurgeStep } from "../plans/plan.ts"
import type { StepResult } from "../rollback/facts.ts"
import type { RunKey } from "./ledger.ts"
import { splitName } from "./purge-counts.ts"
import { createProgress, readKept } from "./purge-progress.ts"
import { brokenOff } from "./purge-summary.ts"
import { failure } from "./step.ts"
import { looking } from "./target.ts"

/** How far a purge came that is not gone on with; null when it removed nothing. */
export async function purgedSoFar(step: PurgeStep, pool: Pool, key: RunKey): Promise<StepResult | null> {
  const kept = await looking(pool, step.timeoutMs, (client) => readKept(client, key, step.id))
  if (kept.batches.length === 0) return null
  const beginning = kept.beginning ?? { first: 0, leaves: [], pages: [] }
  const progress = createProgress(splitName(step.table).name, beginning, kept.batches, step.atMost)
  return brokenOff(
    step,
    progress,
    failure("stopped", "its worker was interrupted, and the run ended before it went on"),
  )
}
