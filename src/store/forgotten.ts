import type { Pool } from "pg"
import type { Message } from "../rollback/facts.ts"
import { inTransaction } from "./database.ts"
import { storable, type StoredRollback } from "./rows.ts"

/** What this database does not know any more: it was put back to a backup, or its primary was lost with the last moments. */
export function forgottenStore(pool: Pool) {
  return {
    /**
     * The target's fence is one that no worker known here raised. Lets go of the run, so that it is taken with an epoch
     * above that. False when it is another worker's: then that one raised it.
     */
    mark: (
      { id, epoch, worker }: Pick<StoredRollback, "id" | "epoch" | "worker">,
      fence: number,
      text: string,
    ): Promise<boolean> =>
      inTransaction(pool, async (client) => {
        const { rowCount } = await client.query(
          `update stepback.rollbacks set forgotten_at = clock_timestamp(), epoch = greatest(epoch, $4),
             run_epoch = greatest(run_epoch, $4), lease_until = null, worker = null, due_at = now()
           where id = $1 and epoch = $2 and worker = $3 and state = 'running'`,
          [id, epoch, worker, fence],
        )
        if (rowCount !== 1) return false
        const told = storable({ kind: "text", text } satisfies Message)
        await client.query("select stepback.append_audit($1, 'forgotten', 'stepback', $2)", [id, storable({ fence })])
        await client.query("select stepback.enqueue($1, $2, $3)", [
          id,
          `${id}/forgotten/${Math.max(epoch, fence)}`,
          told,
        ])
        return true
      }),
  }
}
