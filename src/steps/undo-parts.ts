import type { PoolClient } from "pg"
import type { UndoStep } from "../plans/plan.ts"
import { StepbackError } from "../errors.ts"
import { archiveName, archivesForged } from "./archive.ts"
import { columnsBy, findTable, rowShapes, type TableFacts } from "./catalog.ts"
import { keptShapes } from "./ledger.ts"
import { statement } from "./target.ts"
import { archived, archiveDiffers, cutSummary, cutUndo, removedSummary, removedUndo, type Cut } from "./undo-archive.ts"
import { blockedBy, demandsOf, nothingBlocks, touchedBy, withoutKept, type Coming } from "./blocked.ts"
import {
  imageChildren,
  imaged,
  imageSummary,
  imageUndo,
  inSet,
  itself,
  laterArchives,
  type ImageOperation,
} from "./undo-images.ts"

/** One set of rows to take back: how to judge them and how to do it. */
export type Part = {
  table: TableFacts
  did: "changed" | "removed" | "restored"
  summary: string
  /** The summary for a card: what steps will have given back that come before this one in the undo is in it. */
  ahead?: string
  undo: string
  /**
   * Takes back the rows whose unique values are free by now, since the server looks at each row by itself; `rest` counts
   * those that wait for a value that nobody gives up. Null: `undo` does all.
   */
  inTurns: { undo: string; rest: string } | null
  operation: ImageOperation | "archive"
  /** Why a row will have no place when it is its turn, as SQL: null where it can come back. */
  blocked: string
  /** Counts rows that are not as they were kept; null: its summary tells. */
  differs: string | null
  /** Rows that it gives back are not there until then; else they are among those that are not as they were kept. */
  absent?: true
  /** What people should know of it, for the card and the analysis. */
  told?: string
}

/** The parameters of its `undo`. */
export const valuesOf = (step: UndoStep, { operation, table: { relation } }: Part, rollbackId: string) => [
  ...(operation === "archive" ? [] : [step.ofRollback, step.ofStep]),
  relation,
  rollbackId,
  step.id,
]

/** Said of a step whose archive and before-images are not in the target. */
export const nothingKept =
  "the target has nothing kept of this step: it was restored or cleaned since, and there is no way back"

export const schemaChanged = "schema_changed"
export const noLedger = "the target has no ledger: it was restored or replaced since"

/** Conflicts that are named one by one. */
const shownConflicts = 20

/** What a code of Postgres means for what was kept. */
export function describe(code: string, message: string): string {
  if (code === schemaChanged || code === archivesForged) return message
  if (code === "22P02") return "the table's columns changed since: what was kept does not fit any more"
  if (code === "42P01" || code === "3F000") return noLedger
  return `${code} ${message}`
}

/** What was kept of the step: archives with parents first, then before-images, the newest first. */
export async function findParts(client: PoolClient, step: UndoStep, redact: readonly string[]): Promise<Part[]> {
  const of = [step.ofRollback, step.ofStep]
  const { rows: images } = await client.query<{ relation: string; operation: ImageOperation }>(
    `select relation, operation from stepback_ledger.before_images where rollback_id = $1 and step_id = $2
     group by relation, operation order by max(n) desc`,
    of,
  )
  const parts: Part[] = await archivedParts(client, step, redact)
  const shapes = images.length === 0 ? null : await keptShapes(client, step.ofRollback, step.ofStep)
  for (const { relation, operation } of images) {
    const table = await tableOf(client, relation)
    const then = shapes?.[relation]
    if (then && JSON.stringify(then) !== JSON.stringify(rowShapes([table])[relation]))
      throw new StepbackError(schemaChanged, describe("22P02", ""))
    const { rows: archives } = await client.query<{ name: string }>(laterArchives, [...of, relation])
    const blocked = await blockedOf(client, step, {
      table,
      coming: operation === "insert" ? null : imaged(table),
      changed: operation === "update",
    })
    parts.push({
      table,
      operation,
      blocked: blocked.ahead,
      did: operation === "update" ? "restored" : operation === "delete" ? "restored" : "removed",
      summary: imageSummary(table, operation, shownConflicts, { redact, ahead: null, blocked: blocked.now }),
      ahead: imageSummary(table, operation, shownConflicts, {
        redact,
        ahead: archives.map(({ name }) => archiveName(name)),
        blocked: blocked.ahead,
      }),
      undo: imageUndo(table, operation, blocked.now),
      inTurns:
        blocked.inTurns === null
          ? null
          : {
              undo: imageUndo(table, operation, blocked.inTurns),
              rest: imageSummary(table, operation, shownConflicts, { redact, ahead: null, blocked: blocked.inTurns }),
            },
      differs: null,
    })
  }
  return parts
}

