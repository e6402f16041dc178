import { escapeIdentifier, type PoolClient } from "pg"
import type { TableFacts } from "./catalog.ts"
import { statement } from "./target.ts"

/** Values of the plan's key. Null where the table allows it and a row has none: such a row can be shown, not found again. */
export type Key = readonly (string | null)[]

/** A row of a table or of a snapshot: its whole text, the part of it that is compared, and that part's values, each as JSON. */
export type Row = { key: Key; row: string; compared: string; shown: (string | null)[] }

export type Reading = { table: TableFacts; key: readonly string[]; compared: readonly string[] }

const id = escapeIdentifier

export function columnsOf({ columns }: { columns: TableFacts["columns"] }): string[] {
  return columns.map((column) => column.name)
}

/**
 * Columns that are compared and put back: not the key, by which rows are found; not what the plan ignores; not what the
 * server makes itself: a surrogate of the primary key, a generated column, an identity that no UPDATE may set.
 */
export function comparedColumns(table: TableFacts, key: readonly string[], ignore: readonly string[]): string[] {
  return table.columns
    .filter((column) => !column.generated && !column.always)
    .map((column) => column.name)
    .filter((name) => !key.includes(name) && !ignore.includes(name) && !table.primaryKey.includes(name))
}

/** Rows of the table as it is, or of a snapshot's texts, read back by the server: the same expressions for both. */
export async function readRows(client: PoolClient, reading: Reading, texts: readonly string[] | null): Promise<Row[]> {
  const { relation } = reading.table
  const list = (names: readonly string[], as: (value: string) => string) =>
    names.map((name) => as(`(x.r).${id(name)}`)).join(", ")
  const source =
    texts === null
      ? `select stepback_row as r from ${relation} stepback_row`
      : `select u.r::${relation} as r from unnest($1::text[]) u (r)`
  const { rows } = await statement(
    client,
    `select array[${list(reading.key, (value) => `${value}::text`)}]::text[] as key, x.r::text as row,
       row(${list(reading.compared, (value) => value)})::text as compared,
       array[${list(reading.compared, (value) => `to_jsonb(${value})::text`)}]::text[] as shown
     from (${source} offset 0) x`,
    texts === null ? [] : [texts],
  )
  return rows as Row[]
}
