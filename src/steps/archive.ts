import { createHash } from "node:crypto"
import { escapeIdentifier, type PoolClient } from "pg"
import { StepbackError } from "../errors.ts"
import type { TableFacts } from "./catalog.ts"
import { shorten } from "./shown.ts"

/**
 * Archive tables hold removed rows with their own types, so that they come back exactly. Each belongs to one step of one
 * run and one table, and has no column but that table's own: whose rows they are stands once, in the list of archives.
 * So a row costs no more than in a copy made by hand, nothing needs an index, and forgetting is dropping a table.
 */
export type Archive = { name: string; columns: string[] }

/** Whose rows an archive keeps. `cut`: columns that a foreign key will empty; null where the rows themselves go. */
export type ArchiveOf = {
  table: TableFacts
  rollbackId: string
  stepId: string
  depth: number
  cut: readonly string[] | null
}

/** Columns that are stored: a generated one follows from the others. */
function storedColumns(table: TableFacts): TableFacts["columns"] {
  return table.columns.filter((column) => !column.generated)
}

export function archiveOf({ table, rollbackId, stepId, cut }: ArchiveOf): Archive {
  const columns = storedColumns(table)
  const shape = columns.map((column) => [column.name, column.type])
  const hash = createHash("sha256")
    .update(JSON.stringify([rollbackId, stepId, table.relation, shape, cut]))
    .digest("hex")
    .slice(0, 32)
  return { name: `stepback_ledger.archive_${hash}`, columns: columns.map((column) => column.name) }
}

/** What the code of a refused list of archives is. */
export const archivesForged = "archives_forged"

/**
 * An archive's name as the list in the target has it. Names go into statements as they are, and whoever may write that
 * list need not be allowed what Stepback's role is: one that is none of ours is refused, and nothing is done.
 */
export function archiveName(listed: string): string {
  if (/^stepback_ledger\.archive_[0-9a-f]{32}$/.test(listed)) return listed
  throw new StepbackError(
    archivesForged,
    `the target's stepback_ledger.archives lists "${shorten(listed, 80)}", which is no archive of Stepback's, so nothing was done: find out who wrote that row, and take it out`,
  )
}

/** Creates an archive where it is missing, and writes down what it belongs to. */
export async function createArchive(client: PoolClient, of: ArchiveOf): Promise<void> {
  const { name, columns } = archiveOf(of)
  const types = storedColumns(of.table).map((column) => `${escapeIdentifier(column.name)} ${column.type}`)
  await client.query(`create table if not exists ${name} (${types.join(", ")})`)
  await client.query(
    `insert into stepback_ledger.archives (name, rollback_id, step_id, relation, columns, depth, cut)
     values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing`,
    [
      name,
      of.rollbackId,
      of.stepId,
      of.table.relation,
      JSON.stringify(columns),
      of.depth,
      of.cut === null ? null : JSON.stringify(of.cut),
    ],
  )
}

/** `delete … returning` into the archive, as one statement: what is deleted is what is kept. */
export function deleteInto(archive: Archive, source: string, where: string): string {
  const columns = archive.columns.map(escapeIdentifier).join(", ")
  return `with gone as (delete from ${source} where ${where} returning ${columns})
    insert into ${archive.name} (${columns}) select ${columns} from gone`
}

/**
 * The same for less, since no row goes through the statement twice, where the transaction sees one moment (repeatable read):
 * the rows' places are found once, and what is deleted is what is copied from them, or somebody changed one meanwhile and
 * all of it fails (40001). The delete is the statement proper and so comes first: whoever changes a row has half the time to
 * be in its way, and less is for nothing. Not where a trigger or rule could spare a row: it is copied all the same.
 */
export function moveInto(archive: Archive, source: string, name: string, where: string): string {
  const columns = archive.columns.map(escapeIdentifier).join(", ")
  // Without the cast this would ask for a place that equals a list of places.
  const doomed = `${escapeIdentifier(name)}.ctid = any((select places from doomed)::tid[])`
  return `with doomed as materialized (select array_agg(${escapeIdentifier(name)}.ctid) as places from ${source} where ${where}),
      kept as (insert into ${archive.name} (${columns}) select ${columns} from ${source} where ${doomed})
    delete from ${source} where ${doomed}`
}

/** Keeps rows that a foreign key will only cut loose. */
export function copyInto(archive: Archive, source: string, where: string): string {
  const columns = archive.columns.map(escapeIdentifier).join(", ")
  return `insert into ${archive.name} (${columns}) select ${columns} from ${source} where ${where}`
}
