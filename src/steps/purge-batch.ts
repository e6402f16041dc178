import { escapeIdentifier, type PoolClient } from "pg"
import { StepbackError } from "../errors.ts"
import type { PurgeStep } from "../plans/plan.ts"
import { archiveOf, copyInto, deleteInto, moveInto, type ArchiveOf } from "./archive.ts"
import type { TableFacts } from "./catalog.ts"
import { cutLoose, type PageRange, type Progress, type Removed } from "./purge-progress.ts"
import { listedKin, unlistedKin, whereOf, type Family, type Kin } from "./purge-family.ts"
import { bindUsed } from "./sql-text.ts"
import type { RunContext } from "./step.ts"
import { statement } from "./target.ts"

/** The code of the error that takes a batch back because it would go beyond what was approved. */
export const tooMany = "too_many"

/** One purge, for as long as this worker has it. */
export type Purge = {
  step: PurgeStep
  /** The condition as the plan has it: what people are shown. */
  written: string
  context: RunContext
  family: Family
  values: readonly unknown[]
  progress: Progress
  races: Races
  /** What its batches log is compressed. */
  compressed: boolean
  /** Between batches: throws when the lease is lost or Stop was pressed. */
  breathe(): Promise<void>
}

/** After a snapshot was for nothing. `spared`: batches still to be done without one; `next`: how many after another such. */
export type Races = { spared: number; next: number }

/** Rows of one leaf that one transaction takes. */
export type Removal = { number: number; leaf: TableFacts; where: string; range: PageRange | null }

/** The code of the error of a batch that may not be moved from a snapshot after all. */
export const sparing = "sparing"

/**
 * Whether a batch may be moved from a snapshot: not with children, whose parents are locked first, nor where it would be
 * lost as a whole (one batch for all) or is small (late arrivals, found by their places).
 */
export function mayMove({ family, step }: Purge, at: Removal): boolean {
  return family.kin.length === 1 && step.whole === undefined && at.range !== null
}

/**
 * Locks the parents, archives and deletes bottom-up, and compares. All in the caller's transaction. A table on its own is
 * one statement; otherwise children could be added to rows that are about to go.
 */
export async function remove(
  client: PoolClient,
  purge: Purge,
  at: Removal,
  { snapshot = false }: { snapshot?: boolean } = {},
): Promise<Removed> {
  const { family } = purge
  // Goes along with the statement that follows, and before it. No trigger comes between: the table was locked first.
  const guard = snapshot ? refuseSparing(client, at.leaf) : Promise.resolve()
  guard.catch(() => undefined)
  const rootName = family.root.table.name
  const removed: Removed = {}
  const add = (table: string, rows: number) => {
    if (rows > 0) removed[table] = (removed[table] ?? 0) + rows
  }
  const from: Matching = { where: at.where, values: purge.values }
  const root = { kin: family.root, leaf: at.leaf, snapshot }
  if (family.kin.length > 1 || family.own.length > 0) {
    const locked = await lockAll(client, family, at, from)
    if (locked.length === 0) return removed
    await takeChildren(client, purge, at, locked, add)
    const taken = await take(client, purge, { ...root, ...(await placesOf(client, family, at, locked)) })
    addUp(family.root, locked.length, taken)
    add(rootName, taken)
  } else add(rootName, await take(client, purge, { ...root, ...from }))
  await guard
  return removed
}

/** What was locked is what must have been archived and removed; a trigger may spare a row, or be quicker. */
function addUp(kin: Kin, locked: number, taken: number): void {
  if (locked !== taken)
    throw new StepbackError(
      "archived_differs",
      `${locked} rows of ${kin.table.name} were to go and ${taken} were archived and removed, so the batch was taken back: a trigger spares rows, or changes or removes them when others go`,
    )
}

/** The server calls a partitioned table's triggers its own in the partitions, before version 15. */
const sparingQuery = `select exists (select from pg_rewrite where ev_class = to_regclass($1))
  or exists (select from pg_trigger where tgrelid = to_regclass($1) and tgenabled <> 'D'
    and (not tgisinternal or (tgtype & 11) = 11)) as found`

async function refuseSparing(client: PoolClient, { relation }: TableFacts): Promise<void> {
  const { rows } = await client.query<{ found: boolean }>(sparingQuery, [relation])
  if (rows[0]?.found !== false) throw new StepbackError(sparing, `a trigger or rule of ${relation} may spare a row`)
}

type Matching = { where: string; values: readonly unknown[] }

/** Rows of the root that are held: their keys as text, since a trigger for their children may move them. */
type Locked = { place: string; key: string[] }[]

/** Looks that follow while each finds rows that came to refer to those of the one before. */
const mostLooks = 20

/** Where they refer to each other, until no more come: who refers to a row that is locked by now waits, and is refused. */
async function lockAll(client: PoolClient, family: Family, at: Removal, from: Matching): Promise<Locked> {
  let locked = await lockRoot(client, family, at, from)
  for (let n = 1; family.own.length > 0; n++) {
    const seen = locked.length
    locked = await lockRoot(client, family, at, from)
    if (locked.length === seen) break
    if (n === mostLooks)
      throw new StepbackError("refused", `rows come to refer to those that go faster than they are found: ask again`)
  }
  return locked
}

