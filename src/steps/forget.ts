import type { Pool, PoolClient } from "pg"
import { archiveName } from "./archive.ts"
import { prologue, statement, withClient } from "./target.ts"

const timeoutMs = 120_000

/** Removes what a run kept in its target: archives and before-images. Its ledger entries stay. Gives the number of rows. */
export async function forgetRun(pool: Pool, rollbackId: string): Promise<number> {
  return withClient(pool, (client) => forget(client, rollbackId), timeoutMs * 3)
}

async function forget(client: PoolClient, rollbackId: string): Promise<number> {
  await client.query(prologue({ timeoutMs }))
  const { rows } = await client.query<{ name: string }>(
    "delete from stepback_ledger.archives where rollback_id = $1 returning name",
    [rollbackId],
  )
  let removed = 0
  for (const name of rows.map((row) => archiveName(row.name))) {
    const counted = await client.query<{ rows: number }>(`select count(*)::int as rows from ${name}`)
    removed += counted.rows[0]?.rows ?? 0
    await client.query(`drop table ${name}`)
  }
  const images = await statement(client, "delete from stepback_ledger.before_images where rollback_id = $1", [
    rollbackId,
  ])
  await client.query("commit")
  return removed + (images.rowCount ?? 0)
}
