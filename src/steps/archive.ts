import { createHash } from "node:crypto"
import { escapeIdentifier, type PoolClient } from "pg"
import type { TableFacts } from "./catalog.ts"

/**
 * Archive tables hold removed rows with their own types, so that they come back exactly. One for each shape of a table:
 * when its columns change, a new one follows.
 */
export type Archive = { name: string; columns: string[] }

/** Columns of ours beside the archived row's; nobody's column is called like that. */
const own =
  "stepback_rollback uuid not null, stepback_step text not null, stepback_batch integer not null, stepback_depth integer not null, stepback_cut text"

/** Columns that are stored: a generated one follows from the others. */
function storedColumns(table: TableFacts): TableFacts["columns"] {
  return table.columns.filter((column) => !column.generated)
}

export function archiveOf(table: TableFacts): Archive {
  const columns = storedColumns(table)
  const shape = createHash("sha256")
    .update(JSON.stringify([table.relation, columns.map((column) => [column.name, column.type])]))
    .digest("hex")
    .slice(0, 16)
  return { name: `stepback_ledger.archive_${shape}`, columns: columns.map((column) => column.name) }
}

/**
 * Creates the archive of a table's shape where it is missing, and writes down what it belongs to. A run's rows lie side by
 * side: a block range index finds them, where a B-tree would make a purge half as slow again.
 */
export async function createArchive(client: PoolClient, table: TableFacts): Promise<Archive> {
  const archive = archiveOf(table)
  // Creating what is there already would lock it against whoever is writing into it.
  const known = await client.query<{ there: boolean }>("select to_regclass($1) is not null as there", [archive.name])
  if (known.rows[0]?.there) return archive
  const columns = storedColumns(table).map((column) => `${escapeIdentifier(column.name)} ${column.type}`)
  const literal = (text: string) => `'${text.replaceAll("'", "''")}'`
  // Of two rollbacks that make the same one, the second finds it there.
  await client.query(
    `select pg_advisory_xact_lock(7220542);
     create table if not exists ${archive.name} (${own}, ${columns.join(", ")});
     create index if not exists ${archive.name.split(".")[1]}_run on ${archive.name} using brin (stepback_rollback) with (autosummarize = on);
     insert into stepback_ledger.archives (name, relation, columns) values
       (${literal(archive.name)}, ${literal(table.relation)}, ${literal(JSON.stringify(archive.columns))}::jsonb) on conflict do nothing`,
  )
  return archive
}

const ownNames = "stepback_rollback, stepback_step, stepback_batch, stepback_depth, stepback_cut"

/** `delete … returning` into the archive, as one statement: what is deleted is what is kept. Params 1 to 4: rollback, step, batch, depth. */
export function deleteInto(archive: Archive, source: string, where: string): string {
  const columns = archive.columns.map(escapeIdentifier).join(", ")
  return `with gone as (delete from ${source} where ${where} returning ${columns})
    insert into ${archive.name} (${ownNames}, ${columns})
    select $1::uuid, $2::text, $3::integer, $4::integer, null, ${columns} from gone`
}

/** Keeps rows that a foreign key will only cut loose, and by which columns. Same params. */
export function copyInto(archive: Archive, source: string, where: string, cut: readonly string[]): string {
  const columns = archive.columns.map(escapeIdentifier).join(", ")
  return `insert into ${archive.name} (${ownNames}, ${columns})
    select $1::uuid, $2::text, $3::integer, $4::integer, '${JSON.stringify(cut).replaceAll("'", "''")}', ${columns} from ${source} where ${where}`
}
