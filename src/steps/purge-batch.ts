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
  context: RunContext
  family: Family
  values: readonly unknown[]
  progress: Progress
  races: Races
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
  let from: Matching = { where: at.where, values: purge.values }
  if (family.kin.length > 1) {
    const places = await lockRoot(client, family, at, from)
    if (places.length === 0) return removed
    // Locked rows stay where they are: their places name them from here on.
    from = {
      where: `${escapeIdentifier(rootName)}.ctid = any($1::tid[]) and ${escapeIdentifier(rootName)}.tableoid = '${at.leaf.relation.replaceAll("'", "''")}'::regclass`,
      values: [`{${places.map((place) => `"${place}"`).join(",")}}`],
    }
    await takeChildren(client, purge, at, from, add)
  }
  add(rootName, await take(client, purge, { kin: family.root, leaf: at.leaf, snapshot, ...from }))
  await guard
  return removed
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

async function lockRoot(client: PoolClient, family: Family, at: Removal, from: Matching): Promise<string[]> {
  const name = escapeIdentifier(family.root.table.name)
  const used = bindUsed(
    `select ${name}.ctid::text as place from only ${at.leaf.relation} as ${name} where ${from.where} for update`,
    from.values,
  )
  return (await statement(client, used.text, used.values)).rows.map((row) => (row as { place: string }).place)
}

async function takeChildren(
  client: PoolClient,
  purge: Purge,
  at: Removal,
  from: Matching,
  add: (table: string, rows: number) => void,
): Promise<void> {
  const children = listedKin(purge.family).slice(1)
  for (const child of children.filter((one) => one.action === "delete"))
    await lock(client, child, from.where, from.values)
  // Parents are locked: what the plan does not list and came meanwhile is seen, and what comes now waits and is refused.
  for (const stranger of unlistedKin(purge.family)) await refuseRows(client, stranger, from)
  for (const child of children.sort((a, b) => b.depth - a.depth))
    add(
      child.action === "cut_loose" ? `${cutLoose}${child.table.name}` : child.table.name,
      await take(client, purge, {
        kin: child,
        where: whereOf(child, from.where),
        values: from.values,
      }),
    )
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

async function lock(client: PoolClient, kin: Kin, rootWhere: string, values: readonly unknown[]): Promise<void> {
  const used = bindUsed(
    `select 1 from ${kin.table.relation} as ${escapeIdentifier(kin.table.name)} where ${whereOf(kin, rootWhere)} for update`,
    values,
  )
  await statement(client, used.text, used.values)
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
