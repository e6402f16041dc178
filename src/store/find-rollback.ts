import type { Pool, PoolClient } from "pg"
import { rollbackColumns, rollbackRow, type StoredRollback } from "./rows.ts"

/** No row was moved: somebody was first, and this is how it stands now. */
export type Moved = { kind: "moved"; rollback: StoredRollback } | { kind: "not_moved"; rollback: StoredRollback | null }

export function parseRollback(row: unknown): StoredRollback {
  return rollbackRow.parse(row)
}

export async function one(client: Pool | PoolClient, where: string, values: unknown[]): Promise<StoredRollback | null> {
  const { rows } = await client.query(`select ${rollbackColumns} from stepback.rollbacks where ${where}`, values)
  return rows[0] === undefined ? null : parseRollback(rows[0])
}
