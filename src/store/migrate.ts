import { readdir, readFile } from "node:fs/promises"
import type { Pool } from "pg"
import { inTransaction } from "./database.ts"

const folder = new URL("./migrations/", import.meta.url)
/** Any number, the same in every process: who has it migrates, the others wait. */
const lockKey = 7_220_541

/** Brings the state database to this version. Safe to call from many processes at once. */
export async function migrate(pool: Pool): Promise<string[]> {
  const files = (await readdir(folder)).filter((name) => name.endsWith(".sql")).sort()
  return inTransaction(pool, async (client) => {
    await client.query("select pg_advisory_xact_lock($1)", [lockKey])
    await client.query("create schema if not exists stepback")
    await client.query(
      "create table if not exists stepback.migrations (name text primary key, applied_at timestamptz not null default now())",
    )
    const { rows } = await client.query<{ name: string }>("select name from stepback.migrations")
    const done = new Set(rows.map((row) => row.name))
    const missing = files.filter((name) => !done.has(name))
    for (const name of missing) {
      await client.query(await readFile(new URL(name, folder), "utf8"))
      await client.query("insert into stepback.migrations (name) values ($1)", [name])
    }
    return missing
  })
}
