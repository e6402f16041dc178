import { splitName } from "./purge-counts.ts"
import type { Condition } from "./erase.ts"
import type { Snapshot } from "./baseline.ts"

/** Whether a snapshot has a row of the table whose column has the value. */
export function snapshotHas(content: string, { table, column, value }: Condition): boolean {
  const { name } = splitName(table)
  return (JSON.parse(content) as Snapshot).tables.some((kept) => {
    if (splitName(kept.table).name !== name) return false
    const at = kept.columns.findIndex((one) => one.name === column)
    return at >= 0 && kept.rows.some(({ row }) => fieldsOf(row)[at] === value)
  })
}

/** The fields of a row's text, as Postgres writes it: quoted where they need it, quotes and backslashes doubled. */
function fieldsOf(row: string): string[] {
  const fields: string[] = []
  const inner = row.slice(1, -1)
  const pattern = /"((?:[^"]|"")*)"|([^,]*)/y
  for (let at = 0; at <= inner.length; at = pattern.lastIndex + 1) {
    pattern.lastIndex = at
    const match = pattern.exec(inner)
    fields.push(match?.[1]?.replaceAll('""', '"').replaceAll("\\\\", "\\") ?? match?.[2] ?? "")
    pattern.lastIndex = at + (match?.[0].length ?? 0)
  }
  return fields
}
