import { escapeIdentifier, escapeLiteral, type PoolClient } from "pg"
import { columnsBy, type TableFacts } from "./catalog.ts"
import { statement } from "./target.ts"

/** Demands of a table by which a row may have no place any more, though nobody touched it. */
export type Demands = { uniques: Unique[]; parents: Parent[]; checks: Check[] }

/**
 * Unique and exclusion constraints. `parts`: what no two rows may have, as SQL with bare names, and the operator that says
 * that they do: a type's own `=` may be in a schema that is not searched. `columns`: what they and `where` read. `atOnce`:
 * looked at row by row, not in the end.
 */
type Unique = {
  columns: string[]
  parts: { expression: string; equals: string }[]
  where: string | null
  atOnce: boolean
  excludes: boolean
}
/** `root`: the table that it is a partition of, or itself. `equals`: as of a unique, of each column. */
type Parent = {
  relation: string
  name: string
  root: string
  columns: string[]
  parentColumns: string[]
  equals: string[]
}

/** A rule for each row by itself, which may have come since, or not hold for older rows. `breaks`: SQL with bare names. */
type Check = { columns: string[]; breaks: string; says: string }

/** A row that may come back, as SQL. `star`: its columns; `column`: one of them; `has`: their names. */
export type Coming = { star: string; column: (name: string) => string; has: readonly string[] }

const id = escapeIdentifier

const operatorOf = (oid: string) =>
  `(select format('operator(%I.%s)', n.nspname, op.oprname) from pg_operator op join pg_namespace n on n.oid = op.oprnamespace where op.oid = ${oid})`

/** What an index compares its k-th column by: an exclusion, or a key for a time (WITHOUT OVERLAPS), has its own. */
const comparing = `coalesce(
    (select con.conexclop[k] from pg_constraint con where con.conindid = i.indexrelid and con.contype in ('p', 'u', 'x')),
    (select am.amopopr from pg_opclass oc join pg_amop am on am.amopfamily = oc.opcfamily and am.amopstrategy = 3
       and am.amoplefttype = oc.opcintype and am.amoprighttype = oc.opcintype
     where oc.oid = (i.indclass::oid[])[k - 1] and oc.opcmethod = (select oid from pg_am where amname = 'btree')))`

/** Whether an expression is of a row as a whole (`f(t)`): the row of another name that it is asked of here has not that type. */
const ofWholeRow = (tree: string) => `coalesce(${tree}::text like '%:varattno 0 %', false)`

/**
 * The primary key is left out where rows are found by it. What an index reads is its own columns, and what it depends on: none
 * where it allows one row and no more (`((true))`).
 */
const uniquesQuery = `select
    (select coalesce(jsonb_agg(a.attname), '[]') from pg_attribute a where a.attrelid = i.indrelid and (a.attnum = any (i.indkey::int2[])
      or exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = i.indexrelid
        and d.refobjid = i.indrelid and d.refobjsubid = a.attnum))) as columns,
    (select jsonb_agg(jsonb_build_object('expression', pg_get_indexdef(i.indexrelid, k, true), 'equals', ${operatorOf(comparing)}) order by k)
      from generate_series(1, i.indnkeyatts) k) as parts,
    pg_get_expr(i.indpred, i.indrelid, true) as where, i.indimmediate as "atOnce", i.indisexclusion as excludes
  from pg_index i where i.indrelid = to_regclass($1) and (i.indisunique or i.indisexclusion) and i.indisvalid
    and not (i.indisprimary and not i.indisexclusion and $2) and not ${ofWholeRow("i.indexprs")} and not ${ofWholeRow("i.indpred")}`

const checksQuery = `select coalesce(${columnsBy("c.conrelid", "c.conkey")}, '[]') as columns, 'not (' || pg_get_expr(c.conbin, c.conrelid, true) || ')' as breaks,
    c.conname || ' forbids it now' as says
  from pg_constraint c where c.conrelid = to_regclass($1) and c.contype = 'c' and to_jsonb(c) ->> 'conenforced' is distinct from 'false'
    and not ${ofWholeRow("c.conbin")} and not (c.connoinherit and $2)
  union all select jsonb_build_array(a.attname), format('%I is null', a.attname), a.attname || ' may not be empty now'
  from pg_attribute a where a.attrelid = to_regclass($1) and a.attnotnull and a.attnum > 0 and not a.attisdropped`

const rootOf = (oid: string) => `coalesce(pg_partition_root(${oid}), ${oid})::oid`

/**
 * Only parents that this role sees whole. A row that refers to its own table comes back along with its parent. A key to a
 * partitioned table has one to each of its partitions beside it, of the server's own. What refers to a parent for a time
 * (PERIOD) need not have all of that one's.
 */
const parentsQuery = `select format('%I.%I', n.nspname, p.relname) as relation, p.relname as name, ${rootOf("p.oid")}::text as root,
    ${columnsBy("f.conrelid", "f.conkey")} as columns, ${columnsBy("f.confrelid", "f.confkey")} as "parentColumns",
    (select jsonb_agg(${operatorOf("k.oid")} order by k.n) from unnest(f.conpfeqop) with ordinality as k (oid, n)) as equals
  from pg_constraint f join pg_class p on p.oid = f.confrelid join pg_namespace n on n.oid = p.relnamespace
  where f.conrelid = to_regclass($1) and f.contype = 'f' and f.convalidated and ${rootOf("f.confrelid")} <> ${rootOf("f.conrelid")}
    and not exists (select from pg_constraint whole where whole.contype = 'f' and whole.conrelid = f.conrelid and whole.conkey = f.conkey
      and whole.confrelid <> f.confrelid and whole.confrelid in (select a.relid from pg_partition_ancestors(f.confrelid) a))
    and to_jsonb(f) ->> 'conenforced' is distinct from 'false' and to_jsonb(f) ->> 'conperiod' is distinct from 'true'
    and has_table_privilege(p.oid, 'select') and has_schema_privilege(n.oid, 'usage') and not row_security_active(p.oid)`

