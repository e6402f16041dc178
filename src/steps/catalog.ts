import { createHash } from "node:crypto"
import { escapeIdentifier, type PoolClient } from "pg"

/** What a step must know about the table that it writes to. */
export type TableFacts = {
  /** Quoted and qualified, ready for SQL. */
  relation: string
  schema: string
  name: string
  primaryKey: string[]
  /** `always`: an identity that an INSERT may override and an UPDATE may not set. */
  columns: { name: string; type: string; generated: boolean; always: boolean }[]
  /** Foreign keys of other tables (or itself) that a DELETE here would act on, also by a partition of this one. */
  children: {
    table: string
    relation: string
    /** It is this very table, whose rows refer to each other. */
    self: boolean
    columns: string[]
    parentColumns: string[]
    action: "c" | "n" | "d"
  }[]
  /** Foreign keys by which an UPDATE here acts on others, and those by which that acts on still others. */
  followers: Follower[]
  /** Tables that inherit from it, as people read them: a DELETE here removes their rows too, with columns it does not know. */
  heirs: string[]
  /** Triggers that are ours to mention, not the system's own; those that a partition or heir has by itself too. */
  triggers: string[]
  /** Those of them whose effect leaves the database, as far as their functions' text says. */
  calling: string[]
  /** Rules that say what else, or what instead, a write there does. */
  rules: { name: string; on: "insert" | "update" | "delete" }[]
  isView: boolean
  /** What this role may do there: insert and update all columns, and lock rows, for which one of them is enough. */
  may: Record<"select" | "insert" | "update" | "delete" | "lock", boolean>
}

/** What becomes of rows that refer to a value that changes: they get the new one, nothing, or their default. */
type ActingKey = {
  table: string
  relation: string
  columns: string[]
  parentColumns: string[]
  action: "c" | "n" | "d"
  seen: boolean
}

/**
 * `through`: columns of the table itself by whose change it acts. `of`: the one that changes rows before it does. `seen`: this
 * role may count them.
 */
export type Follower = ActingKey & { through: string[]; of: Follower | null }

/** Those by which an UPDATE of these columns acts on others. */
export function actedOnBySet({ followers }: TableFacts, set: readonly { column: string }[]): Follower[] {
  return followers.filter(({ through }) => set.some(({ column }) => through.includes(column)))
}

/** A column of the key that the server computes from others: it moves with them, and no archive has it. */
export function computedKey(table: TableFacts): string | undefined {
  return table.columns.find(({ name, generated }) => generated && table.primaryKey.includes(name))?.name
}

/** Words in a trigger's function that hint at a world outside of the database. */
export const outside = "dblink|pg_net|http|notify|lambda|curl|urlopen|socket|amqp|kafka|copy .* program"

/**
 * Foreign keys to this table, those too that are declared on the one of which it is a partition, and those to a partition of
 * it by itself; each of them once.
 */
export const referringTo = (oid: string) => `f.contype = 'f' and (
      (f.confrelid = ${oid} and not exists (select 1 from pg_constraint p where p.oid = f.conparentid and p.confrelid = f.confrelid))
      or (f.conparentid = 0 and f.confrelid in (select t.relid from pg_partition_tree(${oid}) t where t.relid <> ${oid})))`

/** Those by which a DELETE of this table acts on others; one that is not enforced does nothing. */
const actingOn = (oid: string, on = "f.confdeltype in ('c', 'n', 'd')") =>
  `${referringTo(oid)} and to_jsonb(f) ->> 'conenforced' is distinct from 'false' and ${on}`

/** Names of a table's columns by their numbers, in order. */
export const columnsBy = (oid: string, numbers: string) =>
  `(select jsonb_agg(a.attname order by k.n) from unnest(${numbers}) with ordinality as k (attnum, n)
    join pg_attribute a on a.attrelid = ${oid} and a.attnum = k.attnum)`

const parentColumns = columnsBy("f.confrelid", "f.confkey")

/**
 * Triggers that fire where rows of a table are written, each with its function: for rows also those of partitions and heirs.
 * Which of a partition's are copies of the table's own the catalog says since Postgres 13; before, they were the system's.
 */
export const firing = (
  oid: string,
) => `from pg_trigger t join pg_proc p on p.oid = t.tgfoid join pg_namespace pn on pn.oid = p.pronamespace
    where t.tgrelid in (select ${oid} union all select below.relid from pg_partition_tree(${oid}) below
        union all select i.inhrelid from pg_inherits i where i.inhparent = ${oid})
      and (t.tgrelid = ${oid} or t.tgtype & 1 = 1 and coalesce(to_jsonb(t) ->> 'tgparentid', '0') = '0')
      and not t.tgisinternal and t.tgenabled <> 'D'`

/** `stamps`, or `stamps of days_1` where it is not the table's own. */
export const triggerName = (oid: string) =>
  `case when t.tgrelid = ${oid} then t.tgname::text else t.tgname || ' of ' || t.tgrelid::regclass end`

