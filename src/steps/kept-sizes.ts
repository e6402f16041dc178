import type { Pool } from "pg"
import { plain } from "./erase.ts"
import { listArchives } from "./erase-find.ts"
import { looking } from "./target.ts"

/** Rows that one run keeps of one table. */
export type KeptSize = {
  rollbackId: string
  table: string
  what: "archived" | "before-images"
  rows: number
  bytes: number
}

/** Archives are read in full for it. */
const timeoutMs = 60_000

/** What each run keeps in a target, and what all of it takes there, indexes and dead rows included. */
export async function keptSizes(pool: Pool): Promise<{ sizes: KeptSize[]; bytes: number }> {
  return looking(pool, timeoutMs, async (client) => {
    const sizes: KeptSize[] = []
    for (const { name, relation, rollbackId } of await listArchives(client)) {
      const { rows } = await client.query<{ rows: number; bytes: number | null }>(
        `select count(*)::float8 as rows, sum(pg_column_size(a.*))::float8 as bytes from ${name} a`,
      )
      const { rows: count = 0, bytes = 0 } = rows[0] ?? {}
      if (count > 0)
        sizes.push({ rollbackId, table: plain(relation), what: "archived", rows: count, bytes: bytes ?? 0 })
    }
    const { rows } = await client.query<{ id: string; relation: string; rows: number; bytes: number }>(
      `select rollback_id::text as id, relation, count(*)::float8 as rows, sum(pg_column_size(i.*))::float8 as bytes
       from stepback_ledger.before_images i group by 1, 2`,
    )
    for (const { id, relation, ...size } of rows)
      sizes.push({ rollbackId: id, table: plain(relation), what: "before-images", ...size })
    return { sizes, bytes: (await client.query<{ bytes: number }>(ledgerBytes)).rows[0]?.bytes ?? 0 }
  })
}

/** Everything in the schema of ours. */
export const ledgerBytes = `select coalesce(sum(pg_total_relation_size(c.oid)), 0)::float8 as bytes from pg_class c
  join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'stepback_ledger' and c.relkind = 'r'`
