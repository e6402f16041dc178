import type { Pool, PoolClient } from "pg"
import { StepbackError } from "../errors.ts"
import { canonicalJson, sha256 } from "../plans/frozen.ts"
import type { BaselineRules } from "../plans/plan.ts"
import { findTable, type TableFacts } from "./catalog.ts"
import { splitName } from "./purge-counts.ts"
import { columnsOf, readRows, type Key } from "./restore-rows.ts"
import { looking } from "./target.ts"

/** A table as it was. A row is its own text: exact for every type, and as a whole what the server reads back. */
export type SnapshotTable = {
  table: string
  key: string[]
  columns: TableFacts["columns"]
  rows: { key: string[]; row: string }[]
}

export type Snapshot = {
  format: 1
  environment: string
  name: string
  database: string
  /** The target's clock, in the transaction that read all of it. */
  capturedAt: string
  tables: SnapshotTable[]
}

/** A snapshot as the state database keeps it. */
export type KeptSnapshot = { name: string; sha256: string; content: string; capturedAt: string; ageMs: number }

/** A baseline is for configuration: a table of people's data is what a purge and its archive are for. */
const mostRows = 20_000
const captureTimeoutMs = 30_000

/** Reads the plan's baseline tables as of one moment. Throws a StepbackError with the way out when it cannot. */
export async function captureBaseline(
  pool: Pool,
  request: { environment: string; name: string; rules: BaselineRules; database: string | null },
): Promise<{ snapshot: Snapshot; content: string; sha256: string }> {
  const snapshot = await looking(pool, captureTimeoutMs, async (client): Promise<Snapshot> => {
    const { rows } = await client.query<{ database: string; at: Date }>(
      "select current_database() as database, now() as at",
    )
    const { database, at } = rows[0] as { database: string; at: Date }
    if (request.database !== null && request.database !== database)
      throw new StepbackError(
        "refused",
        `the target is database "${database}", and the plan expects "${request.database}"`,
      )
    const tables: SnapshotTable[] = []
    for (const rule of request.rules.tables) tables.push(await captureTable(client, rule))
    return {
      format: 1,
      environment: request.environment,
      name: request.name,
      database,
      capturedAt: at.toISOString(),
      tables,
    }
  })
  const content = canonicalJson(snapshot)
  return { snapshot, content, sha256: sha256(content) }
}

async function captureTable(client: PoolClient, rule: BaselineRules["tables"][number]): Promise<SnapshotTable> {
  const table = await findNamed(client, rule.table)
  if (!table) throw new StepbackError("refused", `there is no table ${rule.table} that this role can see`)
  const problem = keyProblem(table, rule.key)
  if (problem) throw new StepbackError("refused", problem)
  const { rows: counted } = await client.query<{ rows: number }>(
    `select count(*)::int as rows from (select from ${table.relation} limit ${mostRows + 1}) counted`,
  )
  if ((counted[0]?.rows ?? 0) > mostRows)
    throw new StepbackError(
      "refused",
      `${rule.table} has more than ${mostRows} rows: a baseline is for tables of configuration`,
    )
  const found = await readRows(client, { table, key: rule.key, compared: [] }, null)
  // A null would be refused below.
  const rows = found
    .map(({ key, row }) => ({ key: key.map((value) => value ?? ""), row }))
    .sort((a, b) => (keyId(a.key) < keyId(b.key) ? -1 : 1))
  const ids = rows.map((row) => keyId(row.key))
  const twice = ids.findIndex((id, index) => ids[index + 1] === id)
  if (twice >= 0 || found.some(({ key }) => key.includes(null)))
    throw new StepbackError(
      "refused",
      `${rule.key.join(", ")} is no key of ${rule.table}: two rows have the same, or one has none`,
    )
  return { table: rule.table, key: rule.key, columns: table.columns, rows }
}

export function findNamed(client: PoolClient, name: string): Promise<TableFacts | null> {
  const { schema, name: table } = splitName(name)
  return findTable(client, schema, table)
}

/** Key values as one text that no other key has. */
export function keyId(key: Key): string {
  return JSON.stringify(key)
}

function keyProblem(table: TableFacts, key: readonly string[]): string | null {
  if (table.isView) return `${table.name} is not a plain table: nothing could be put back into it`
  const missing = key.find((name) => !table.columns.some((column) => column.name === name))
  return missing === undefined ? null : `${table.name} has no column ${missing}, which the plan gives as its key`
}

/** Reads a kept snapshot back. Null when it is not what was captured. */
export function readSnapshot(kept: KeptSnapshot): Snapshot | null {
  if (sha256(kept.content) !== kept.sha256) return null
  return JSON.parse(kept.content) as Snapshot
}

/** What of a table's shape is another one since; null when nothing is. */
export function schemaDifference(then: TableFacts["columns"], now: TableFacts["columns"]): string | null {
  const before = new Map(then.map((column) => [column.name, canonicalJson(column)]))
  const after = new Map(now.map((column) => [column.name, canonicalJson(column)]))
  const parts = [
    ...[...after.keys()].filter((name) => !before.has(name)).map((name) => `column ${name} is new`),
    ...[...before.keys()].filter((name) => !after.has(name)).map((name) => `column ${name} is gone`),
    ...[...after]
      .filter(([name, facts]) => before.has(name) && before.get(name) !== facts)
      .map(([name]) => `column ${name} is another`),
  ]
  if (parts.length > 0) return parts.join(", ")
  // A row's text has its columns in order.
  return then.map((column) => column.name).join() === now.map((column) => column.name).join()
    ? null
    : "its columns stand in another order"
}

/** The snapshot as a file for people and other programs. Values that the plan says are never shown stay out of it. */
export function snapshotFile(snapshot: Snapshot, hash: string, redact: readonly string[]): string {
  const tables = snapshot.tables.map((table) => {
    const withheld = columnsOf(table).filter((name) => redact.includes(name))
    return withheld.length === 0
      ? table
      : {
          ...table,
          rows: [],
          withheld: `not exported: the plan redacts ${withheld.join(", ")}`,
          count: table.rows.length,
        }
  })
  const { capturedAt, environment, name, database } = snapshot
  const head = { timestamp: capturedAt, environment, name, database, sha256: hash }
  return `${JSON.stringify({ ...head, content: { ...snapshot, tables } }, null, 2)}\n`
}