/** Why rows of a part cannot come back, as SQL: now, and as it will be once what comes before it in the undo is done. */
async function blockedOf(
  client: PoolClient,
  step: UndoStep,
  {
    table,
    coming,
    changed,
    cut,
  }: {
    table: TableFacts
    coming: Coming | null
    /** They are there and give up what they have now. */
    changed: boolean
    cut?: readonly string[]
  },
): Promise<{ now: string; ahead: string; inTurns: string | null }> {
  if (coming === null) return { now: nothingBlocks, ahead: nothingBlocks, inTurns: null }
  const all = await demandsOf(client, table, { byKey: true })
  // Where only what a foreign key emptied comes back, only that key can be in the way.
  const demands =
    cut === undefined
      ? all
      : {
          uniques: [],
          checks: [],
          parents: all.parents.filter(({ columns }) => columns.some((name) => cut.includes(name))),
        }
  const later = await withoutKept(client, demands, step.ofRollback)
  // Itself first: that is most of what has a row's value, and costs no look at the others.
  const spare = (others: string) => (changed ? `${itself(table)} or ${others}` : others)
  const set = changed ? spare(inSet(table)) : null
  return {
    now: blockedBy(table, demands, coming, set),
    ahead: blockedBy(table, later, coming, spare(touchedBy(table, step.ofRollback))),
    inTurns:
      changed && all.uniques.some(({ atOnce }) => atOnce)
        ? blockedBy(table, demands, coming, set, itself(table))
        : null,
  }
}

const ownKeys = `select ${columnsBy("f.conrelid", "f.conkey")} as columns, ${columnsBy("f.confrelid", "f.confkey")} as "parentColumns"
  from pg_constraint f where f.contype = 'f' and f.conrelid = to_regclass($1) and f.confrelid = f.conrelid`

/** The newest first, but rows that others of their table refer to go after those have back what they referred to before. */
export async function inOrder(client: PoolClient, step: UndoStep, parts: readonly Part[]): Promise<Part[]> {
  const ordered: Part[] = []
  const left = [...parts]
  for (let part = left.shift(); part !== undefined; part = left.shift()) {
    const { table, operation } = part
    const changed = (other: Part) => other.operation === "update" && other.table.relation === table.relation
    const later = operation === "insert" ? left.findIndex(changed) : -1
    if (later >= 0 && (await refersToItself(client, step, table))) left.unshift(...left.splice(later, 1), part)
    else ordered.push(part)
  }
  return ordered
}

/** Whether rows of the table refer to those that a step put there. */
async function refersToItself(client: PoolClient, step: UndoStep, table: TableFacts): Promise<boolean> {
  const { rows: keys } = await statement(client, ownKeys, [table.relation])
  for (const key of keys as { columns: string[]; parentColumns: string[] }[]) {
    const text = imageChildren(table, { ...key, relation: table.relation, self: true })
    const { rows } = await statement(client, text, [step.ofRollback, step.ofStep, table.relation])
    if ((rows[0] as { rows: number }).rows > 0) return true
  }
  return false
}

