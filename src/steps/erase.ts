import type { Pool, PoolClient } from "pg"
import { errorCode, StepbackError } from "../errors.ts"
import { qualified } from "./catalog.ts"
import {
  findHanging,
  findInArchive,
  findInImages,
  imageRelations,
  listArchives,
  treeOf,
  type Archive,
  type Kept,
} from "./erase-find.ts"
import { shortestWord, withoutWord } from "./erase-words.ts"
import { erasuresSql } from "./ledger.sql.ts"
import { splitName } from "./purge-counts.ts"
import { prologue, withClient } from "./target.ts"

export type Condition = { table: string; column: string; value: string }

/** What was found: rows of one table that one step kept. */
export type Finding = Pick<Kept, "source" | "relation" | "along" | "rollbackId" | "stepId"> & { rows: number }

export type Erasure = {
  findings: Finding[]
  /** Ledger entries whose texts show the value. */
  entries: number
  /** Other tables with such a column and such a value: they may be the same person's. */
  elsewhere: { relation: string; rows: number }[]
  /** Tables whose kept rows do not fit them any more, and were searched in every column. */
  byText: string[]
}

const timeoutMs = 120_000

/** What would go, without anything going. */
export function findKept(pool: Pool, condition: Condition): Promise<Erasure> {
  return withClient(
    pool,
    async (client) => {
      await client.query(prologue({ timeoutMs }))
      const { found, ...rest } = await search(client, condition)
      await client.query("rollback")
      return { findings: found.map(describe), ...rest }
    },
    timeoutMs * 3,
  )
}

/**
 * Removes it, in one transaction that no run of ours can begin beside. `record` is called before the commit: what was
 * erased is on record even when this process dies in between.
 */
export function eraseKept(
  pool: Pool,
  condition: Condition,
  record: (erasure: Erasure) => Promise<void>,
): Promise<Erasure> {
  return withClient(
    pool,
    async (client) => {
      await prepare(client)
      const { found, ...rest } = await search(client, condition)
      for (const kept of found) await remove(client, kept)
      await rewriteEntries(client, condition.value)
      const erasure = { findings: found.map(describe), ...rest }
      await record(erasure)
      await client.query("commit")
      return erasure
    },
    timeoutMs * 3,
  )
}

/** A run raises its fence before anything else: until this transaction ends, none can. */
async function prepare(client: PoolClient): Promise<void> {
  await client.query(prologue({ timeoutMs }))
  await client.query("lock table stepback_ledger.fence in share mode")
  const { rows } = await client.query<{ there: boolean }>(
    "select to_regclass('stepback_ledger.erasures') is not null as there",
  )
  if (rows[0]?.there === true) return
  await client.query(erasuresSql).catch((error: unknown) => {
    if (errorCode(error) !== "42501") throw error
    throw new StepbackError(
      "ledger_old",
      "the target's ledger has no table of erasures yet, and this role may not create it: let an owner run what `stepback target init ENV --print` prints",
    )
  })
}

type Found = Pick<Erasure, "entries" | "elsewhere" | "byText"> & { found: Kept[] }

async function search(client: PoolClient, condition: Condition): Promise<Found> {
  const archives = await listArchives(client)
  const kept = new Set([...archives.map((archive) => archive.relation), ...(await imageRelations(client))])
  const relations = await meant(client, condition.table, kept)
  const byText: string[] = []
  const direct = async (relation: string): Promise<Kept[] | null> => {
    const found: (Kept[] | null)[] = []
    for (const archive of archives.filter((one) => one.relation === relation))
      found.push(await findInArchive(client, archive, condition))
    const inImages = await findInImages(client, relation, condition)
    if (inImages?.byText === true) byText.push(relation)
    found.push(inImages?.kept ?? null)
    return found.every((one) => one === null) ? null : found.flatMap((one) => one ?? [])
  }
  const first: Kept[] = []
  const without: string[] = []
  for (const relation of relations) {
    const found = await direct(relation)
    if (found === null) without.push(relation)
    else first.push(...found)
  }
  if (without.length === relations.length)
    throw new StepbackError(
      "no_column",
      `${condition.table} has no column ${condition.column}, and never had while rows of it were kept`,
    )
  const found = await withHanging(client, first, archives)
  const going = new Set(found.map((one) => one.relation))
  const others = [...kept].filter((relation) => !relations.includes(relation) && !going.has(relation))
  const elsewhere = await beside(client, others, archives, condition)
  return { found, byText, elsewhere, entries: await countEntries(client, condition.value) }
}

/** The tables that the name means: itself and its partitions, or one that is gone and of which rows are kept. */
async function meant(client: PoolClient, table: string, kept: ReadonlySet<string>): Promise<string[]> {
  const { schema, name } = splitName(table)
  const tree = await treeOf(client, qualified(schema, name))
  const end = schema === null ? `.${qualified(null, name)}` : qualified(schema, name)
  const found = tree.length > 0 ? tree : [...kept].filter((relation) => relation.endsWith(end))
  if (found.length > 0) return found
  const known = [...kept].map(plain).join(", ")
  throw new StepbackError(
    "no_table",
    `there is no table ${table}; ${kept.size === 0 ? "nothing is kept in this target" : `rows are kept of ${known}`}`,
  )
}

