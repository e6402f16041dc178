import type { Pool } from "pg"
import { prologue, statement, withClient } from "./target.ts"

/** Removes what a run kept in its target: archives and before-images. Its ledger entries stay. Gives the number of rows. */
export async function forgetRun(pool: Pool, rollbackId: string): Promise<number> {
  return withClient(pool, async (client) => {
    await client.query(prologue({ timeoutMs: 120_000 }))
    const { rows } = await client.query<{ name: string }>(
      "delete from stepback_ledger.archives where rollback_id = $1 returning name",
      [rollbackId],
    )
    let removed = 0
    for (const { name } of rows) {
      const counted = await client.query<{ rows: number }>(`select count(*)::int as rows from ${name}`)
      removed += counted.rows[0]?.rows ?? 0
      await client.query(`drop table ${name}`)
    }
    const images = await statement(client, "delete from stepback_ledger.before_images where rollback_id = $1", [
      rollbackId,
    ])
    await client.query("commit")
    return removed + (images.rowCount ?? 0)
  })
}