async function archivedParts(client: PoolClient, step: UndoStep, redact: readonly string[]): Promise<Part[]> {
  const { rows: archives } = await client.query<{
    name: string
    relation: string
    columns: string[]
    cut: string[] | null
  }>(
    `select name, relation, columns, cut from stepback_ledger.archives where rollback_id = $1 and step_id = $2
     order by depth, created_at, name`,
    [step.ofRollback, step.ofStep],
  )
  const parts: Part[] = []
  for (const { name: listed, relation, columns, cut } of archives) {
    const name = archiveName(listed)
    const { rows } = await statement(client, `select 1 from ${name} limit 1`, [])
    if (rows.length === 0) continue
    const table = await tableOf(client, relation)
    const told = columnsMoved(table, columns)
    const blocked = await blockedOf(client, step, {
      table,
      coming: archived(columns),
      changed: false,
      ...(cut === null ? {} : { cut }),
    })
    parts.push({
      table,
      operation: "archive",
      inTurns: null,
      blocked: blocked.ahead,
      ...(told === null ? {} : { told }),
      did: "restored",
      ...(cut === null
        ? {
            summary: removedSummary(table, name, columns, { redact, blocked: blocked.now }),
            ahead: removedSummary(table, name, columns, { redact, blocked: blocked.ahead }),
            undo: removedUndo(table, name, columns, blocked.now),
            differs: archiveDiffers(table, name, columns),
            absent: true,
          }
        : await cutPart(client, step, { table, name, cut, redact, blocked })),
    })
  }
  return parts
}

async function cutPart(
  client: PoolClient,
  step: UndoStep,
  {
    table,
    name,
    cut,
    redact,
    blocked,
  }: {
    table: TableFacts
    name: string
    cut: readonly string[]
    redact: readonly string[]
    blocked: { now: string; ahead: string }
  },
): Promise<Pick<Part, "summary" | "ahead" | "undo" | "differs">> {
  const { rows } = await client.query<{ name: string; instead: string | null }>(
    `select a.attname as name, pg_get_expr(d.adbin, d.adrelid) as instead from pg_attribute a
     left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
     where a.attrelid = to_regclass($1) and a.attname = any($2)`,
    [table.relation, cut],
  )
  // A default that calls something, as a sequence, is no value to compare with.
  const emptied: Cut = rows.map((row) => ({ ...row, instead: /\w\s*\(/.test(row.instead ?? "") ? null : row.instead }))
  return {
    summary: cutSummary(table, name, emptied, { redact, blocked: blocked.now, returning: false }),
    ahead: cutSummary(table, name, emptied, {
      redact,
      blocked: blocked.ahead,
      returning: await removedBesides(client, step, table),
    }),
    undo: cutUndo(table, name, emptied, blocked.now),
    differs: archiveDiffers(table, name, cut),
  }
}

/** Whether other steps of that rollback removed rows of the table, which an undo of it brings first. */
async function removedBesides(client: PoolClient, step: UndoStep, { relation }: TableFacts): Promise<boolean> {
  const { rowCount } = await client.query(
    `select from stepback_ledger.before_images where rollback_id = $1 and step_id <> $2 and relation = $3 and operation = 'delete'
     union all select from stepback_ledger.archives where rollback_id = $1 and step_id <> $2 and relation = $3 and cut is null limit 1`,
    [step.ofRollback, step.ofStep, relation],
  )
  return rowCount === 1
}

/** What was kept has no place any more where a column is gone; a new one gets its default, which is told. */
function columnsMoved(table: TableFacts, kept: readonly string[]): string | null {
  const stored = table.columns.filter((column) => !column.generated).map((column) => column.name)
  const gone = kept.filter((name) => !stored.includes(name))
  if (gone.length > 0)
    throw new StepbackError(
      schemaChanged,
      `${table.name}: ${gone.join(", ")} is gone since: what was kept does not fit any more`,
    )
  const fresh = stored.filter((name) => !kept.includes(name))
  return fresh.length > 0
    ? `${table.name} has ${fresh.join(", ")} since: rows that come back get its default there`
    : null
}

async function tableOf(client: PoolClient, relation: string): Promise<TableFacts> {
  const names = [...relation.matchAll(/"((?:[^"]|"")*)"/g)].map((match) => (match[1] ?? "").replaceAll('""', '"'))
  const table = await findTable(client, names.length > 1 ? (names[0] ?? null) : null, names.at(-1) ?? "")
  if (!table)
    throw new StepbackError(schemaChanged, `there is no table ${relation} any more: what was kept of it has no place`)
  return table
}
