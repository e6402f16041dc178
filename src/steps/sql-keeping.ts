import type { PoolClient } from "pg"
import type { SqlStep } from "../plans/plan.ts"
import type { ChildRows } from "../rollback/facts.ts"
import type { TableFacts } from "./catalog.ts"
import { bindUsed, childrenOf } from "./sql-text.ts"
import { statement } from "./target.ts"

/** Why the rows as they were could not be kept. */
export function keepingProblem(step: SqlStep, table: TableFacts): string | null {
  if (step.irreversible !== null) return null
  if (table.isView) return `${table.name} is not a plain table: its rows cannot be kept; say irreversible and why`
  if (table.primaryKey.length === 0)
    return `${table.name} has no primary key: its rows cannot be kept; say irreversible and why`
  if (step.facts.verb === "delete" && table.heirs.length > 0)
    return `${table.heirs.join(", ")} inherits from ${table.name}, and rows of it would go with columns that cannot be kept: say irreversible and why`
  const moved = step.facts.set.find((item) => table.primaryKey.includes(item.column))
  return moved
    ? `${moved.column} is part of the primary key: changing it cannot be taken back; say irreversible and why`
    : null
}

/** Rows of other tables that a DELETE would take along or change. */
export async function countChildren(
  client: PoolClient,
  step: SqlStep,
  table: TableFacts,
  values: string[],
): Promise<ChildRows[]> {
  const found: ChildRows[] = []
  for (const child of table.children) {
    const counted = await statement(client, ...bound(childrenOf(step.facts, child), values))
    const rows = (counted.rows[0] as { rows: number }).rows
    const action = child.action === "c" ? "cascade" : child.action === "n" ? "set null" : "set default"
    if (rows > 0) found.push({ table: child.table, rows, action })
  }
  return found
}

/** A text of ours with those of the step's parameters that it uses. */
export function bound(text: string, values: readonly unknown[]): [string, unknown[]] {
  const used = bindUsed(text, values)
  return [used.text, used.values]
}
