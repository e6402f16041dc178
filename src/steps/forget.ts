import type { Pool, PoolClient } from "pg"
import { archiveName } from "./archive.ts"
import { prologue, statement, withClient } from "./target.ts"

const timeoutMs = 120_000

/**
 * Removes what a run kept in its target: archives and before-images. Its ledger entries stay. Gives the number of rows; null
 * when nothing was removed, since somebody goes on with it or wants it back by now.
 */
export async function forgetRun(
  pool: Pool,
  rollbackId: string,
  isOverdue = () => Promise.resolve(true),
): Promise<number | null> {
  return withClient(pool, (client) => forget(client, rollbackId, isOverdue), timeoutMs * 3)
}

async function forget(
  client: PoolClient,
  rollbackId: string,
  isOverdue: () => Promise<boolean>,
): Promise<number | null> {
  await client.query(prologue({ timeoutMs }))
  // No step of a Retry is on its way, and none begins before this has ended: what it would keep would go along.
  await statement(client, "select from stepback_ledger.fence where rollback_id = $1 for update", [rollbackId])
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
  // Last: it takes its time, and a process may have stood still.
  if (!(await isOverdue())) {
    await client.query("rollback")
    return null
  }
  await client.query("commit")
  return removed + (images.rowCount ?? 0)
}