async function withHanging(client: PoolClient, first: Kept[], archives: readonly Archive[]): Promise<Kept[]> {
  const found: Kept[] = []
  const seen = new Set<string>()
  const waiting = [...first]
  for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
    const { holder } = next
    const places = next.places.filter((place) => !seen.has(`${holder} ${place}`))
    if (places.length === 0) continue
    for (const place of places) seen.add(`${holder} ${place}`)
    const kept = { ...next, places }
    found.push(kept)
    waiting.push(...(await findHanging(client, kept, archives)))
  }
  return found
}

/** The value may stand in columns of the same name in other tables; those of another type do not have it. */
async function beside(
  client: PoolClient,
  relations: readonly string[],
  archives: readonly Archive[],
  condition: Condition,
): Promise<Erasure["elsewhere"]> {
  const found: Erasure["elsewhere"] = []
  const count = async (look: () => Promise<Kept[] | null>) => {
    await client.query("savepoint stepback_beside")
    try {
      return ((await look()) ?? []).reduce((sum, kept) => sum + kept.places.length, 0)
    } catch {
      await client.query("rollback to savepoint stepback_beside")
      return 0
    }
  }
  for (const relation of relations) {
    let rows = 0
    for (const archive of archives.filter((one) => one.relation === relation))
      rows += await count(() => findInArchive(client, archive, condition))
    rows += await count(async () => {
      const inImages = await findInImages(client, relation, condition)
      return inImages === null || inImages.byText ? null : inImages.kept
    })
    if (rows > 0) found.push({ relation, rows })
  }
  return found
}

async function remove(client: PoolClient, kept: Kept): Promise<void> {
  const { rowCount } = await client.query(`delete from ${kept.holder} where ctid = any($1::tid[])`, [kept.places])
  if (rowCount !== kept.places.length)
    throw new StepbackError("40001", "what is kept changed meanwhile, nothing was erased: run it again")
  await client.query(
    "insert into stepback_ledger.erasures (rollback_id, step_id, relation, rows) values ($1, $2, $3, $4)",
    [kept.rollbackId, kept.stepId, kept.relation, kept.places.length],
  )
}

async function countEntries(client: PoolClient, value: string): Promise<number> {
  return (await listEntries(client, value)).length
}

type Entry = { rollback_id: string; step_id: string; batch: number; result: unknown }

async function listEntries(client: PoolClient, value: string): Promise<Entry[]> {
  if (value.length < shortestWord) return []
  const { rows } = await client.query<Entry>(
    "select rollback_id, step_id, batch, result from stepback_ledger.entries where position($1 in result::text) > 0",
    [JSON.stringify(value).slice(1, -1)],
  )
  return rows.filter((row) => JSON.stringify(withoutWord(row.result, value)) !== JSON.stringify(row.result))
}

async function rewriteEntries(client: PoolClient, value: string): Promise<void> {
  for (const { rollback_id: rollbackId, step_id: stepId, batch, result } of await listEntries(client, value))
    await client.query(
      "update stepback_ledger.entries set result = $4 where rollback_id = $1 and step_id = $2 and batch = $3",
      [rollbackId, stepId, batch, JSON.stringify(withoutWord(result, value))],
    )
}

function describe({ source, relation, along, rollbackId, stepId, places }: Kept): Finding {
  return { source, relation, along, rollbackId, stepId, rows: places.length }
}

/** `"public"."profiles"` as people write it. */
export function plain(relation: string): string {
  return relation.replace(/^"public"\./, "").replaceAll(/"([a-z_][a-z0-9_]*)"/g, "$1")
}

/** What an undo of this step does not bring back, for people. */
export async function erasedLines(client: PoolClient, rollbackId: string, stepId: string): Promise<string[]> {
  const { rows: known } = await client.query<{ there: boolean }>(
    "select to_regclass('stepback_ledger.erasures') is not null as there",
  )
  if (known[0]?.there !== true) return []
  const { rows } = await client.query<{ relation: string; rows: number; day: string }>(
    `select relation, sum(rows)::int as rows, to_char(max(erased_at) at time zone 'UTC', 'YYYY-MM-DD') as day
     from stepback_ledger.erasures where rollback_id = $1 and step_id = $2 group by relation order by relation`,
    [rollbackId, stepId],
  )
  return rows.map(
    ({ relation, rows: count, day }) =>
      `${count} ${count === 1 ? "row" : "rows"} of ${plain(relation)} ${count === 1 ? "was" : "were"} erased on ${day} and ${count === 1 ? "is" : "are"} not brought back`,
  )
}
