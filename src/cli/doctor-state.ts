import { errorMessage } from "../errors.ts"
import type { Logger } from "../log.ts"
import { createPool } from "../store/database.ts"
import { compareMigrations, mayCreate } from "../store/migrate.ts"
import { checkRights } from "../store/roles.ts"
import { bad, good, worthKnowing, type Finding } from "./finding.ts"

type Pool = ReturnType<typeof createPool>

/** The oldest Postgres that is tested with. */
const oldestVersion = 13

/** Stepback's own database: reachable, new enough, writable, at this version's tables. */
export async function checkState(url: string, redact: (text: string) => string, log: Logger): Promise<Finding[]> {
  const pool = createPool(url, { log, max: 2 })
  try {
    return [...(await checkServer(pool)), ...(await checkMigrations(pool))]
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
  const { rows } = await pool.query<{ database: string; version: number; standby: boolean }>(
    `select current_database() as database, current_setting('server_version_num')::int / 10000 as version,
       pg_is_in_recovery() as standby`,
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
  return findings
}

async function checkMigrations(pool: Pool): Promise<Finding[]> {
  const { missing, unknown } = await compareMigrations(pool)
  if (missing.length > 0)
    return [
      bad(
        `state database: not migrated yet (${missing.join(", ")})`,
        (await mayCreate(pool))
          ? "start Stepback once: it migrates by itself"
          : "this role may not: run `stepback state init` with the owner's DATABASE_URL",
      ),
    ]
  if (unknown.length > 0)
    return [bad(`state database: migrated by a newer Stepback (${unknown.join(", ")})`, "run that version here too")]
  return [good("state database: migrations are current"), ...(await checkRole(pool))]
}

async function checkRole(pool: Pool): Promise<Finding[]> {
  const { lacking, changesAudit } = await checkRights(pool)
  if (lacking.length > 0)
    return [
      bad(
        `state database: the role lacks ${lacking.join(", ")}`,
        "let the owner run what `stepback state init --print` prints",
      ),
    ]
  return [
    changesAudit
      ? worthKnowing(
          "state database: this role could change the audit; `stepback state init --print` makes one that cannot",
        )
      : good("state database: the role has what it needs and cannot change the audit"),
  ]
}
