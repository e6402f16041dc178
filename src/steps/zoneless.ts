import type { PoolClient } from "pg"
import { qualified } from "./catalog.ts"
import { statement } from "./target.ts"

const query = `select distinct c.relname || '.' || a.attname as column from unnest($1::text[], $2::text[]) as named (relation, attname)
  join pg_class c on c.oid = to_regclass(named.relation)
  join pg_attribute a on a.attrelid = c.oid and a.attname = named.attname and not a.attisdropped
  where a.atttypid = 'timestamp'::regtype order by 1`

/** Columns that say nothing of their time zone and by which rows are chosen: the plan means UTC, the data may not. */
export async function zonelessColumns(client: PoolClient, sql: string): Promise<string[]> {
  // The parser takes 15 MB: it is there where statements are looked at, and not where a purge runs.
  const { listConditionColumns } = await import("../plans/statements.ts")
  const named = (await listConditionColumns(sql)).flatMap(({ schema, name, columns }) =>
    columns.map((column) => [qualified(schema, name), column] as const),
  )
  if (named.length === 0) return []
  const lists = [named.map(([relation]) => relation), named.map(([, column]) => column)]
  const { rows } = await statement(client, query, lists)
  return (rows as { column: string }[]).map(
    ({ column }) => `${column} has no time zone: rows are chosen by it as if it were UTC`,
  )
}
