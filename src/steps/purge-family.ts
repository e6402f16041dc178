import { escapeIdentifier, type PoolClient } from "pg"
import type { PurgeStep } from "../plans/plan.ts"
import { columnsBy, computedKey, findTable, qualified, type TableFacts } from "./catalog.ts"
import { missingRights, withoutUndo } from "./rights.ts"

/** A table whose rows go along with a parent's, and how its rows are found from the parent's. */
export type Kin = {
  table: TableFacts
  parent: Kin | null
  columns: string[]
  parentColumns: string[]
  /** What the foreign key does by itself. Rows that are only cut loose are kept as they were, not removed. */
  action: "delete" | "cut_loose"
  /** Columns that the key empties in rows that are cut loose. */
  cut: string[]
  depth: number
}

export type Family = {
  root: Kin
  /** Parents before their children. */
  kin: Kin[]
  /** Leaves of a partitioned root, or the root itself. */
  leaves: TableFacts[]
  /** Foreign keys of the root to itself that the plan lists: rows that refer to such as go, go too. */
  own: { columns: string[]; parentColumns: string[] }[]
  problems: string[]
}

type ForeignKey = {
  relation: string
  schema: string
  name: string
  columns: string[]
  parentColumns: string[]
  /** `on delete set null (these)`; null: all of its columns. */
  cut: string[] | null
  action: string
  /** It refers to a row for a time, which need not be all of that row's. */
  period: boolean
}

const foreignKeys = `
select f.conrelid::regclass::text as relation, n.nspname as schema, c.relname as name, f.confdeltype as action,
  -- The column is younger than Postgres 17.
  coalesce((to_jsonb(f) ->> 'conperiod')::boolean, false) as period,
  ${columnsBy("f.conrelid", "f.conkey")} as columns, ${columnsBy("f.confrelid", "f.confkey")} as "parentColumns",
  -- The column is younger than Postgres 14.
  (select array_agg(a.attname::text) from jsonb_array_elements_text(nullif(to_jsonb(f) -> 'confdelsetcols', 'null')) n
    join pg_attribute a on a.attrelid = f.conrelid and a.attnum = n::int) as cut
from pg_constraint f join pg_class c on c.oid = f.conrelid join pg_namespace n on n.oid = c.relnamespace
where f.confrelid = to_regclass($1) and f.contype = 'f'
  and not exists (select 1 from pg_constraint p where p.oid = f.conparentid and p.confrelid = f.confrelid)`

const leavesOf = `
select n.nspname as schema, c.relname as name from pg_partition_tree(to_regclass($1)) t
join pg_class c on c.oid = t.relid join pg_namespace n on n.oid = c.relnamespace where t.isleaf`

/** What a purge and its undo write to a table, as `pg_rewrite` has it: rows go and come back, or lose their parent and get it back. */
const written = { delete: ["3", "4"], cut_loose: ["2"] }

/**
 * Ways to a partition's or heir's rows that the table's own foreign keys do not show, and rules that stand before a write.
 * Params: the table, and which writes.
 */
const besides = `
select format('%s refers to partition %s by itself: purge it by a step of its own first', f.conrelid::regclass, f.confrelid::regclass) as problem
  from pg_partition_tree(to_regclass($1)) t join pg_constraint f on f.confrelid = t.relid
  where f.contype = 'f' and f.conparentid = 0 and t.relid <> to_regclass($1)
union all
select format('%s inherits from %s: purge it by a step of its own first', i.inhrelid::regclass, i.inhparent::regclass)
  from pg_inherits i join pg_class c on c.oid = i.inhparent
  where i.inhparent = to_regclass($1) and c.relkind = 'r'
union all
select format('rule %I of %s says what %s', r.rulename, r.ev_class::regclass, case r.ev_type
      when '2' then 'an UPDATE there does: rows that lose their parent could not get it back'
      when '3' then 'an INSERT there does: rows that go could not be given back'
      else 'a DELETE there does: a purge cannot tell what became of its rows' end)
  from pg_rewrite r where r.ev_type::text = any($2) and r.ev_enabled <> 'D'
    and (r.ev_class = to_regclass($1) or r.ev_class in (select t.relid from pg_partition_tree(to_regclass($1)) t))`

