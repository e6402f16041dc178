import { escapeIdentifier } from "pg"
import type { TableFacts } from "./catalog.ts"
import { label } from "./sql-text.ts"
import { blockedOnes, type Coming } from "./blocked.ts"

/** Giving back from an archive. Params of an undo: 1 relation, 2 rollback, 3 step; summaries have none. */
const id = escapeIdentifier

function keys(table: TableFacts): string {
  return table.primaryKey.map((name) => `t.${id(name)} = a.${id(name)}`).join(" and ")
}

const rowText = (owner: string, columns: readonly string[]) =>
  `row(${columns.map((name) => `${owner}.${id(name)}`).join(", ")})::text`

/** A row of the archive, for the rules that it must meet to come back. */
export function archived(columns: readonly string[]): Coming {
  return { star: "a.*", column: (name) => `a.${id(name)}`, has: columns }
}

/** Rows that can be given back, those that are there as they were, those whose key is taken by another, those without a place. */
export function removedSummary(
  table: TableFacts,
  archive: string,
  columns: readonly string[],
  { redact, blocked }: { redact: readonly string[]; blocked: string },
): string {
  return `with a as (select * from ${archive}),
    judged as (select ${label(table, "a", redact)} as label, t.there as there, t.same as same, case when t.there is null then ${blocked} end as blocked
      from a left join lateral (select true as there, ${rowText("t", columns)} is not distinct from ${rowText("a", columns)} as same
        from ${table.relation} t where ${keys(table)}) t on true)
    select count(*) filter (where there is null and blocked is null)::int as wanted, count(*) filter (where same)::int as already,
      count(*) filter (where not same)::int as conflicts,
      coalesce((select array_agg(label) from (select label from judged where not same limit 20) c), '{}') as labels, ${blockedOnes} from judged`
}

export function removedUndo(table: TableFacts, archive: string, columns: readonly string[], blocked: string): string {
  const names = columns.map(id).join(", ")
  return `with a as (select * from ${archive}),
    done as (insert into ${table.relation} as t (${names}) overriding system value select ${columns.map((name) => `a.${id(name)}`).join(", ")} from a
      where not exists (select 1 from ${table.relation} t where ${keys(table)}) and ${blocked} is null returning (t.*)::text as new_text)
    insert into stepback_ledger.before_images (rollback_id, step_id, relation, operation, row_text)
    select $2::uuid, $3::text, $1, 'insert', new_text from done`
}

/** Columns that a foreign key emptied, with what it put there instead of null, as SQL. */
export type Cut = { name: string; instead: string | null }[]

const isCut = (cut: Cut) =>
  cut
    .map(({ name, instead }) =>
      instead === null
        ? `t.${id(name)} is null`
        : `(t.${id(name)} is null or t.${id(name)} is not distinct from (${instead}))`,
    )
    .join(" and ")

/** Rows that lost their parent: only the columns that the foreign key emptied come back, where they are still empty. */
export function cutSummary(
  table: TableFacts,
  archive: string,
  cut: Cut,
  { redact, blocked, returning }: { redact: readonly string[]; blocked: string; returning: boolean },
): string {
  // A row that is gone reads as one that is empty. `returning`: such rows may be there again by then.
  const there = table.primaryKey.map((name) => `t.${id(name)} is not null`)
  const empty = [...(returning ? [] : there), isCut(cut)].join(" and ")
  return `with a as (select * from ${archive}),
    judged as (select ${label(table, "a", redact)} as label, (${empty}) as empty, case when ${empty} then ${blocked} end as blocked
      from a left join ${table.relation} t on ${keys(table)})
    select count(*) filter (where empty and blocked is null)::int as wanted, 0 as already, count(*) filter (where empty is not true)::int as conflicts,
      coalesce((select array_agg(label) from (select label from judged where empty is not true limit 20) c), '{}') as labels, ${blockedOnes} from judged`
}

export function cutUndo(table: TableFacts, archive: string, cut: Cut, blocked: string): string {
  return `with a as (select * from ${archive}),
    held as materialized (select a.*, (t.*)::text as stepback_old from a join ${table.relation} t on ${keys(table)} where ${isCut(cut)} and ${blocked} is null for update of t),
    done as (update ${table.relation} t set ${cut.map(({ name }) => `${id(name)} = a.${id(name)}`).join(", ")} from held a where ${keys(table)}
      returning a.stepback_old as old_text, (t.*)::text as new_text)
    insert into stepback_ledger.before_images (rollback_id, step_id, relation, operation, row_text, after_text)
    select $2::uuid, $3::text, $1, 'update', old_text, new_text from done`
}

/** Rows of the archive whose place in the table is taken by a row that reads otherwise. */
export function archiveDiffers(table: TableFacts, archive: string, columns: readonly string[]): string {
  return `select count(*)::int as rows from ${archive} a join ${table.relation} t on ${keys(table)}
    where ${rowText("t", columns)} is distinct from ${rowText("a", columns)}`
}
