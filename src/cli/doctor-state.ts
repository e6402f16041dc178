import { readdir } from "node:fs/promises"
import { errorCode, errorMessage } from "../errors.ts"
import type { Logger } from "../log.ts"
import { createPool } from "../store/database.ts"
import { bad, good, type Finding } from "./finding.ts"

type Pool = ReturnType<typeof createPool>

const migrationsFolder = new URL("../store/migrations/", import.meta.url)
/** The oldest Postgres that is tested with. */
const oldestVersion = 13

/** Stepback's own database: reachable, new enough, writable, at this version's tables. */
export async function checkState(url: string, redact: (text: string) => string, log: Logger): Promise<Finding[]> {
  const pool = createPool(url, { log, max: 2 })
  try {
    return [...(await checkServer(pool)), await checkMigrations(pool)]
  } catch (error) {
    return [
      bad(
        `state database: ${redact(errorMessage(error))}`,
        "check DATABASE_URL, and that the server takes connections from here",
      ),
    ]
  } finally {
    await pool.end()
  }
}

async function checkServer(pool: Pool): Promise<Finding[]> {
  const { rows } = await pool.query<{ database: string; version: number; standby: boolean; creates: boolean }>(
    `select current_database() as database, current_setting('server_version_num')::int / 10000 as version,
       pg_is_in_recovery() as standby, has_database_privilege(current_database(), 'create') as creates`,
  )
  const [row] = rows
  if (row === undefined) return []
  const findings = [good(`state database: "${row.database}" answers`)]
  findings.push(
    row.version >= oldestVersion
      ? good(`state database: Postgres ${row.version}`)
      : bad(`state database: Postgres ${row.version} is too old`, `use version ${oldestVersion} or newer`),
  )
  if (row.standby)
    findings.push(bad("state database: it is a standby and takes no writes", "point DATABASE_URL at the primary"))
  if (!row.creates)
    findings.push(
      bad(
        "state database: the role may not create schemas in it",
        "grant create on the database to the role, or make the role its owner",
      ),
    )
  return findings
}

async function checkMigrations(pool: Pool): Promise<Finding> {
  const wanted = (await readdir(migrationsFolder)).filter((name) => name.endsWith(".sql")).sort()
  const applied = await pool
    .query<{ name: string }>("select name from stepback.migrations")
    .then(({ rows }) => rows.map((row) => row.name))
    .catch((error: unknown): string[] => {
      if (["42P01", "3F000"].includes(errorCode(error))) return []
      throw error
    })
  const missing = wanted.filter((name) => !applied.includes(name))
  const unknown = applied.filter((name) => !wanted.includes(name))
  if (missing.length > 0)
    return bad(`state database: not migrated yet (${missing.join(", ")})`, "start Stepback once: it migrates by itself")
  if (unknown.length > 0)
    return bad(`state database: migrated by a newer Stepback (${unknown.join(", ")})`, "run that version here too")
  return good("state database: migrations are current")
}