/** How deep children are followed: deeper than any schema that a person can oversee. */
const deepest = 8

/** The tables that deleting from `name` touches. What the plan does not list in `cascade` becomes a problem. */
export async function findFamily(
  client: PoolClient,
  schema: string | null,
  name: string,
  cascade: readonly string[],
): Promise<Family | null> {
  const table = await findTable(client, schema, name)
  if (!table) return null
  const root: Kin = { table, parent: null, columns: [], parentColumns: [], action: "delete", cut: [], depth: 0 }
  const family: Family = { root, kin: [root], leaves: [], own: [], problems: [] }
  keyProblem(family, table)
  await follow(client, root, family, new Set(cascade))
  const { rows } = await client.query<{ schema: string; name: string }>(leavesOf, [table.relation])
  for (const leaf of rows) {
    const whole = leaf.schema === table.schema && leaf.name === table.name
    const facts = whole ? table : await findTable(client, leaf.schema, leaf.name)
    if (facts) family.leaves.push(facts)
  }
  if (family.leaves.length === 0) family.leaves.push(table)
  const { rows: strange } = await client.query<{ problem: string }>(besides, [table.relation, written.delete])
  family.problems.push(...strange.map((row) => row.problem), ...forbidden(family))
  return family
}

/** Partitions are written to by themselves, and what was granted for the whole does not hold there. */
function tablesOf(family: Family, action: Kin["action"]): TableFacts[] {
  const along = listedKin(family).filter((kin) => kin.depth > 0 && kin.action === action)
  return [...(action === "delete" ? family.leaves : []), ...along.map((kin) => kin.table)]
}

/** What this role may not do and a purge does. Rows that lose their parent are changed by the key, whose table's owner may. */
function forbidden(family: Family): string[] {
  const locks = family.kin.length > 1 || family.own.length > 0
  const needs = locks ? (["select", "delete", "lock"] as const) : (["select", "delete"] as const)
  return tablesOf(family, "delete").flatMap((table) => {
    const missing = missingRights(table, needs)
    return missing === "" ? [] : [`this role may not purge there: grant ${missing} on ${table.relation}`]
  })
}

/** What it may not do, and an undo would. */
export function undoForbidden(family: Family): string[] {
  return [
    ...tablesOf(family, "delete").flatMap((table) => withoutUndo(table, "insert")),
    ...tablesOf(family, "cut_loose").flatMap((table) => withoutUndo(table, "update")),
  ]
}

/** By their key rows are found again when they are given back. */
function keyProblem(family: Family, table: TableFacts): void {
  const computed = computedKey(table)
  if (table.primaryKey.length === 0)
    family.problems.push(`${table.name} has no primary key: its rows could not be given back`)
  else if (computed !== undefined)
    family.problems.push(
      `${computed}, of the primary key of ${table.name}, is computed from other columns: its rows could not be given back`,
    )
}

