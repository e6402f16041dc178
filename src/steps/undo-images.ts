import { escapeIdentifier, type PoolClient } from "pg"
import type { TableFacts } from "./catalog.ts"
import { label } from "./sql-text.ts"
import { blockedOnes, oneOf, type Coming } from "./blocked.ts"
import { statement } from "./target.ts"

/**
 * Taking back from before-images, per table and operation, as sets. Params: 1 rollback and 2 step whose images they
 * are, 3 relation; for running also 4 rollback and 5 step that keep what undo itself replaces, so that an undo can be
 * undone.
 */
export type ImageOperation = "update" | "delete" | "insert"

const id = escapeIdentifier

function keys(table: TableFacts): string {
  return table.primaryKey.map((name) => `t.${id(name)} = (o.r).${id(name)}`).join(" and ")
}

function stored(table: TableFacts): string[] {
  return table.columns.filter((column) => !column.generated).map((column) => column.name)
}

function images(table: TableFacts, operation: ImageOperation): string {
  return `select row_text::${table.relation} as r, row_text, after_text, n from stepback_ledger.before_images
    where rollback_id = $1 and step_id = $2 and relation = $3 and operation = '${operation}'`
}

/** A kept row, for the rules that it must meet to come back. */
export function imaged(table: TableFacts): Coming {
  return {
    star: "(o.r).*",
    column: (name) => `(o.r).${id(name)}`,
    // What the server computes it computes anew: a kept text may have what an older rule gave.
    has: stored(table),
  }
}

/** A row of the same set of changed rows gives its value back as well, unless somebody changed it since: then it stays. */
export function inSet({ primaryKey, relation }: TableFacts): string {
  const same = primaryKey.map((name) => `stepback_z.${id(name)} = (stepback_o.r).${id(name)}`).join(" and ")
  return oneOf(
    primaryKey,
    "stepback_o.r",
    `o stepback_o join ${relation} stepback_z on ${same} where (stepback_z.*)::text = stepback_o.after_text`,
  )
}

/** Its own value is in nobody's way. */
export function itself(table: TableFacts): string {
  return `(${table.primaryKey.map((name) => `(o.r).${id(name)} = stepback_x.${id(name)}`).join(" and ")})`
}

/** What a row's state says: `wanted` can be taken back, `already` is as it was, anything else is a conflict. */
const verdicts: Record<ImageOperation, { wanted: string; already: string }> = {
  update: {
    wanted: "t.now_text = o.after_text and t.now_text is distinct from o.row_text",
    already: "t.now_text = o.row_text",
  },
  delete: { wanted: "t.now_text is null", already: "t.now_text = o.row_text" },
  insert: { wanted: "t.now_text = o.row_text", already: "t.now_text is null" },
}

/** Behind every image: the greatest bigint. */
const lastOfAll = "9223372036854775807"

/** Archives of rows that later steps of that run removed from the table. Params: id, step, relation. */
export const laterArchives = `select name from stepback_ledger.archives where rollback_id = $1 and step_id <> $2 and cut is null
  and (relation = $3 or to_regclass(relation) in (select relid from pg_partition_tree(to_regclass($3))))
  and created_at > (select max(kept_at) from stepback_ledger.before_images where rollback_id = $1 and step_id = $2)`

/**
 * How many rows can be taken back, how many are so already, and which changed since. `ahead`: as it will be when what came
 * later in that run, which is taken back first, is: a row that it touched, or removed into one of these archives, is not what
 * somebody else changed.
 */
export function imageSummary(
  table: TableFacts,
  operation: ImageOperation,
  shown: number,
  { redact, ahead, blocked }: { redact: readonly string[]; ahead: readonly string[] | null; blocked: string },
): string {
  const verdict = verdicts[operation]
  const names = table.primaryKey.map(id)
  const touched = [
    `select ${names.map((name) => `(row_text::${table.relation}).${name}`).join(", ")}, n as last from stepback_ledger.before_images
        where rollback_id = $1 and relation = $3 and not (step_id = $2 and operation = '${operation}')`,
    ...(ahead ?? []).map((archive) => `select ${names.join(", ")}, ${lastOfAll} from ${archive}`),
  ].join(" union all ")
  // Rows of an UPDATE that were so already will be so then.
  const moved = operation === "update" ? "o.after_text is distinct from o.row_text" : "true"
  const later = `left join (select ${names.join(", ")}, max(last) as last from (${touched}) touched group by ${names.join(", ")}) l
      on l.last > o.n and ${names.map((name) => `l.${name} = (o.r).${name}`).join(" and ")}`
  const [wanted, already] = ahead
    ? [
        `(l.last is not null and ${moved} or ${verdict.wanted})`,
        `case when l.last is null then ${verdict.already} else not (${moved}) end`,
      ]
    : [verdict.wanted, verdict.already]
  return `with o as materialized (${images(table, operation)}),
    judged as (select ${label(table, "(o.r)", redact)} as label, ${wanted} as wanted, ${already} as already,
        case when ${wanted} then ${blocked} end as blocked
      from o ${ahead ? later : ""}
      left join lateral (select (t.*)::text as now_text from ${table.relation} t where ${keys(table)}) t on true)
    select count(*) filter (where wanted and blocked is null)::int as wanted, count(*) filter (where already and wanted is not true)::int as already,
      count(*) filter (where wanted is not true and already is not true)::int as conflicts,
      coalesce((select array_agg(label) from (select label from judged where wanted is not true and already is not true limit ${shown}) c), '{}') as labels,
      ${blockedOnes} from judged`
}

