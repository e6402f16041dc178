import { escapeIdentifier, type PoolClient } from "pg"
import { StepbackError } from "../errors.ts"
import type { PurgeStep } from "../plans/plan.ts"
import { archiveOf, copyInto, deleteInto } from "./archive.ts"
import type { TableFacts } from "./catalog.ts"
import { listedKin, unlistedKin, whereOf, type Family, type Kin } from "./purge-family.ts"
import { bindUsed } from "./sql-text.ts"
import type { RunContext } from "./step.ts"
import { statement } from "./target.ts"

/** Where a batch ended; the next one goes on from there, in this process or in another. */
export type Mark = { leaf: number; page: number; endPages: number[]; batch: number; removed: Record<string, number> }

/** In a mark, what stands before the name of a table whose rows were not removed but lost their parent. */
export const cutLoose = "~"

export type Removal = {
  mark: Mark
  leaf: TableFacts
  range: string
  next(removed: Record<string, number>): Mark
}

/** The code of the error that takes a batch back because it would go beyond what was approved. */
export const tooMany = "too_many"

type Taking = { step: PurgeStep; context: RunContext; family: Family; values: readonly unknown[]; most: number }

/**
 * Locks the parents, archives and deletes bottom-up, and compares. All in the caller's transaction. A table on its own is
 * one statement; otherwise children could be added to rows that are about to go.
 */
export async function remove(client: PoolClient, taking: Taking, at: Removal): Promise<Mark> {
  const { family } = taking
  const rootName = family.root.table.name
  const removed = { ...at.mark.removed }
  const add = (table: string, rows: number) => {
    if (rows > 0) removed[table] = (removed[table] ?? 0) + rows
  }
  let from: Matching = { where: at.range, values: taking.values }
  if (family.kin.length > 1) {
    const places = await lockRoot(client, family, at, from)
    if (places.length === 0) return at.next(removed)
    // Locked rows stay where they are: their places name them from here on.
    from = {
      where: `${escapeIdentifier(rootName)}.ctid = any($1::tid[]) and ${escapeIdentifier(rootName)}.tableoid = '${at.leaf.relation.replaceAll("'", "''")}'::regclass`,
      values: [`{${places.map((place) => `"${place}"`).join(",")}}`],
    }
    await takeChildren(client, taking, at, from, add)
  }
  const gone = await take(client, taking, { kin: family.root, leaf: at.leaf, ...from, batch: at.mark.batch + 1 })
  add(rootName, gone)
  if ((removed[rootName] ?? 0) > taking.most)
    throw new StepbackError(tooMany, `more rows match than were approved (${taking.most}): the batch was taken back`)
  return at.next(removed)
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
  taking: Taking,
  at: Removal,
  from: Matching,
  add: (table: string, rows: number) => void,
): Promise<void> {
  const children = listedKin(taking.family).slice(1)
  for (const child of children.filter((one) => one.action === "delete"))
    await lock(client, child, from.where, from.values)
  // Parents are locked: what the plan does not list and came meanwhile is seen, and what comes now waits and is refused.
  for (const stranger of unlistedKin(taking.family)) await refuseRows(client, stranger, from)
  for (const child of children.sort((a, b) => b.depth - a.depth))
    add(
      child.action === "cut_loose" ? `${cutLoose}${child.table.name}` : child.table.name,
      await take(client, taking, {
        kin: child,
        where: whereOf(child, from.where),
        values: from.values,
        batch: at.mark.batch + 1,
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

/** Archives and deletes a kin's rows, or only keeps those that will be cut loose. Gives their number. */
async function take(
  client: PoolClient,
  { context, step }: Taking,
  from: { kin: Kin; leaf?: TableFacts; where: string; values: readonly unknown[]; batch: number },
): Promise<number> {
  const table = from.leaf ?? from.kin.table
  const archive = archiveOf(table)
  const source = `${from.leaf ? "only " : ""}${table.relation} as ${escapeIdentifier(from.kin.table.name)}`
  // Ours are the first four parameters; the condition's own follow.
  const where = shift(from.where, 4)
  const text =
    from.kin.action === "cut_loose"
      ? copyInto(archive, source, where, from.kin.columns)
      : deleteInto(archive, source, where)
  const used = bindUsed(text, [context.rollbackId, step.id, from.batch, from.kin.depth, ...from.values])
  return (await statement(client, used.text, used.values)).rowCount ?? 0
}

const token = /[eE]'(?:\\.|''|[^'\\])*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(\d+)/g

function shift(text: string, by: number): string {
  return text.replace(token, (whole, number: string | undefined) =>
    number === undefined ? whole : `$${Number(number) + by}`,
  )
}