async function follow(client: PoolClient, parent: Kin, family: Family, listed: ReadonlySet<string>): Promise<void> {
  const { rows } = await client.query<ForeignKey>(foreignKeys, [parent.table.relation])
  for (const key of rows) {
    if (key.period) {
      family.problems.push(
        `${key.relation} refers to rows of ${parent.table.name} for a time (PERIOD), and which of them a purge cannot tell: remove them by a "sql" step`,
      )
      continue
    }
    const namesake = family.kin.find(
      ({ table: { name, relation } }) => name === key.name && relation !== qualified(key.schema, key.name),
    )
    const named = listed.has(key.name) || listed.has(`${key.schema}.${key.name}`) || listed.has(key.relation)
    if (named && namesake) {
      family.problems.push(
        `${key.relation} and ${namesake.table.relation} have one name, and a purge counts by names: purge one by a step of its own first`,
      )
      continue
    }
    const table = await findTable(client, key.schema, key.name)
    if (!table) {
      family.problems.push(`${key.relation} refers to ${parent.table.name}, and this role cannot see it`)
      continue
    }
    const cutLoose = key.action === "n" || key.action === "d"
    const kin: Kin = {
      table,
      parent,
      columns: key.columns,
      parentColumns: key.parentColumns,
      action: cutLoose ? "cut_loose" : "delete",
      cut: key.cut ?? key.columns,
      depth: parent.depth + 1,
    }
    if (!named) {
      family.kin.push({ ...kin, depth: -1 })
      continue
    }
    if (table.relation === family.root.table.relation && parent === family.root && !cutLoose) {
      family.own.push({ columns: key.columns, parentColumns: key.parentColumns })
      continue
    }
    if (family.kin.some((known) => known.table.relation === table.relation) || kin.depth > deepest) {
      family.problems.push(
        table.relation === parent.table.relation
          ? `${table.name} refers to itself${cutLoose ? " and its rows are only cut loose" : ""}, which a purge cannot follow: remove such rows by hand, and write it down with /rollback record`
          : `${table.name} refers to these rows in more than one way: purge it by a step of its own first`,
      )
      continue
    }
    keyProblem(family, table)
    family.kin.push(kin)
    const { rows: strange } = await client.query<{ problem: string }>(besides, [table.relation, written[kin.action]])
    family.problems.push(...strange.map((row) => row.problem))
    if (!cutLoose) await follow(client, kin, family, listed)
    else family.problems.push(...lostBehind(kin))
  }
}

/** What refers to what rows that are cut loose lose: a foreign key empties it in turn, and nothing keeps it. */
function lostBehind({ table, cut }: Kin): string[] {
  return table.followers
    .filter(({ through }) => through.some((name) => cut.includes(name)))
    .map(
      (lost) =>
        `${lost.table} refers to what ${table.name} loses, and would lose it unkept: purge it by a step of its own first`,
    )
}

/**
 * The step where the root's rows refer to each other: it means those too that refer to such as match, over however many
 * others, and finds all of them at once, since one batch would remove what the next one needs to find its own.
 */
export function withOwn(step: PurgeStep, { root, own }: Family): PurgeStep {
  const { relation, name, primaryKey } = root.table
  if (own.length === 0 || primaryKey.length === 0) return step
  const of = (table: string, columns: readonly string[]) =>
    columns.map((column) => `${table}.${escapeIdentifier(column)}`).join(", ")
  const needed = [...new Set([...primaryKey, ...own.flatMap((key) => key.parentColumns)])]
  const rows = escapeIdentifier(name)
  const links = own.map((key) => `(${of(rows, key.columns)}) = (${of("stepback_linked", key.parentColumns)})`)
  const where = `(${of(rows, primaryKey)}) in (
    with recursive stepback_linked as (select ${of(rows, needed)} from ${relation} as ${rows} where (${step.where})
      union select ${of(rows, needed)} from ${relation} as ${rows} join stepback_linked on ${links.join(" or ")})
    select ${of("stepback_linked", primaryKey)} from stepback_linked)`
  return { ...step, where, whole: true }
}

/** Kin that the plan lists, parents first. */
export function listedKin(family: Family): Kin[] {
  return family.kin.filter((kin) => kin.depth >= 0)
}

/** Kin that it does not list: a row of theirs is an error. */
export function unlistedKin(family: Family): Kin[] {
  return family.kin.filter((kin) => kin.depth < 0)
}

/**
 * `where …` that picks a kin's rows, given the one that picks the root's. The root stands under its own name in
 * `rootWhere`.
 */
export function whereOf(kin: Kin, rootWhere: string): string {
  if (kin.parent === null) return rootWhere
  const { parent } = kin
  const own = kin.columns.map((name) => `${escapeIdentifier(kin.table.name)}.${escapeIdentifier(name)}`).join(", ")
  const theirs = kin.parentColumns
    .map((name) => `${escapeIdentifier(parent.table.name)}.${escapeIdentifier(name)}`)
    .join(", ")
  return `(${own}) in (select ${theirs} from ${parent.table.relation} as ${escapeIdentifier(parent.table.name)} where ${whereOf(parent, rootWhere)})`
}
