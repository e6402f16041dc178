import { escapeIdentifier } from "pg"
import type { StatementFacts } from "../plans/plan.ts"
import { replaceParameters } from "../plans/sql-tokens.ts"
import type { Follower, TableFacts } from "./catalog.ts"
import { hidden } from "./shown.ts"

/** How many changed rows are shown one by one. */
export const shownRows = 20

/** Whether two texts differ at all: a column's own collation may not tell "a" from "A", or the two may have one each. */
const differ = (one: string, other: string) => `${one}::text collate "C" is distinct from ${other}::text`

/** Columns whose change is the point: what the statement sets, but for stamps of the moment. */
export function tellingColumns(facts: StatementFacts): string[] {
  const steady = facts.set.filter((item) => !item.volatile).map((item) => item.column)
  return [...new Set(steady.length > 0 ? steady : facts.set.map((item) => item.column))]
}

const column = (owner: string, name: string) => `${owner}.${escapeIdentifier(name)}`

/** What a row is called: its key, without what nobody may see. A step that nothing keeps may mean a table or view without one. */
export function label(table: TableFacts, owner: string, redact: readonly string[]): string {
  if (table.primaryKey.length === 0) return "'(no key)'"
  const parts = table.primaryKey.map((name) => (redact.includes(name) ? `'${hidden}'` : `${column(owner, name)}::text`))
  return `concat_ws('/', ${parts.join(", ")})`
}

/** A row that matches more than once, through a join, is one row: its place says which. */
function placed(facts: StatementFacts): string {
  const owner = escapeIdentifier(facts.table?.alias ?? "")
  return facts.joined ? `, ${owner}.tableoid as stepback_table, ${owner}.ctid as stepback_place` : ""
}

const once = (facts: StatementFacts, rows: string) =>
  facts.joined ? `(select distinct on (stepback_table, stepback_place) * from ${rows}) ${rows}_once` : rows

const literal = (text: string) => `'${text.replaceAll("'", "''")}'`

/** Of each column its JSON as text: as numbers of JavaScript, large ones would be other numbers, or seem not to change. */
function jsonOf(columns: string[], owner: string): string {
  return jsonObject(columns.map((name) => ({ name, value: column(owner, name) })))
}

/** Of lists, since a function takes no more than a hundred arguments. */
function jsonObject(items: { name: string; value: string }[]): string {
  const texts = items.map(({ value }) => `to_jsonb(${value})::text`)
  return `jsonb_object(array[${items.map(({ name }) => literal(name)).join(", ")}]::text[], array[${texts.join(", ")}]::text[])`
}

/** The statement's WITH, without the keyword, to stand before more of our own. */
function withList(facts: StatementFacts): string {
  return facts.with === null ? "" : `${facts.with.replace(/^\s*with\s+/i, "")}, `
}

function recursive(facts: StatementFacts): string {
  return facts.with !== null && /^\s*with\s+recursive/i.test(facts.with) ? "recursive " : ""
}

const withBody = (facts: StatementFacts) => withList(facts).replace(/^recursive\s+/i, "")

/**
 * UPDATE, read-only: the rows that match, as they are, and as its SET would make them, evaluated in the same SELECT.
 * An expression is cast to its column's type, as the assignment would do.
 */
export function updatePreview(facts: StatementFacts, table: TableFacts, redact: readonly string[]): string {
  const owner = escapeIdentifier(facts.table?.alias ?? table.name)
  const telling = tellingColumns(facts)
  const typeOf = (name: string) => table.columns.find((item) => item.name === name)?.type
  const known = facts.set.filter((item) => item.expression !== null && telling.includes(item.column))
  const after = known.map((item) => ({
    name: item.column,
    value: `(${item.expression})::${typeOf(item.column) ?? "text"}`,
  }))
  const changed =
    known.length === telling.length && known.length > 0
      ? known
          .map((item) => differ(`(${item.expression})::${typeOf(item.column) ?? "text"}`, column(owner, item.column)))
          .join(" or ")
      : "null::boolean"
  return `with ${recursive(facts)}${withBody(facts)}stepback_rows as (
    select ${label(table, owner, redact)} as label, ${jsonOf(telling, owner)} as before,
      ${jsonObject(after)} as after, ${changed} as changed${placed(facts)}
    ${facts.matching})
  ${summaryOf(facts)}`
}