const actingOnUpdate = (
  oid: string,
) => `(select jsonb_agg(jsonb_build_object('table', f.conrelid::regclass::text, 'action', f.confupdtype,
      'relation', (select format('%I.%I', fn.nspname, fc.relname) from pg_class fc join pg_namespace fn on fn.oid = fc.relnamespace where fc.oid = f.conrelid),
      'columns', ${columnsBy("f.conrelid", "f.conkey")}, 'parentColumns', ${parentColumns},
      'seen', (select has_schema_privilege(fc.relnamespace, 'usage') and has_table_privilege(fc.oid, 'select') and not row_security_active(fc.oid)
        from pg_class fc where fc.oid = f.conrelid)))
    from pg_constraint f where ${actingOn(oid, "f.confupdtype in ('c', 'n', 'd')")})`

/** Column by column, or as a whole. */
const allColumns = (
  may: string,
  which = "true",
) => `coalesce((select bool_and(has_column_privilege(c.oid, a.attnum, '${may}'))
    from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' and ${which}), true)`

/** An UPDATE of ours sets neither the key nor what only the server gives. */
const settable = `a.attidentity <> 'a' and not exists (select from pg_index i
    where i.indrelid = c.oid and i.indisprimary and a.attnum = any (i.indkey::int2[]))`

/** What a write there does to rows of others. */
const acting = `coalesce((select jsonb_agg(jsonb_build_object('table', f.conrelid::regclass::text, 'action', f.confdeltype, 'self', f.conrelid = c.oid,
      'relation', (select format('%I.%I', fn.nspname, fc.relname) from pg_class fc join pg_namespace fn on fn.oid = fc.relnamespace where fc.oid = f.conrelid),
      'columns', ${columnsBy("f.conrelid", "f.conkey")},
      'parentColumns', ${parentColumns}))
    from pg_constraint f where ${actingOn("c.oid")}), '[]') as children,
  ${actingOnUpdate("c.oid")} as on_update,
  coalesce((select array_agg(i.inhrelid::regclass::text) from pg_inherits i
    where i.inhparent = c.oid and c.relkind = 'r'), '{}') as heirs`
/** Where it was asked already whether there are such, and there are none: 2 ms less. */
const actsOnNone = "'[]'::jsonb as children, null::jsonb as on_update, '{}'::text[] as heirs"

const tableQuery = (actsOn: string) => `
select n.nspname as schema, c.relname as name, c.relkind in ('v', 'm', 'f') as is_view,
  coalesce((select array_agg(a.attname::text order by k.n) from pg_index i
    cross join lateral unnest(i.indkey::int2[]) with ordinality as k (attnum, n)
    join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
    where i.indrelid = c.oid and i.indisprimary and k.n <= i.indnkeyatts), '{}') as primary_key,
  (select jsonb_agg(jsonb_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
      'generated', a.attgenerated <> '', 'always', a.attidentity = 'a') order by a.attnum)
    from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns,
  ${actsOn},
  coalesce((select jsonb_agg(distinct jsonb_build_object('name', ${triggerName("c.oid")},
      'calls', concat_ws(' ', pn.nspname, p.proname, p.prosrc) ~* '${outside}')) ${firing("c.oid")}), '[]') as triggers,
  coalesce((select jsonb_agg(jsonb_build_object('name', r.rulename, 'on', case r.ev_type when '2' then 'update' when '3' then 'insert' else 'delete' end) order by r.rulename)
    from pg_rewrite r where r.ev_class = c.oid and r.ev_type <> '1' and r.ev_enabled <> 'D'), '[]') as rules,
  jsonb_build_object('insert', ${allColumns("insert")}, 'update', ${allColumns("update", settable)},
    'select', ${allColumns("select")}, 'delete', has_table_privilege(c.oid, 'delete'), 'lock', has_any_column_privilege(c.oid, 'update')) as may
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.oid = to_regclass($1)`

/** What a DELETE must know of this very moment: which table the name means, and whether foreign keys would act. */
const freshQuery = `
select to_regclass($1)::oid::text as oid, exists (select from pg_constraint f where f.confrelid = to_regclass($1)
  and f.contype = 'f' and (f.confdeltype in ('c', 'n', 'd') or f.confupdtype in ('c', 'n', 'd'))
  and not exists (select 1 from pg_constraint p where p.oid = f.conparentid and p.confrelid = f.confrelid))
  or exists (select from pg_inherits i where i.inhparent = to_regclass($1)) as has_children`

const knownTables = new WeakMap<object, Map<string, { oid: string; table: TableFacts }>>()

/**
 * The same, read once a run, since planning that query costs more than a light step's effect. What could take rows along
 * unkept is looked at each time, and in detail only where there is such: a table that was replaced, or that has children, is
 * read again. A column or key that goes in the middle of a run is an error of the statement, not a loss.
 */
