import { readdir, readFile } from "node:fs/promises"
import type { Pool, PoolClient } from "pg"
import { errorCode, StepbackError } from "../errors.ts"
import { inTransaction } from "./database.ts"
import { checkRights } from "./roles.ts"

const folder = new URL("./migrations/", import.meta.url)
/** Any number, the same in every process: who has it migrates, the others wait. */
const lockKey = 7_220_541
/** An index over years of audit takes longer than the statements of every day may, and so does the wait for who builds it. */
const longestMs = 3_600_000

/** What this version has and the state database lacks, and the other way round. */
export async function compareMigrations(pool: Pool): Promise<{ missing: string[]; unknown: string[] }> {
  const wanted = await listFiles()
  const applied = await pool
    .query<{ name: string }>("select name from stepback.migrations")
    .then(({ rows }) => rows.map((row) => row.name))
    .catch((error: unknown): string[] => {
      if (["42P01", "3F000"].includes(errorCode(error))) return []
      throw error
    })
  return {
    missing: wanted.filter((name) => !applied.includes(name)),
    unknown: applied.filter((name) => !wanted.includes(name)),
  }
}

/**
 * Brings the state database to this version. Safe to call from many processes at once. Asks for no right to change
 * tables when nothing is to be changed: the role that runs need not be the one that migrates.
 */
export async function migrate(pool: Pool): Promise<string[]> {
  let missing: string[] | null = null
  try {
    ;({ missing } = await compareMigrations(pool))
    if (missing.length > 0) return await apply(pool)
  } catch (error) {
    if (errorCode(error) !== "42501") throw error
    const what =
      missing === null
        ? "This role may not use Stepback's tables"
        : `The state database is not at this version (it lacks ${missing.join(", ")}), and this role may not change it`
    throw new StepbackError(
      "42501",
      `${what}: run \`stepback state init\` with the owner's DATABASE_URL, then what \`stepback state init --print\` prints, and start again.`,
      { cause: error },
    )
  }
  await refuseLacking(pool)
  return []
}

/** A right that came with an upgrade and was not given is missed at the start, not in the middle of a run. */
async function refuseLacking(pool: Pool): Promise<void> {
  const { lacking } = await checkRights(pool)
  if (lacking.length === 0) return
  throw new StepbackError(
    "42501",
    `This role lacks ${lacking.join(", ")}: let the owner of the tables run what \`stepback state init --print\` prints, and start again.`,
  )
}

/** Whether this role may create schemas, and so the queue's. */
export async function mayCreate(pool: Pool): Promise<boolean> {
  const { rows } = await pool.query<{ may: boolean }>(
    "select has_database_privilege(current_database(), 'create') as may",
  )
  return rows[0]?.may === true
}

async function listFiles(): Promise<string[]> {
  return (await readdir(folder)).filter((name) => name.endsWith(".sql")).sort()
}

async function apply(pool: Pool): Promise<string[]> {
  const files = await listFiles()
  return inTransaction(pool, async (client) => {
    await client.query(`set local statement_timeout = ${longestMs}`)
    await client.query(patiently(`select pg_advisory_xact_lock(${lockKey})`))
    await refuseEncoding(client)
    await client.query("create schema if not exists stepback")
    await client.query(
      "create table if not exists stepback.migrations (name text primary key, applied_at timestamptz not null default now())",
    )
    const { rows } = await client.query<{ name: string }>("select name from stepback.migrations")
    const done = new Set(rows.map((row) => row.name))
    const missing = files.filter((name) => !done.has(name))
    for (const name of missing) {
      await client.query(patiently(await readFile(new URL(name, folder), "utf8")))
      await client.query("insert into stepback.migrations (name) values ($1)", [name])
    }
    return missing
  })
}

/** Requests, reasons and our own texts have any character. Where a database does not know of encodings it takes them as they are. */
async function refuseEncoding(client: PoolClient): Promise<void> {
  const { rows } = await client.query<{ encoding: string }>("select current_setting('server_encoding') as encoding")
  const encoding = rows[0]?.encoding ?? ""
  if (["UTF8", "SQL_ASCII"].includes(encoding)) return
  throw new StepbackError(
    "encoding",
    `The state database's encoding is ${encoding}, which lacks characters that people write: create it with encoding 'UTF8'.`,
  )
}

/** The pool's own clock ends a query that is not answered, whatever the server allows it. */
const patiently = (text: string) => ({ text, query_timeout: longestMs })