/** DELETE, read-only: how many rows match. */
export function deletePreview(facts: StatementFacts): string {
  return `with ${recursive(facts)}${withBody(facts)}stepback_rows as (select '' as label, '{}'::jsonb as before, '{}'::jsonb as after, true as changed${placed(facts)} ${facts.matching})
  ${summaryOf(facts)}`
}

/** The same with the rows, whole, under the name "": for a few of them. */
export function deletedRows(facts: StatementFacts, table: TableFacts, redact: readonly string[]): string {
  const owner = escapeIdentifier(facts.table?.alias ?? table.name)
  return `with ${recursive(facts)}${withBody(facts)}stepback_rows as (
    select ${label(table, owner, redact)} as label, '{"": null}'::jsonb as after, true as changed,
      jsonb_build_object('', (to_jsonb(${owner}.*) - array[${redact.map(literal).join(", ")}]::text[])::text) as before${placed(facts)} ${facts.matching})
  ${summaryOf(facts)}`
}

/** INSERT, read-only: how many rows its source has now. */
export function insertPreview(facts: StatementFacts): string {
  return `with ${recursive(facts)}${withBody(facts)}stepback_source as (${facts.source}) select count(*)::int as rows from stepback_source`
}

const summaryFrom = (
  rows: string,
  more = "",
) => `select count(*)::int as rows, (count(*) filter (where changed))::int as changed,
    bool_or(changed is null) as unsure,${more}
    coalesce((select jsonb_agg(shown) from (select label, before, after from ${rows} limit ${shownRows}) shown), '[]') as shown
  from ${rows}`

/** `several`: a row matches more than once. */
function summaryOf(facts: StatementFacts): string {
  if (!facts.joined) return summaryFrom("stepback_rows")
  return summaryFrom(once(facts, "stepback_rows"), " (select count(*) from stepback_rows) > count(*) as several,")
}

/**
 * Whether this transaction made the version of a row that it sees, or a trigger's block with an exception clause did: those
 * have numbers of their own, younger than ours. Of a younger number somebody else's is no longer in progress.
 */
const oursOf = (owner: string) => `(${owner}.xmin::text::bigint = txid_current() % 4294967296
      or case when age(${owner}.xmin) between -1000000 and -1
        then txid_status(txid_current() - age(${owner}.xmin)) = 'in progress' else false end)`

/** Locks the rows that an UPDATE or DELETE matches. Params: the statement's own. */
export function lockRows(facts: StatementFacts): string {
  const owner = escapeIdentifier(facts.table?.alias ?? "")
  return `with ${recursive(facts)}${withBody(facts)}stepback_locked as (select 1${placed(facts)} ${facts.matching} for update of ${owner})
    select 1 from ${once(facts, "stepback_locked")}`
}

/** Keeps the rows that an UPDATE matches as they are, under lock. Params: the statement's, then id, step, relation. */
export function keepUpdated(facts: StatementFacts): string {
  const owner = escapeIdentifier(facts.table?.alias ?? "")
  const n = facts.parameters
  return `with ${recursive(facts)}${withBody(facts)}stepback_kept as (select (${owner}.*)::text as r${placed(facts)} ${facts.matching} for update of ${owner})
    insert into stepback_ledger.before_images (rollback_id, step_id, relation, operation, row_text)
    select $${n + 1}::uuid, $${n + 2}::text, $${n + 3}::text, 'update', r from ${once(facts, "stepback_kept")}`
}

/** Runs a DELETE or INSERT and keeps what it removed or made, in one statement. Params as above. */
export function runAndKeep(facts: StatementFacts, sql: string): string {
  const owner = escapeIdentifier(facts.table?.alias ?? "")
  const n = facts.parameters
  return `with stepback_done as (${sql.replace(/;\s*$/, "")}
    returning (${owner}.*)::text as r)
    insert into stepback_ledger.before_images (rollback_id, step_id, relation, operation, row_text)
    select $${n + 1}::uuid, $${n + 2}::text, $${n + 3}::text, '${facts.verb}', r from stepback_done`
}

/**
 * After an UPDATE: what became of the kept rows, which is kept too: undo must know what the step left. `spared`: kept, and
 * not changed by us, so that the UPDATE had another row instead. Params: id, step.
 */
