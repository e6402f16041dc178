import { errorCode } from "../errors.ts"
import { createLogger } from "../log.ts"
import type { Plan } from "../plans/plan.ts"
import { initLedger } from "../steps/ledger.ts"
import { ledgerSql } from "../steps/ledger.sql.ts"
import { createSecrets } from "../steps/secrets.ts"
import { createTargetPools, identify, inSentence } from "../steps/target.ts"
import { readPlanArguments } from "./arguments.ts"
import { getPlan } from "./plans.ts"
import { createRedactor, missingVariables } from "./secrets.ts"
import { privilegesOf, tablesOf, type TableUse } from "./tables.ts"
import { CommandError, exitCodes, type Command } from "./terminal.ts"

const usage = "stepback target init ENV [--print]"

/** `target init ENV`: creates ledger and archive in the target; with `--print` says how, without touching anything. */
export const targetInit: Command = async ({ words, env, out }) => {
  const { environment, flags } = readPlanArguments(words, usage, ["print"])
  const loaded = await getPlan(environment, env)
  const { plan } = loaded
  const address = plan.target.postgres
  if (address === null)
    throw new CommandError(`The plan of ${environment} has no target.postgres, so there is no database to prepare.`)
  if (flags.has("print")) {
    out(`${ledgerSql}\n${roleSql(plan, await tablesOf(plan.components))}`)
    return exitCodes.good
  }
  const missing = missingVariables({ target: { ...plan.target, http: null }, components: [] }, env)
  if (missing.length > 0) throw new CommandError(missing.join("\n"))
  const redact = createRedactor(env, plan)
  const pools = createTargetPools(createLogger({ level: "silent", role: "worker" }))
  try {
    const pool = pools.get(createSecrets(env).resolve(address))
    const { fingerprint, closed } = await identify(pool, null)
    const expected = plan.target.expect.database
    if (closed) throw new CommandError(`${inSentence("The target", closed)}.`)
    if (expected !== null && expected !== fingerprint.database)
      throw new CommandError(`The target is database "${fingerprint.database}", and the plan expects "${expected}".`)
    await initLedger(pool)
    out(`Ledger and archive are in database "${fingerprint.database}", schema stepback_ledger.`)
    return exitCodes.good
  } catch (error) {
    if (error instanceof CommandError) throw error
    if (errorCode(error) === "42501")
      throw new CommandError(
        `This role may not create the ledger: let an owner run what \`stepback target init ${environment} --print\` prints.`,
      )
    throw new CommandError(
      `The target database could not be prepared: ${redact(error instanceof Error ? error.message : String(error))}`,
    )
  } finally {
    await pools.close()
  }
}

/** A role that may do what the plan's steps do and no more, as a comment: names and passwords are the owner's to choose. */
function roleSql(plan: Plan, tables: TableUse[]): string {
  const schemas = [...new Set(tables.map((table) => table.schema).filter((schema) => schema !== null))]
  const purges = plan.components.some((component) => component.steps.some((step) => step.kind === "purge"))
  const lines = [
    "A role with no more than this plan needs. Choose a name and a password, take the dashes away and run it as an owner.",
    "",
    "create role stepback login password 'choose one';",
    ...(plan.target.expect.database === null
      ? []
      : [`grant connect on database "${plan.target.expect.database.replaceAll('"', '""')}" to stepback;`]),
    // A purge archives into tables of its own.
    `grant usage${purges ? ", create" : ""} on schema stepback_ledger to stepback;`,
    ...ledgerGrants,
    ...schemas.map((schema) => `grant usage on schema "${schema.replaceAll('"', '""')}" to stepback;`),
    ...tables.map((table) => `grant ${privilegesOf(table).join(", ")} on ${table.relation} to stepback;`),
    "grant execute on function pg_control_system() to stepback; -- optional: tells a restored database from the one that was approved",
    "grant pg_read_all_stats to stepback; -- optional: tells who holds a lock that a step waits for, since when and in which statement",
    "",
    ...(purges ? purgeNotes : []),
    ...(tables.some(({ writes }) => writes.has("insert"))
      ? ["Where an INSERT leaves a column to its sequence (serial, nextval): grant usage on that sequence too."]
      : []),
    "Where other tables refer by a foreign key to rows that are removed, grant select on those tables too.",
    "Where one of these tables has row-level security: alter role stepback bypassrls;",
    "`stepback doctor` says what is missing.",
  ]
  return lines.map((line) => `-- ${line}`.trimEnd()).join("\n")
}

const purgeNotes = [
  "A purge writes to the partitions of a table by themselves: grant the same on each of them.",
  "From Postgres 15 on, where standbys have lz4 too, a superuser can make a purge quicker, and halve what it logs: grant set on parameter wal_compression to stepback;",
]

/** What was done is written once; what was kept for undo is removed when its time is over. Archive tables are the role's own. */
const ledgerGrants = [
  "grant select, insert, update on stepback_ledger.fence to stepback;",
  "grant select, insert, update (result) on stepback_ledger.entries to stepback; -- result: `stepback archive erase`",
  "grant select, insert, update, delete on stepback_ledger.before_images to stepback;",
  "grant select, insert, delete on stepback_ledger.archives to stepback;",
  "grant select, insert on stepback_ledger.erasures to stepback;",
]
