import { escapeIdentifier, type PoolClient } from "pg"
import { errorCode, StepbackError } from "../errors.ts"
import { archiveName } from "./archive.ts"
import { columnsBy } from "./catalog.ts"

/** Kept rows by where they lie: `places` are ctids, good for as long as the transaction. */
export type Kept = {
  source: "archive" | "images"
  /** The table that holds them. */
  holder: string
  /** The table that they came from. */
  relation: string
  /** False for a copy of a row that stayed: nothing hangs on it. */
  removed: boolean
  /** They go since they hang on a row that goes. */
  along: boolean
  rollbackId: string
  stepId: string
  places: string[]
}

export type Archive = {
  name: string
  relation: string
  columns: string[]
  rollbackId: string
  stepId: string
  /** False where the rows only lost their parent. */
  removed: boolean
}
type FoundRow = { place: string; rollback: string; step: string; removed: boolean }

/** More is not one person's. */
const mostRows = 100_000
export const images = "stepback_ledger.before_images"
const id = escapeIdentifier

export async function listArchives(client: PoolClient): Promise<Archive[]> {
  const { rows } = await client.query<Archive>(
    `select name, relation, columns, rollback_id::text as "rollbackId", step_id as "stepId", cut is null as removed
       from stepback_ledger.archives order by name`,
  )
  return rows.map((row) => ({ ...row, name: archiveName(row.name) }))
}

/** Tables that before-images are kept of. */
export async function imageRelations(client: PoolClient): Promise<string[]> {
  const { rows } = await client.query<{ relation: string }>(`select distinct relation from ${images} order by relation`)
  return rows.map((row) => row.relation)
}

/** The table and its partitions, as the ledger writes them. */
export async function treeOf(client: PoolClient, relation: string): Promise<string[]> {
  const { rows } = await client.query<{ relation: string }>(
    `with recursive tree as (select to_regclass($1)::oid as oid union select i.inhrelid from pg_inherits i join tree on i.inhparent = tree.oid)
     select '"' || replace(n.nspname, '"', '""') || '"."' || replace(c.relname, '"', '""') || '"' as relation
     from tree join pg_class c using (oid) join pg_namespace n on n.oid = c.relnamespace`,
    [relation],
  )
  return rows.map((row) => row.relation)
}

/** Types without their modifiers: `varchar(3)` would cut the value short, and find somebody else. */
export async function typesOf(client: PoolClient, relation: string): Promise<Map<string, string>> {
  const { rows } = await client.query<{ name: string; type: string }>(
    `select attname as name, format_type(atttypid, -1) as type from pg_attribute
     where attrelid = to_regclass($1) and attnum > 0 and not attisdropped`,
    [relation],
  )
  return new Map(rows.map((row) => [row.name, row.type]))
}

/** Numbers and the like are equal in more ways than one; everything else has one text. */
function equals(column: string, type: string): string {
  return /^(numeric|real|double precision|money|citext|.*\.citext)$/.test(type)
    ? `${column} = $1::${type}`
    : `${column}::text = ($1::${type})::text`
}

/** Rows of an archive whose column has the value; null when it never had that column. */
export async function findInArchive(
  client: PoolClient,
  archive: Archive,
  { column, value }: { column: string; value: string },
): Promise<Kept[] | null> {
  const type = (await typesOf(client, archive.name)).get(column)
  if (type === undefined || !archive.columns.includes(column)) return null
  const where = equals(`a.${id(column)}`, type)
  return group(await askArchive(client, archive, `where ${where}`, value, type), {
    source: "archive",
    holder: archive.name,
    relation: archive.relation,
    along: false,
  })
}

async function askArchive(client: PoolClient, archive: Archive, where: string, value: string, type?: string) {
  const text = `select distinct a.ctid::text as place from ${archive.name} a ${where} limit ${mostRows + 1}`
  const { rows } = await client.query<{ place: string }>(text, [value]).catch(unreadable(type))
  const { rollbackId: rollback, stepId: step, removed } = archive
  return capped(rows).map(({ place }): FoundRow => ({ place, rollback, step, removed }))
}

function unreadable(type: string | undefined) {
  return (error: unknown): never => {
    if (type === undefined || !errorCode(error).startsWith("22")) throw error
    throw new StepbackError("bad_value", `the value cannot be read as ${type}`)
  }
}

/**
 * Before-images of a table whose row, before or after, has the value. Rows that do not fit their table any more are
 * searched as text, in every column: better one too many than one of a person's left.
 */
export async function findInImages(
  client: PoolClient,
  relation: string,
  { column, value }: { column: string; value: string },
): Promise<{ kept: Kept[]; byText: boolean } | null> {
  const type = (await typesOf(client, relation)).get(column)
  const about = { source: "images", holder: images, relation, along: false } as const
  if (type !== undefined) {
    const has = (text: string) => `coalesce(${equals(`(${text}::${relation}).${id(column)}`, type)}, false)`
    const where = `relation = $2 and (${has("i.row_text")} or ${has("i.after_text")})`
    // A value that is none of the type is an error here, before any row is read.
    await client.query(`select $1::${type}`, [value]).catch(unreadable(type))
    const found = await tried(client, () => askImages(client, where, [value, relation]))
    if (found !== null) return { kept: group(found, about), byText: false }
  }
  const quoted = `"${value.replaceAll("\\", "\\\\").replaceAll('"', '""')}"`
  const has = (text: string) =>
    `coalesce(position(',' || $1 || ',' in ',' || substr(${text}, 2, length(${text}) - 2) || ',') > 0
      or position($3 in ${text}) > 0, false)`
  const where = `relation = $2 and (${has("i.row_text")} or ${has("i.after_text")})`
  const found = await askImages(client, where, [value, relation, quoted])
  return found.length === 0 && type === undefined ? null : { kept: group(found, about), byText: found.length > 0 }
}

