import type { PoolClient } from "pg"
import type { RestoreStep } from "../plans/plan.ts"
import { findNamed, readSnapshot, schemaDifference, type KeptSnapshot, type SnapshotTable } from "./baseline.ts"
import type { TableFacts } from "./catalog.ts"
import type { Showing } from "./restore-plan.ts"
import { comparedColumns, readRows, type Reading, type Row } from "./restore-rows.ts"
import { ruleProblem } from "./sql-keeping.ts"
import type { StepContext } from "./step.ts"

/** A table beside its snapshots, all read back by the server. */
export type OpenTable = Reading & {
  table: TableFacts
  ignore: readonly string[]
  snapshots: { base: Row[]; after: Row[] | null }
  /** Labels of every row that the snapshots or the table have. */
  keys: Set<string>
}

export type Sources = {
  kept: KeptSnapshot
  after: KeptSnapshot | null
  key: readonly string[]
  ignore: readonly string[]
}

/** Opens a step's table; the problem is a sentence when its snapshot cannot be put beside it. */
export async function openTable(
  client: PoolClient,
  step: Pick<RestoreStep, "table" | "irreversible">,
  sources: Sources,
): Promise<OpenTable | { problem: string }> {
  const table = await findNamed(client, step.table)
  if (!table) return { problem: `there is no table ${step.table} that this role can see` }
  if (table.isView) return { problem: `${table.name} is not a plain table: nothing can be put back into it` }
  if (table.primaryKey.length === 0 && step.irreversible === null)
    return { problem: `${table.name} has no primary key: its rows cannot be kept; say irreversible and why` }
  const rules = ruleProblem("update", table) ?? ruleProblem("insert", table)
  if (rules !== null && step.irreversible === null) return { problem: `${rules}: its rows cannot be put back` }
  const base = findPart(sources.kept, step.table, table, sources.key)
  if (typeof base === "string") return { problem: base }
  const after = sources.after === null ? null : findPart(sources.after, step.table, table, sources.key)
  if (typeof after === "string") return { problem: after }
  const reading: Reading = { table, key: sources.key, compared: comparedColumns(table, sources.key, sources.ignore) }
  const texts = (part: SnapshotTable) => part.rows.map((row) => row.row)
  const snapshots = {
    base: await readRows(client, reading, texts(base)),
    after: after === null ? null : await readRows(client, reading, texts(after)),
  }
  const keys = new Set([...snapshots.base, ...(snapshots.after ?? [])].map((row) => row.key.join("/")))
  return { ...reading, table, ignore: sources.ignore, snapshots, keys }
}

export async function readNow(client: PoolClient, opened: OpenTable): Promise<Row[]> {
  const rows = await readRows(client, opened, null)
  for (const row of rows) opened.keys.add(row.key.join("/"))
  return rows
}

export function showingOf(
  { table, key, compared }: Reading,
  { redact, secrets }: Pick<StepContext, "redact" | "secrets">,
): Showing {
  return { table: table.name, key, compared, redact, clean: (text) => secrets.redact(text) }
}

/** The table's part of a snapshot, or why it is of no use here. */
function findPart(kept: KeptSnapshot, name: string, table: TableFacts, key: readonly string[]): SnapshotTable | string {
  const snapshot = readSnapshot(kept)
  if (!snapshot) return `the snapshot "${kept.name}" is not what was captured: its hash differs`
  const part = snapshot.tables.find((each) => each.table === name)
  if (!part) return `the snapshot "${kept.name}" of ${kept.capturedAt} does not have ${name}: capture it again`
  if (part.key.join() !== key.join())
    return `the key of ${name} in the plan is another one than when "${kept.name}" was captured: capture it again`
  const difference = schemaDifference(part.columns, table.columns)
  return difference === null
    ? part
    : `the columns of ${name} have changed since "${kept.name}" was captured (${difference}): its rows do not fit any more`
}