async function lockRoot(client: PoolClient, family: Family, at: Removal, from: Matching): Promise<Locked> {
  const { table } = family.root
  const name = escapeIdentifier(table.name)
  const key = table.primaryKey.map((column) => `${name}.${escapeIdentifier(column)}::text`).join(", ")
  const used = bindUsed(
    `select ${name}.ctid::text as place, array[${key}] as key from only ${at.leaf.relation} as ${name} where ${from.where} for update`,
    from.values,
  )
  return (await statement(client, used.text, used.values)).rows as Locked
}

/** Where they are now. Rows that are held stay, but for what triggers of the tables that go along do to them. */
async function placesOf(client: PoolClient, family: Family, at: Removal, locked: Locked): Promise<Matching> {
  const { table } = family.root
  const name = escapeIdentifier(table.name)
  let places = locked.map((row) => row.place)
  if (listedKin(family).some((kin) => kin.depth > 0 && kin.table.triggers.length > 0)) {
    // Each as text until it is compared: of arrays there is no list.
    const columns = table.primaryKey.map((column, n) => ({
      held: `k${n}`,
      list: `$${n + 1}::text[]`,
      same: `${name}.${escapeIdentifier(column)} = stepback_held.k${n}::${table.columns.find((each) => each.name === column)?.type ?? "text"}`,
      values: locked.map((row) => row.key[n] ?? ""),
    }))
    const { rows } = await statement(
      client,
      `select ${name}.ctid::text as place from only ${at.leaf.relation} as ${name}
       join unnest(${columns.map(({ list }) => list).join(", ")}) as stepback_held (${columns.map(({ held }) => held).join(", ")})
         on ${columns.map(({ same }) => same).join(" and ")}`,
      columns.map((each) => each.values),
    )
    places = (rows as { place: string }[]).map((row) => row.place)
  }
  return {
    where: `${name}.ctid = any($1::tid[]) and ${name}.tableoid = '${at.leaf.relation.replaceAll("'", "''")}'::regclass`,
    values: [`{${places.map((place) => `"${place}"`).join(",")}}`],
  }
}

async function takeChildren(
  client: PoolClient,
  purge: Purge,
  at: Removal,
  locked: Locked,
  add: (table: string, rows: number) => void,
): Promise<void> {
  const { family } = purge
  const children = listedKin(family).slice(1)
  const first = await placesOf(client, family, at, locked)
  const held = new Map<Kin, number>()
  for (const child of children.filter((one) => one.action === "delete"))
    held.set(child, await lock(client, child, first.where, first.values))
  // Parents are locked: what the plan does not list and came meanwhile is seen, and what comes now waits and is refused.
  for (const stranger of unlistedKin(family)) await refuseRows(client, stranger, first)
  for (const child of children.sort((a, b) => b.depth - a.depth)) {
    const from = await placesOf(client, family, at, locked)
    const taken = await take(client, purge, { kin: child, where: whereOf(child, from.where), values: from.values })
    addUp(child, held.get(child) ?? taken, taken)
    add(child.action === "cut_loose" ? `${cutLoose}${child.table.name}` : child.table.name, taken)
  }
}

async function refuseRows(client: PoolClient, kin: Kin, from: Matching): Promise<void> {
  const used = bindUsed(
    `select 1 from ${kin.table.relation} as ${escapeIdentifier(kin.table.name)} where ${whereOf(kin, from.where)} limit 1`,
    from.values,
  )
  if (((await statement(client, used.text, used.values)).rowCount ?? 0) > 0)
    throw new StepbackError(
      "refused",
      `rows of ${kin.table.name} came to refer to them meanwhile: list it in cascade, or remove those first`,
    )
}

async function lock(client: PoolClient, kin: Kin, rootWhere: string, values: readonly unknown[]): Promise<number> {
  const used = bindUsed(
    `select 1 from ${kin.table.relation} as ${escapeIdentifier(kin.table.name)} where ${whereOf(kin, rootWhere)} for update`,
    values,
  )
  return (await statement(client, used.text, used.values)).rowCount ?? 0
}

/** The archive of a kin's rows; a partitioned table's leaves have one each. */
export function archiveFor({ context, step }: Purge, kin: Kin, leaf?: TableFacts): ArchiveOf {
  return {
    table: leaf ?? kin.table,
    rollbackId: context.rollbackId,
    stepId: step.id,
    depth: kin.depth,
    cut: kin.action === "cut_loose" ? kin.cut : null,
  }
}

/** Archives and deletes a kin's rows, or only keeps those that will be cut loose. Gives their number. */
async function take(
  client: PoolClient,
  purge: Purge,
  from: { kin: Kin; leaf?: TableFacts; snapshot?: boolean; where: string; values: readonly unknown[] },
): Promise<number> {
  const archive = archiveOf(archiveFor(purge, from.kin, from.leaf))
  const table = from.leaf ?? from.kin.table
  const { name } = from.kin.table
  const source = `${from.leaf ? "only " : ""}${table.relation} as ${escapeIdentifier(name)}`
  const into = from.kin.action === "cut_loose" ? copyInto : deleteInto
  const text = from.snapshot ? moveInto(archive, source, name, from.where) : into(archive, source, from.where)
  const used = bindUsed(text, from.values)
  return (await statement(client, used.text, used.values)).rowCount ?? 0
}
