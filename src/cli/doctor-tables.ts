import type { Plan } from "../plans/plan.ts"
import { findTable, firing, outside, triggerName } from "../steps/catalog.ts"
import { ledgerBytes } from "../steps/kept-sizes.ts"
import { withClient, type TargetPools } from "../steps/target.ts"
import { bytesInWords } from "./archive-target.ts"
import { bad, good, worthKnowing, type Finding } from "./finding.ts"
import { privilegesOf, type TableUse } from "./tables.ts"

type Pool = ReturnType<TargetPools["get"]>

/** What a run does there, as `ledgerGrants` of target-init.ts has it. To update some columns is enough. */
const ledgerQuery = `select need.name, need.privilege, c.oid is not null as present,
    case need.privilege when 'update' then has_any_column_privilege(c.oid, 'update')
      else has_table_privilege(c.oid, need.privilege) end as held
  from (values ('fence', 'select'), ('fence', 'insert'), ('fence', 'update'), ('entries', 'select'), ('entries', 'insert'),
      ('before_images', 'select'), ('before_images', 'insert'), ('before_images', 'update'), ('before_images', 'delete'),
      ('archives', 'select'), ('archives', 'insert'), ('archives', 'delete')) need (name, privilege)
    left join (pg_class c join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'stepback_ledger')
      on c.relname = need.name`

/** One row, and none where there is no ledger. */
const schemaQuery = `select has_schema_privilege(oid, 'usage') as used, has_schema_privilege(oid, 'create') as filled
  from pg_namespace where nspname = 'stepback_ledger'`

/** Who may write the list could name any table in it, and what is found here is pasted by an owner. */
const archivesOfOthers = `select current_user as role, a.name
  from stepback_ledger.archives a join (pg_class c join pg_namespace n on n.oid = c.relnamespace)
    on n.nspname || '.' || c.relname = a.name
  where a.name ~ '^stepback_ledger[.]archive_[0-9a-f]{32}$' and not pg_has_role(c.relowner, 'usage') order by a.name`

/** Ledger and archive: there, or this role can create them at the first run. */
export async function checkLedger(pool: Pool, { environment, components }: Plan): Promise<Finding[]> {
  const { rows: needs } = await pool.query<{ name: string; privilege: string; present: boolean; held: boolean }>(
    ledgerQuery,
  )
  const { rows: schemas } = await pool.query<{ used: boolean; filled: boolean }>(schemaQuery)
  const init = `let an owner run what \`stepback target init ${environment} --print\` prints`
  if (needs.some(({ present }) => !present)) return [await checkCreation(pool, environment, init)]
  const [schema] = schemas
  const purges = components.some(({ steps }) => steps.some(({ kind }) => kind === "purge"))
  const lacking = needs.filter(({ held }) => !held)
  const missing = [
    ...(schema?.used === true ? [] : ["usage on its schema"]),
    // A purge archives into tables of its own.
    ...(purges && schema?.filled !== true ? ["create on its schema"] : []),
    ...lacking
      .filter(({ privilege }) => privilege !== "delete")
      .map(({ name, privilege }) => `${privilege} on ${name}`),
  ]
  if (missing.length > 0)
    return [bad(`${environment}: the role may not write to the ledger: it lacks ${missing.join(", ")}`, init)]
  if (lacking.length > 0)
    return [bad(`${environment}: the role may not remove what was kept when its time is over`, init)]
  const size = bytesInWords(await sizeOf(pool))
  return [
    good(`${environment}: ledger and archive are there (${size}; \`archive list\` says of what)`),
    ...(await checkArchives(pool, environment)),
  ]
}

/** Archive tables belong to the role that ran. One that came later can neither read them for an undo nor drop them. */
async function checkArchives(pool: Pool, environment: string): Promise<Finding[]> {
  const { rows } = await pool.query<{ role: string; name: string }>(archivesOfOthers)
  const [first] = rows
  if (first === undefined) return []
  const role = `"${first.role.replaceAll('"', '""')}"`
  return [
    bad(
      `${environment}: ${rows.length} of the archive's tables belong to another role: their runs cannot be undone, and they stay when their time is over`,
      `let an owner run: ${rows.map(({ name }) => `alter table ${name} owner to ${role};`).join(" ")}`,
    ),
  ]
}