export function compareUpdated(facts: StatementFacts, table: TableFacts, redact: readonly string[]): string {
  const telling = tellingColumns(facts)
  const keys = table.primaryKey
    .map((name) => `t.${escapeIdentifier(name)} = (b.r).${escapeIdentifier(name)}`)
    .join(" and ")
  const changed = telling.map((name) => differ(column("(b.r)", name), column("t", name)))
  return `with stepback_after as (
    update stepback_ledger.before_images b set after_text = (t.*)::text from ${table.relation} t
    where b.rollback_id = $1 and b.step_id = $2 and ${table.primaryKey.map((name) => `t.${escapeIdentifier(name)} = (b.row_text::${table.relation}).${escapeIdentifier(name)}`).join(" and ")}),
  stepback_rows as (
    select ${label(table, "t", redact)} as label, ${jsonOf(telling, "(b.r)")} as before, ${jsonOf(telling, "t")} as after,
      (${changed.join(" or ")}) as changed, ${oursOf("t")} as ours
    from (select row_text::${table.relation} as r from stepback_ledger.before_images
      where rollback_id = $1 and step_id = $2) b join ${table.relation} t on ${keys})
  ${summaryFrom("stepback_rows", " (count(*) filter (where not ours))::int as spared,")}`
}

/** Rows of a child table that deleting the matching rows would take along or change. */
export function childrenOf(facts: StatementFacts, child: TableFacts["children"][number]): string {
  const owner = escapeIdentifier(facts.table?.alias ?? "")
  const parents = child.parentColumns.map((name) => column(owner, name)).join(", ")
  const columns = child.columns.map((name) => `c.${escapeIdentifier(name)}`).join(", ")
  const head = facts.with === null ? "" : `${facts.with} `
  return `${head}select count(*)::int as rows from ${child.relation} c where (${columns}) in (select ${parents} ${facts.matching})`
}

/** Rows that refer to one of `values`, or to a row that does, and so on. */
function following({ relation, columns, parentColumns, of }: Follower, values: (columns: string[]) => string): string {
  const own = columns.map((name) => `c.${escapeIdentifier(name)}`).join(", ")
  const theirs = parentColumns.map((name) => `c.${escapeIdentifier(name)}`).join(", ")
  const source = of === null ? values(parentColumns) : `select ${theirs} ${following(of, values)}`
  return `from ${relation} c where (${own}) in (${source})`
}

/** UPDATE, read-only: how many rows of another table would get the new value of what they refer to. */
export function wouldFollow(facts: StatementFacts, table: TableFacts, follower: Follower): string {
  const owner = escapeIdentifier(facts.table?.alias ?? table.name)
  const set = facts.set.filter((item) => follower.through.includes(item.column))
  const typeOf = (name: string) => table.columns.find((item) => item.name === name)?.type ?? "text"
  const changed = set.map(({ column: name, expression }) =>
    expression === null ? "true" : differ(`(${expression})::${typeOf(name)}`, column(owner, name)),
  )
  const values = (columns: string[]) => {
    const names = columns.map((_name, n) => `stepback_${n}`)
    const read = columns.map((name, n) => `${column(owner, name)} as ${names[n] ?? ""}`)
    return `select ${names.join(", ")} from (select ${read.join(", ")}, ${changed.join(" or ")} as stepback_changed ${facts.matching}) stepback_rows where stepback_changed`
  }
  const head = facts.with === null ? "" : `${facts.with} `
  return `${head}select count(*)::int as rows ${following(follower, values)}`
}

/** Kept rows whose UPDATE changed what a foreign key acts by. Params: id, step. */
export function changedThrough({ relation }: TableFacts, { through }: Follower, select: string): string {
  const changed = through.map((name) => differ(column("(b.was)", name), column("(b.is)", name)))
  return `select ${select} from (select row_text::${relation} as was, after_text::${relation} as is from stepback_ledger.before_images
    where rollback_id = $1 and step_id = $2 and relation = ${literal(relation)} and operation = 'update' offset 0) b where ${changed.join(" or ")}`
}

/** After an UPDATE: how many rows got the new value of what they refer to. Params: id, step. */
export function followedBy(table: TableFacts, follower: Follower): string {
  const values = (columns: string[]) =>
    changedThrough(table, follower, columns.map((name) => column("(b.is)", name)).join(", "))
  return `select count(*)::int as rows ${following(follower, values)}`
}

/**
 * Numbers the parameters that a text really uses from 1 on: Postgres refuses one that it never meets, and a part of a
 * statement may not meet them all.
 */
export function bindUsed(text: string, values: readonly unknown[]): { text: string; values: unknown[] } {
  const used: number[] = []
  const renumbered = replaceParameters(text, (n) => {
    if (!used.includes(n)) used.push(n)
    return `$${used.indexOf(n) + 1}`
  })
  return { text: renumbered, values: used.map((n) => values[n - 1]) }
}
