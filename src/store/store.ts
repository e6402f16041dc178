import type { Pool } from "pg"
import { analysisStore } from "./analyses.ts"
import { approvalStore } from "./approvals.ts"
import { archiveStore } from "./archives.ts"
import { auditStore } from "./audit.ts"
import { baselineStore } from "./baselines.ts"
import { confirmationStore } from "./confirmations.ts"
import { byHandStore } from "./by-hand.ts"
import { erasureStore } from "./erasures.ts"
import { figureStore } from "./figures.ts"
import { forgottenStore } from "./forgotten.ts"
import { hookStore } from "./hooks.ts"
import { outboxStore } from "./outbox.ts"
import { recordStore } from "./records.ts"
import { rollbackStore } from "./rollbacks.ts"
import { runStore } from "./runs.ts"
import { waitingStore } from "./waiting.ts"
import { watchStore } from "./watches.ts"

/** Everything that Stepback remembers. */
export function createStore(pool: Pool) {
  return {
    rollbacks: rollbackStore(pool),
    approvals: approvalStore(pool),
    runs: runStore(pool),
    outbox: outboxStore(pool),
    records: recordStore(pool),
    hooks: hookStore(pool),
    analyses: analysisStore(pool),
    confirmations: confirmationStore(pool),
    audit: auditStore(pool),
    figures: figureStore(pool),
    forgotten: forgottenStore(pool),
    byHand: byHandStore(pool),
    archives: archiveStore(pool),
    erasures: erasureStore(pool),
    baselines: baselineStore(pool),
    waiting: waitingStore(pool),
    watches: watchStore(pool),
    /** Resolves when the database answers. */
    ping: async () => {
      await pool.query("select 1")
    },
    takesWrites: async () => {
      const { rows } = await pool.query<{ closed: boolean }>(
        "select current_setting('transaction_read_only')::boolean as closed",
      )
      return rows[0]?.closed === false
    },
  }
}

export type Store = ReturnType<typeof createStore>
