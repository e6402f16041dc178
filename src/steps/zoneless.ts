import type { TableFacts } from "./catalog.ts"

/** Columns that say nothing of their time zone and by which rows are chosen: the plan means UTC, the data may not. */
export async function zonelessColumns(sql: string, table: TableFacts): Promise<string[]> {
  const zoneless = table.columns.filter(({ type }) => /^timestamp.* without time zone$/.test(type))
  if (zoneless.length === 0) return []
  // The parser takes 15 MB, and most tables have no such column.
  const { listConditionColumns } = await import("../plans/statements.ts")
  const named = new Set(await listConditionColumns(sql))
  return zoneless
    .filter(({ name }) => named.has(name))
    .map(({ name }) => `${table.name}.${name} has no time zone: rows are chosen by it as if it were UTC`)
}