/**
 * `byKey`: rows are found by the primary key, so that another row that has it is one that changed. Rows that are found may be
 * those of heirs, which have the table's inherited checks, and not its keys.
 */
export async function demandsOf(
  client: PoolClient,
  table: TableFacts,
  { byKey }: { byKey: boolean },
): Promise<Demands> {
  const inherited = table.heirs.length > 0
  const checks = (await statement(client, checksQuery, [table.relation, inherited])).rows as Check[]
  if (inherited) return { uniques: [], parents: [], checks }
  return {
    uniques: (await statement(client, uniquesQuery, [table.relation, byKey])).rows as Unique[],
    parents: (await statement(client, parentsQuery, [table.relation])).rows as Parent[],
    checks,
  }
}

export const nothingBlocks = "null::text"

/**
 * Why a row cannot come back, as SQL that gives a text, or null when it can. `spare`: a condition on `stepback_x`, a row
 * that has its value: true where that row will have given it up by then. `atOnce`: the same where that is looked at row by row.
 */
export function blockedBy(
  table: TableFacts,
  demands: Demands,
  row: Coming,
  spare: string | null,
  atOnce = spare,
): string {
  const known = ({ columns }: { columns: string[] }) => columns.every((name) => row.has.includes(name))
  const reasons = [
    ...demands.checks.filter(known).map(({ breaks, says }) => ({
      when: `(select ${breaks} from (select ${row.star}) stepback_y)`,
      says,
    })),
    ...demands.uniques.filter(known).map((unique) => ({
      when: taken(table, unique, row, unique.atOnce ? atOnce : spare),
      says: saysOf(unique),
    })),
    ...demands.parents.filter(known).map((parent) => ({
      when: orphaned(parent, row),
      says: `its row of ${parent.name} is gone`,
    })),
  ]
  if (reasons.length === 0) return nothingBlocks
  return `case ${reasons.map(({ when, says }) => `when ${when} then ${escapeLiteral(says)}`).join(" ")} end`
}

/** Of rows that were judged: how many have no place any more, and some of them with the reason. */
export const blockedOnes = `count(*) filter (where blocked is not null)::int as blocked,
  coalesce((select array_agg(label || ' (' || blocked || ')') from (select label, blocked from judged where blocked is not null limit 20) b), '{}') as "blockedLabels"`

function saysOf({ columns, excludes }: Unique): string {
  if (columns.length === 0) return "it may be there only once, and another row is"
  return `another row ${excludes ? "is in the way of" : "has"} its ${columns.join(", ")}`
}

function taken(table: TableFacts, { parts, where }: Unique, { star }: Coming, spare: string | null): string {
  // Bare names are those of the nearest row around: of the other in the outer select, of this one in the inner.
  const own = `(select ${star}) stepback_y`
  const other = [
    ...parts.map(({ expression, equals }) => `(${expression}) ${equals} (select ${expression} from ${own})`),
    ...(where === null ? [] : [`(${where})`]),
    ...(spare === null ? [] : [`(${spare}) is not true`]),
  ]
  const taken = `exists (select from ${table.relation} stepback_x where ${other.join(" and ")})`
  return where === null ? taken : `exists (select from ${own} where ${where}) and ${taken}`
}

function orphaned({ relation, columns, parentColumns, equals }: Parent, { column }: Coming): string {
  const refers = columns.map((name) => `${column(name)} is not null`).join(" and ")
  const same = columns
    .map((name, n) => `stepback_p.${id(parentColumns[n] ?? "")} ${equals[n] ?? "="} ${column(name)}`)
    .join(" and ")
  return `${refers} and not exists (select from ${relation} stepback_p where ${same})`
}

/** Without parents of which that rollback kept anything: what an undo gives back first is not gone. */
export async function withoutKept(client: PoolClient, demands: Demands, rollbackId: string): Promise<Demands> {
  if (demands.parents.length === 0) return demands
  const { rows } = await statement(
    client,
    `select ${rootOf("to_regclass(relation)")}::text as root from (select relation from stepback_ledger.before_images where rollback_id = $1
       union select relation from stepback_ledger.archives where rollback_id = $1) kept`,
    [rollbackId],
  )
  const kept = (rows as { root: string | null }[]).map(({ root }) => root)
  return { ...demands, parents: demands.parents.filter(({ root }) => !kept.includes(root)) }
}

/**
 * Whether `stepback_x` is one of the rows `row` of `from`. A list of its own, which the server hashes once: asked with a
 * condition it would be gone through for each row.
 */
export function oneOf(key: readonly string[], row: string, from: string): string {
  const of = (owner: string) => key.map((name) => `${owner}.${id(name)}`).join(", ")
  return `(${of("stepback_x")}) in (select ${of(`(${row})`)} from ${from})`
}

/** Rows that this rollback made or changed: they give up their values when it is taken back. */
export function touchedBy({ primaryKey, relation }: TableFacts, rollbackId: string): string {
  return oneOf(
    primaryKey,
    `stepback_b.row_text::${relation}`,
    `stepback_ledger.before_images stepback_b where stepback_b.rollback_id = ${escapeLiteral(rollbackId)}::uuid
    and stepback_b.relation = ${escapeLiteral(relation)} and stepback_b.operation <> 'delete'`,
  )
}
