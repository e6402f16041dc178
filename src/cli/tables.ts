import type { PlanComponent, StatementFacts } from "../plans/plan.ts"
import { collect, parseStatements, type TableTree } from "../plans/statement-tree.ts"
import { qualified } from "../steps/catalog.ts"
import { splitName } from "../steps/purge-counts.ts"

export type Write = "insert" | "update" | "delete"

/** A table that a plan's steps read, and what they write there. `relation` is quoted, ready for SQL. */
export type TableUse = {
  relation: string
  schema: string | null
  name: string
  writes: Set<Write>
  /** Columns that are set; empty for an insert that names none. */
  updated: Set<string>
}

/** Every table that the steps of these components name, in the order in which they are met. */
export async function tablesOf(components: readonly PlanComponent[]): Promise<TableUse[]> {
  const found = new Map<string, TableUse>()
  const use = (schema: string | null, name: string): TableUse => {
    const relation = qualified(schema, name)
    const known = found.get(relation) ?? { relation, schema, name, writes: new Set(), updated: new Set() }
    found.set(relation, known)
    return known
  }
  for (const step of components.flatMap((component) => component.steps)) {
    if (step.kind === "purge")
      for (const table of [step.table, ...step.cascade].map(splitName))
        use(table.schema, table.name).writes.add("delete")
    if (step.kind === "restore") {
      const { schema, name } = splitName(step.table)
      for (const write of ["insert", "update", "delete"] as const) use(schema, name).writes.add(write)
    }
    if (step.kind !== "sql" && step.kind !== "check") continue
    if (step.kind === "sql" && step.facts.table !== null)
      note(use(step.facts.table.schema, step.facts.table.name), step.facts)
    for (const table of await readTables(step.sql)) use(table.schema, table.name)
  }
  return [...found.values()]
}

function note(table: TableUse, facts: StatementFacts): void {
  if (facts.verb !== "select") table.writes.add(facts.verb)
  if (facts.verb === "insert" && facts.onConflict === "update") table.writes.add("update")
  if (facts.verb === "update") for (const { column } of facts.set) table.updated.add(column)
}

/** Tables after FROM, USING and the like; names that a WITH gives are none. */
async function readTables(sql: string): Promise<{ schema: string | null; name: string }[]> {
  const parsed = await parseStatements(sql)
  if ("error" in parsed) return []
  const own = new Set(collect(parsed.statements, "ctename"))
  // `as`: the key says which node it is.
  return (collect(parsed.statements, "RangeVar") as TableTree[]).flatMap(({ schemaname = null, relname }) => {
    if (relname === undefined || (schemaname === null && own.has(relname))) return []
    return isSystem(schemaname, relname) ? [] : [{ schema: schemaname, name: relname }]
  })
}

function isSystem(schema: string | null, name: string): boolean {
  return schema === null ? name.startsWith("pg_") : schema === "information_schema" || schema.startsWith("pg_")
}

/** Rows are read back before they change, locked before they go, and an undo does the opposite of what was done. */
export function privilegesOf(table: TableUse): ("select" | Write)[] {
  const needed = new Set(table.writes)
  if (table.writes.has("delete")) needed.add("insert").add("update")
  if (table.writes.has("insert")) needed.add("delete")
  return ["select", ...(["insert", "update", "delete"] as const).filter((write) => needed.has(write))]
}
