import { escapeIdentifier, type PoolClient } from "pg"
import type { PurgeStep } from "../plans/plan.ts"
import { archiveOf, copyInto, deleteInto } from "./archive.ts"
import type { TableFacts } from "./catalog.ts"
import { listedKin, whereOf, type Family, type Kin } from "./purge-family.ts"
import { bindUsed } from "./sql-text.ts"
import type { RunContext } from "./step.ts"
import { statement } from "./target.ts"

/** Where a batch ended; the next one goes on from there, in this process or in another. */
export type Mark = { leaf: number; page: number; endPages: number[]; batch: number; removed: Record<string, number> }

/** In a mark, what stands before the name of a table whose rows were not removed but lost their parent. */
export const cutLoose = "~"

export type Removal = {
  mark: Mark
  most: number
  leaf: TableFacts
  range: string
  next(removed: Record<string, number>): Mark
}

/** Locks the parents, archives and deletes bottom-up, and compares. All in the caller's transaction. */
export async function remove(
  client: PoolClient,
  step: PurgeStep,
  context: RunContext,
  family: Family,
  values: readonly unknown[],
  at: Removal,
): Promise<Mark> {
  const rootName = escapeIdentifier(family.root.table.name)
  const kin = listedKin(family)
  const removed = { ...at.mark.removed }
  const add = (table: string, rows: number) => {
    if (rows > 0) removed[table] = (removed[table] ?? 0) + rows
  }
  let rootWhere = at.range
  let rootValues = values
  if (kin.length > 1) {
    // Locked parents take no new children; their rows stay where they are, so their places name them from here on.
    const used = bindUsed(
      `select ${rootName}.ctid::text as place from only ${at.leaf.relation} as ${rootName} where ${at.range} for update`,
      values,
    )
    const places = (await statement(client, used.text, used.values)).rows as { place: string }[]
    if (places.length === 0) return at.next(removed)
    rootWhere = `${rootName}.ctid = any($1::tid[]) and ${rootName}.tableoid = '${at.leaf.relation.replaceAll("'", "''")}'::regclass`
    rootValues = [`{${places.map((row) => `"${row.place}"`).join(",")}}`]
    for (const child of kin.slice(1).filter((one) => one.action === "delete"))
      await lock(client, child, rootWhere, rootValues)
    for (const child of kin.slice(1).sort((a, b) => b.depth - a.depth))
      add(
        child.action === "cut_loose" ? `${cutLoose}${child.table.name}` : child.table.name,
        await take(client, context, step, {
          kin: child,
          where: whereOf(child, rootWhere),
          values: rootValues,
          batch: at.mark.batch + 1,
        }),
      )
  }
  const gone = await take(client, context, step, {
    kin: family.root,
    leaf: at.leaf,
    where: rootWhere,
    values: rootValues,
    batch: at.mark.batch + 1,
  })
  add(family.root.table.name, gone)
  if ((removed[family.root.table.name] ?? 0) > at.most)
    throw new Error(`more rows match than were approved (${at.most}): the batch was taken back`)
  return at.next(removed)
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
  context: RunContext,
  step: PurgeStep,
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