async function checkCreation(pool: Pool, environment: string, init: string): Promise<Finding> {
  const { rows } = await pool.query<{ creates: boolean }>(
    "select has_database_privilege(current_database(), 'create') as creates",
  )
  return rows[0]?.creates === true
    ? good(`${environment}: ledger and archive are created at the first run; the role may`)
    : bad(`${environment}: there is no ledger, and the role may not create it`, init)
}

async function sizeOf(pool: Pool): Promise<number> {
  return (await pool.query<{ bytes: number }>(ledgerBytes)).rows[0]?.bytes ?? 0
}

type TableFacts = {
  role: string
  selects: boolean
  inserts: boolean
  updates: boolean
  /** One column is enough to lock rows. */
  locks: boolean
  deletes: boolean
  filtered: boolean
  triggers: { name: string; function: string; calls: boolean }[]
}

const tableQuery = `select current_user as role,
  has_table_privilege(c.oid, 'select') as selects,
  has_table_privilege(c.oid, 'insert') as inserts,
  has_table_privilege(c.oid, 'update') or coalesce((select bool_and(has_column_privilege(c.oid, a.attnum, 'update'))
    from pg_attribute a where a.attrelid = c.oid and a.attname = any($2::text[])), false) as updates,
  has_any_column_privilege(c.oid, 'update') as locks,
  has_table_privilege(c.oid, 'delete') as deletes,
  row_security_active(c.oid) as filtered,
  coalesce((select jsonb_agg(jsonb_build_object('name', ${triggerName("c.oid")}, 'function', p.oid::regproc::text,
      'calls', concat_ws(' ', pn.nspname, p.proname, p.prosrc) ~* $3) order by t.tgname) ${firing("c.oid")}), '[]') as triggers
  from pg_class c where c.oid = to_regclass($1)`

/** One table that a plan reads or writes: there, allowed, unfiltered, without surprises. */
export async function checkTable(pool: Pool, environment: string, table: TableUse): Promise<Finding[]> {
  const where = `${environment}: table ${table.schema === null ? "" : `${table.schema}.`}${table.name}`
  try {
    return await withClient(pool, async (client) => {
      const { rows } = await client.query<TableFacts>(tableQuery, [table.relation, [...table.updated], outside])
      const [facts] = rows
      if (facts === undefined)
        return [bad(`${where} is not there`, "check the plan's statements, and the search_path of the role")]
      const known = table.writes.size > 0 ? await findTable(client, table.schema, table.name) : null
      return [...judge(where, table, facts), ...keeping(where, table, known)]
    })
  } catch (error) {
    return [
      bad(
        `${where}: ${error instanceof Error ? error.message : String(error)}`,
        "grant usage on its schema to the role",
      ),
    ]
  }
}

function judge(where: string, table: TableUse, facts: TableFacts): Finding[] {
  const needed = privilegesOf(table)
  const held = {
    select: facts.selects,
    insert: facts.inserts,
    update: table.writes.has("update") ? facts.updates : facts.locks,
    delete: facts.deletes,
  }
  const missing = needed.filter((privilege) => !held[privilege])
  const findings: Finding[] = []
  if (missing.length > 0)
    findings.push(
      bad(
        `${where}: ${facts.role} may not ${missing.join(", ")}`,
        `grant ${missing.join(", ")} on ${table.relation} to ${facts.role}`,
      ),
    )
  else findings.push(good(`${where}: ${facts.role} may ${needed.join(", ")}`))
  if (facts.filtered)
    findings.push(
      bad(
        `${where}: row-level security would hide rows from ${facts.role}`,
        `alter role ${facts.role} bypassrls, or use a role that has it: steps fail rather than see half of the rows`,
      ),
    )
  if (table.writes.size > 0)
    findings.push(
      ...facts.triggers.map((trigger) =>
        worthKnowing(
          `${where}: trigger ${trigger.name} runs ${trigger.function}${trigger.calls ? ", which seems to call out of the database → that is not taken back and raises the risk: disable it, or make it harmless when it fires twice" : ""}`,
        ),
      ),
    )
  return findings
}

function keeping(where: string, table: TableUse, facts: Awaited<ReturnType<typeof findTable>>): Finding[] {
  if (facts === null || table.writes.size === 0) return []
  if (facts.isView) return [bad(`${where} is a view`, "write to the table behind it")]
  return facts.primaryKey.length > 0
    ? []
    : [
        bad(
          `${where} has no primary key, so its rows cannot be kept for an undo`,
          "add one, or say irreversible in the step",
        ),
      ]
}