/** Takes back what can be taken back, and keeps what it replaces. */
export function imageUndo(table: TableFacts, operation: ImageOperation, blocked: string): string {
  const columns = stored(table)
  const names = columns.map(id).join(", ")
  const keep = (
    kept: string,
    from: string,
  ) => `insert into stepback_ledger.before_images (rollback_id, step_id, relation, operation, row_text, after_text)
    select $4::uuid, $5::text, $3, '${kept}', ${from} from done`
  if (operation === "update")
    return `with o as materialized (${images(table, "update")}),
      held as materialized (select o.r, (t.*)::text as old_text from o join ${table.relation} t on ${keys(table)}
        where (t.*)::text = o.after_text and (t.*)::text is distinct from o.row_text and ${blocked} is null order by o.n desc for update of t),
      done as (update ${table.relation} t set ${columns
        .filter(
          (name) =>
            !table.primaryKey.includes(name) && !table.columns.some((column) => column.name === name && column.always),
        )
        .map((name) => `${id(name)} = (o.r).${id(name)}`)
        .join(", ")} from held o where ${keys(table)} returning o.old_text, (t.*)::text as new_text)
      ${keep("update", "old_text, new_text")}`
  if (operation === "delete")
    return `with o as materialized (${images(table, "delete")}),
      done as (insert into ${table.relation} as t (${names}) overriding system value
        select ${columns.map((name) => `(o.r).${id(name)}`).join(", ")} from o
        where not exists (select 1 from ${table.relation} t where ${keys(table)}) and ${blocked} is null returning (t.*)::text as new_text)
      ${keep("insert", "new_text, null")}`
  return `with o as materialized (${images(table, "insert")}),
    done as (delete from ${table.relation} t using o where ${keys(table)} and (t.*)::text = o.row_text returning (t.*)::text as old_text)
    ${keep("delete", "old_text, null")}`
}

/**
 * Keeps rows that a step made or changed as they are at its end: triggers that fire after a row was written may have
 * written it again, which nobody else did.
 */
export async function rereadImages(client: PoolClient, table: TableFacts, rollbackId: string, stepId: string) {
  // Without a key no row is found again, and no undo is offered.
  if (table.triggers.length === 0 || table.primaryKey.length === 0) return
  const same = table.primaryKey
    .map((name) => `t.${id(name)} = (b.row_text::${table.relation}).${id(name)}`)
    .join(" and ")
  await statement(
    client,
    `update stepback_ledger.before_images b
       set row_text = case operation when 'insert' then (t.*)::text else row_text end,
         after_text = case operation when 'insert' then after_text else (t.*)::text end
       from ${table.relation} t where b.rollback_id = $1 and b.step_id = $2 and b.relation = $3 and b.operation <> 'delete' and ${same}`,
    [rollbackId, stepId, table.relation],
  )
}

/** Locks the inserted rows that would be deleted: who wants to refer to one of them waits. Params 1 to 3. */
export function imageLock(table: TableFacts): string {
  return `with o as materialized (${images(table, "insert")}) select 1 from ${table.relation} t join o on ${keys(table)}
    where (t.*)::text = o.row_text for update of t`
}

/** Rows of a child table that deleting the inserted rows would take along. Params 1 to 3. */
export function imageChildren(
  table: TableFacts,
  child: Pick<TableFacts["children"][number], "relation" | "self" | "columns" | "parentColumns">,
): string {
  const theirs = child.columns.map((name) => `c.${id(name)}`).join(", ")
  const ours = child.parentColumns.map((name) => `(o.r).${id(name)}`).join(", ")
  // Rows of its own that go as well are kept as well; one that was changed since stays.
  const same = table.primaryKey.map((name) => `c.${id(name)} = (o.r).${id(name)}`).join(" and ")
  const others = child.self ? ` and not exists (select from o where ${same} and (c.*)::text = o.row_text)` : ""
  return `with o as materialized (${images(table, "insert")}) select count(*)::int as rows from ${child.relation} c where (${theirs}) in (select ${ours} from o)${others}`
}

/**
 * What an undo changes, of some rows: a line each for the columns of those that were updated (as JSON, now and then), one
 * for a whole row that comes back (now: null) or goes (back: null). Params 1 to 3, and 4: columns that are not shown.
 */
export function imageSamples(
  table: TableFacts,
  operation: ImageOperation,
  { redact, blocked }: { redact: readonly string[]; blocked: string },
): string {
  const name = label(table, "(o.r)", redact)
  const of = `with o as materialized (${images(table, operation)})`
  if (operation === "delete")
    return `${of} select ${name} as label, '' as column, null as now, (to_jsonb(o.r) - $4::text[])::text as back from o
      where not exists (select 1 from ${table.relation} t where ${keys(table)}) and ${blocked} is null limit ${sampled}`
  if (operation === "insert")
    return `${of} select ${name} as label, '' as column, (to_jsonb(o.r) - $4::text[])::text as now, null as back
      from o join ${table.relation} t on ${keys(table)} where (t.*)::text = o.row_text limit ${sampled}`
  return `${of}, picked as (select ${name} as label, to_jsonb(t.*) as now, to_jsonb(o.r) as back from o join ${table.relation} t on ${keys(table)}
      where (t.*)::text = o.after_text and (t.*)::text is distinct from o.row_text and ${blocked} is null limit ${sampled})
    select label, b.key as column, (picked.now -> b.key)::text as now, b.value::text as back from picked, jsonb_each(picked.back) b
    where picked.now -> b.key is distinct from b.value and $4::text[] is not null`
}

/** Rows of one table that a card names. */
const sampled = 20
