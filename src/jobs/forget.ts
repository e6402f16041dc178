import { errorCode } from "../errors.ts"
import { readRun } from "../commands/view.ts"
import { forgetRun } from "../steps/forget.ts"
import { createSecrets } from "../steps/secrets.ts"
import { openTarget } from "./open-target.ts"
import type { WorkDeps } from "./work.ts"

/** Runs that are looked at in one turn. */
const atOnce = 10

/** Snapshots of each environment and name that are kept, beside those that a run may still need. */
const keptBaselines = 20

/** Removes what ended runs kept, after the time that their plans give, and says so in their threads. */
export async function forgetOverdue(deps: WorkDeps): Promise<void> {
  const pruned = await deps.store.baselines.prune(keptBaselines)
  if (pruned > 0) deps.log.info({ count: pruned }, "old baselines removed")
  for (const id of await deps.store.archives.listOverdue(atOnce)) {
    const run = readRun(await deps.store.rollbacks.get(id))
    if (!run) continue
    try {
      const { pool } = openTarget(run.target, createSecrets(deps.environment), deps.targets)
      const rows = pool === null ? 0 : await forgetRun(pool, id, () => deps.store.archives.isOverdue(id))
      if (rows === null) continue
      await deps.store.archives.markRemoved(
        id,
        `What this run kept (${rows} rows) was removed after ${keptFor(run.keepMs)}: it cannot be taken back any more`,
      )
      deps.wakeOutbox()
    } catch (error) {
      // A target without a ledger keeps nothing; any other trouble is tried again at the next turn.
      if (["42P01", "3F000"].includes(errorCode(error)))
        await deps.store.archives.markRemoved(id, "What this run kept is gone with its target")
      else deps.log.warn({ err: error, rollbackId: id }, "archive could not be removed")
    }
  }
}

const hourMs = 3_600_000

/** "30 days"; of what is kept for less than two, "6 hours". */
function keptFor(ms: number): string {
  const [count, unit] = ms < 48 * hourMs ? [Math.round(ms / hourMs), "hour"] : [Math.round(ms / (24 * hourMs)), "day"]
  return `${count} ${unit}${count === 1 ? "" : "s"}`
}
