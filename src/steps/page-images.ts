import type { PoolClient } from "pg"

/**
 * Whether transactions of this role can have the page images that they log compressed by lz4. After a checkpoint the server
 * logs each page whole at its first change, and rows that go are on nearly every page. Not where the server was built
 * without lz4 (before version 15 none had it), where its owner has chosen something else than "off", or where the role may
 * not: superusers may, and who was granted `set on parameter wal_compression`.
 */
export async function mayCompress(client: PoolClient): Promise<boolean> {
  const { rows } = await client.query<{ superuser: boolean }>(
    `select current_setting('is_superuser')::bool as superuser from pg_settings
     where name = 'wal_compression' and setting = 'off' and 'lz4' = any(enumvals)`,
  )
  const [found] = rows
  if (!found || found.superuser) return found !== undefined
  const { rows: granted } = await client.query<{ may: boolean }>(
    "select has_parameter_privilege('wal_compression', 'set') as may",
  )
  return granted[0]?.may === true
}
