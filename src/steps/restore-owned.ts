import { escapeIdentifier, type PoolClient } from "pg"
import type { PlanStep, PurgeStep, SqlStep } from "../plans/plan.ts"
import type { Values } from "../plans/values.ts"
import { keyId } from "./baseline.ts"
import { findTable, type TableFacts } from "./catalog.ts"
import { splitName } from "./purge-counts.ts"
import { findFamily, listedKin, whereOf, withOwn } from "./purge-family.ts"
import type { Key } from "./restore-rows.ts"
import { some } from "./shown.ts"
import { bindUsed } from "./sql-text.ts"
import { statement } from "./target.ts"

/** Keys of a table that other steps of the run set, each with whose it is; or why that cannot be told. */
export type Owned = { keys: Map<string, { key: Key; title: string }> } | { unknown: string }

/**
 * Asked of the target, not read off what those steps show: a row that is already as its step wants it belongs to that
 * step no less.
 */
export async function findOwned(
  client: PoolClient,
  table: TableFacts,
  key: readonly string[],
  others: readonly { step: PlanStep; values: Values }[],
): Promise<Owned> {
  const keys: Extract<Owned, { keys: unknown }>["keys"] = new Map()
  for (const { step, values } of others) {
    if (step.kind !== "sql" && step.kind !== "purge") continue
    const queries =
      step.kind === "sql" ? await ofStatement(client, step, table, key) : await ofPurge(client, step, table, key)
    const missing = step.params.find((name) => !(name in values))
    for (const query of queries) {
      if (missing !== undefined || query === null)
        return { unknown: `which rows "${step.title}" sets is known only when it runs` }
      const used = bindUsed(
        query,
        step.params.map((name) => values[name] ?? ""),
      )
      const { rows } = await statement(client, used.text, used.values)
      for (const row of rows as { key: Key }[]) keys.set(keyId(row.key), { key: row.key, title: step.title })
    }
  }
  return { keys }
}

/** One line a step: a purge may have all of the table. */
export function ownedLines(
  owned: readonly { key: Key; title: string }[],
  { most, labelOf }: { most: number; labelOf: (key: Key) => string },
): string[] {
  return [...Map.groupBy(owned, ({ title }) => title)].map(([title, rows]) => {
    const named = rows.slice(0, most).map(({ key }) => labelOf(key))
    return rows.length === 1
      ? `${named.join("")} is left to "${title}"`
      : `${rows.length} rows are left to "${title}": ${some(named, rows.length)}`
  })
}

/** None where it writes to another table; null where its rows cannot be asked for. */
async function ofStatement(
  client: PoolClient,
  step: SqlStep,
  table: TableFacts,
  key: readonly string[],
): Promise<(string | null)[]> {
  const named = step.facts.table
  if (named === null || (await findTable(client, named.schema, named.name))?.relation !== table.relation) return []
  return [keysOfStatement(step, table, key)]
}

/** Those that it removes, and those that go along by a foreign key, on each way that leads there. */
async function ofPurge(
  client: PoolClient,
  asked: PurgeStep,
  table: TableFacts,
  key: readonly string[],
): Promise<string[]> {
  const { schema, name } = splitName(asked.table)
  const family = await findFamily(client, schema, name, asked.cascade)
  if (family === null) return []
  const { where } = withOwn(asked, family)
  return listedKin(family)
    .filter((kin) => kin.table.relation === table.relation)
    .map((kin) => {
      const owner = escapeIdentifier(kin.table.name)
      return `select ${keyArray(owner, key)} from ${table.relation} as ${owner} where ${whereOf(kin, `(${where})`)}`
    })
}

function keyArray(owner: string, key: readonly string[]): string {
  return `array[${key.map((name) => `${owner}.${escapeIdentifier(name)}::text`).join(", ")}]::text[] as key`
}

function keysOfStatement({ facts }: SqlStep, table: TableFacts, key: readonly string[]): string | null {
  const head = facts.with === null ? "" : `${facts.with} `
  if (facts.verb !== "insert")
    return facts.matching === null
      ? null
      : `${head}select ${keyArray(escapeIdentifier(facts.table?.alias ?? table.name), key)} ${facts.matching}`
  if (facts.source === null) return null
  const columns = facts.insertColumns.length > 0 ? facts.insertColumns : table.columns.map((column) => column.name)
  // A key that the server makes up is nobody's yet.
  if (key.some((name) => !columns.includes(name))) return `${head}select null::text[] as key where false`
  // As the column will have it: a uuid may be written in capitals, a moment in another zone.
  const texts = key.map((name) => {
    const type = table.columns.find((column) => column.name === name)?.type ?? "text"
    return `stepback_source.${escapeIdentifier(name)}::${type}::text`
  })
  return `${head}select array[${texts.join(", ")}]::text[] as key from (${facts.source}) as stepback_source (${columns.map(escapeIdentifier).join(", ")})`
}