async function askImages(client: PoolClient, where: string, values: unknown[]): Promise<FoundRow[]> {
  const text = `select distinct i.ctid::text as place, i.rollback_id::text as rollback, i.step_id as step, i.operation = 'delete' as removed
    from ${images} i where ${where} limit ${mostRows + 1}`
  return capped((await client.query<FoundRow>(text, values)).rows)
}

function capped<T>(rows: T[]): T[] {
  if (rows.length > mostRows)
    throw new StepbackError("too_many", `more than ${mostRows} kept rows match: that is not one person's data`)
  return rows
}

/** Null when rows do not fit their table's columns any more; the transaction goes on. */
async function tried<T>(client: PoolClient, work: () => Promise<T>): Promise<T | null> {
  await client.query("savepoint stepback_look")
  try {
    const result = await work()
    await client.query("release savepoint stepback_look")
    return result
  } catch (error) {
    if (!/^(22|42)/.test(errorCode(error))) throw error
    await client.query("rollback to savepoint stepback_look")
    return null
  }
}

function group(rows: FoundRow[], about: Pick<Kept, "source" | "holder" | "relation" | "along">): Kept[] {
  const groups = new Map<string, Kept>()
  for (const { place, rollback, step, removed } of rows) {
    const key = JSON.stringify([rollback, step, removed])
    const known = groups.get(key) ?? { ...about, removed, rollbackId: rollback, stepId: step, places: [] }
    known.places.push(place)
    groups.set(key, known)
  }
  return [...groups.values()]
}

type ForeignKey = { child: string; columns: string[]; parentColumns: string[] }

async function foreignKeysTo(client: PoolClient, relation: string): Promise<ForeignKey[]> {
  const { rows } = await client.query<ForeignKey>(
    `select f.conrelid::regclass::text as child,
       ${columnsBy("f.conrelid", "f.conkey")} as columns, ${columnsBy("f.confrelid", "f.confkey")} as "parentColumns"
     from pg_constraint f where f.confrelid = to_regclass($1) and f.contype = 'f'`,
    [relation],
  )
  return rows
}

/**
 * Kept rows of other tables that refer to rows which go for good: an undo could not bring them back without those, and
 * they are the same person's.
 */
export async function findHanging(client: PoolClient, parent: Kept, archives: readonly Archive[]): Promise<Kept[]> {
  if (!parent.removed) return []
  const found: Kept[] = []
  const types = await typesOf(client, parent.relation)
  for (const { child, columns, parentColumns } of await foreignKeysTo(client, parent.relation)) {
    const keys = await lostKeys(client, parent, parentColumns, types)
    if (keys === null || keys === "[]") continue
    const record = `json_to_recordset($1::json) as k(${parentColumns.map((name) => `${id(name)} ${types.get(name) ?? "text"}`).join(", ")})`
    const on = (prefix: string) =>
      columns.map((name, at) => `${prefix}${id(name)} = k.${id(parentColumns[at] as string)}`).join(" and ")
    for (const relation of await treeOf(client, child)) {
      for (const archive of archives.filter((one) => one.relation === relation)) {
        if (!columns.every((name) => archive.columns.includes(name))) continue
        const rows = await askArchive(client, archive, `join ${record} on ${on("a.")}`, keys)
        found.push(...group(rows, { source: "archive", holder: archive.name, relation, along: true }))
      }
      const where = `relation = $2 and operation <> 'insert' and exists (select 1 from ${record} where ${on(`(i.row_text::${relation}).`)})`
      const rows = (await tried(client, () => askImages(client, where, [keys, relation]))) ?? []
      found.push(...group(rows, { source: "images", holder: images, relation, along: true }))
    }
  }
  return found
}

/** The keys of rows that go and are not in the table now either, as JSON. */
async function lostKeys(
  client: PoolClient,
  parent: Kept,
  columns: string[],
  types: ReadonlyMap<string, string>,
): Promise<string | null> {
  if (!columns.every((name) => types.has(name))) return null
  const of = (name: string) =>
    parent.source === "archive" ? `p.${id(name)}` : `(p.row_text::${parent.relation}).${id(name)}`
  const same = columns.map((name) => `t.${id(name)} = ${of(name)}`).join(" and ")
  const pairs = columns.map((name) => `'${name.replaceAll("'", "''")}', ${of(name)}::text`).join(", ")
  const text = `select coalesce(json_agg(json_build_object(${pairs})), '[]')::text as keys from ${parent.holder} p
    where p.ctid = any($1::tid[]) and not exists (select 1 from ${parent.relation} t where ${same})`
  const asked = await tried(client, () => client.query<{ keys: string }>(text, [parent.places]))
  return asked?.rows[0]?.keys ?? null
}