export async function findTableOfRun(
  client: PoolClient,
  run: object,
  schema: string | null,
  name: string,
): Promise<TableFacts | null> {
  const relation = qualified(schema, name)
  const tables = knownTables.get(run) ?? new Map<string, { oid: string; table: TableFacts }>()
  knownTables.set(run, tables)
  const known = tables.get(relation)
  const { rows } = await client.query<{ oid: string | null; has_children: boolean }>(freshQuery, [relation])
  // Partitions and heirs may have foreign keys and columns of their own.
  const { oid, has_children: hasChildren } = rows[0] as { oid: string | null; has_children: boolean }
  if (known !== undefined && known.oid === oid && !hasChildren) return known.table
  const table = await readTable(client, relation, hasChildren ? acting : actsOnNone)
  if (table !== null && oid !== null && table.children.length === 0 && !hasChildren)
    tables.set(relation, { oid, table })
  else tables.delete(relation)
  return table
}

export function qualified(schema: string | null, name: string): string {
  return schema === null ? escapeIdentifier(name) : `${escapeIdentifier(schema)}.${escapeIdentifier(name)}`
}

/** Null when there is no such table, or none that this role can see. */
export function findTable(client: PoolClient, schema: string | null, name: string): Promise<TableFacts | null> {
  return findRelation(client, qualified(schema, name))
}

/** The same by its quoted name. */
export function findRelation(client: PoolClient, relation: string): Promise<TableFacts | null> {
  return readTable(client, relation, acting)
}

async function readTable(client: PoolClient, relation: string, actsOn: string): Promise<TableFacts | null> {
  const { rows } = await client.query(tableQuery(actsOn), [relation])
  const row = rows[0] as
    | {
        schema: string
        name: string
        is_view: boolean
        primary_key: string[]
        columns: TableFacts["columns"] | null
        children: TableFacts["children"]
        on_update: ActingKey[] | null
        heirs: string[]
        triggers: { name: string; calls: boolean }[]
        rules: TableFacts["rules"]
        may: TableFacts["may"]
      }
    | undefined
  if (!row) return null
  const triggers = row.triggers.toSorted((a, b) => (a.name < b.name ? -1 : 1))
  return {
    relation: qualified(row.schema, row.name),
    schema: row.schema,
    name: row.name,
    primaryKey: row.primary_key,
    columns: row.columns ?? [],
    children: row.children,
    followers: await followersOf(client, row.on_update),
    heirs: row.heirs,
    triggers: triggers.map(({ name }) => name),
    calling: triggers.filter(({ calls }) => calls).map(({ name }) => name),
    rules: row.rules,
    isView: row.is_view,
    may: row.may,
  }
}

/** As deep as schemas go that a person can oversee. */
const deepest = 8

async function followersOf(client: PoolClient, keys: ActingKey[] | null, of: Follower | null = null, depth = 1) {
  const found: Follower[] = []
  for (const key of keys ?? []) {
    const through = of === null ? key.parentColumns : key.parentColumns.flatMap((name) => leadingTo(of, name))
    if (through.length === 0) continue
    const follower = { ...key, through, of, seen: key.seen && of?.seen !== false }
    found.push(follower)
    if (key.action !== "c" || depth === deepest) continue
    const { rows } = await client.query<{ keys: ActingKey[] | null }>(
      `select ${actingOnUpdate("to_regclass($1)")} as keys`,
      [key.relation],
    )
    found.push(...(await followersOf(client, rows[0]?.keys ?? null, follower, depth + 1)))
  }
  return found
}

/** Which column of the first table a column of a follower gets its value from. */
function leadingTo({ columns, parentColumns, of }: Follower, name: string): string[] {
  const column = parentColumns[columns.indexOf(name)]
  if (column === undefined) return []
  return of === null ? [column] : leadingTo(of, column)
}

/** Columns of a row's text, in order: what is read back into a table with others would land in the wrong ones. */
export type RowShapes = Record<string, [name: string, type: string][]>

export function rowShapes(tables: readonly TableFacts[]): RowShapes {
  return Object.fromEntries(
    tables.map(({ relation, columns }) => [relation, columns.map(({ name, type }) => [name, type])]),
  )
}

/** What a rehearsal saw of tables, as one word: what differs at the run was not what was approved. */
export function shapeOf(tables: readonly TableFacts[]): string {
  const seen = tables.map((table) => [
    table.relation,
    table.primaryKey,
    table.columns,
    table.children.map((child) => JSON.stringify(child)).toSorted(),
    table.triggers,
    table.rules,
  ])
  return createHash("sha256").update(JSON.stringify(seen)).digest("hex").slice(0, 16)
}

/** A trigger may do what no ledger takes back. */
export function callingOut(tables: readonly TableFacts[]): string[] {
  return tables.flatMap((table) =>
    table.calling.map((name) => `trigger ${name} on ${table.name} reaches beyond the database`),
  )
}
