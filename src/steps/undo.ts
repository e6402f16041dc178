import type { PoolClient } from "pg"
import type { UndoStep } from "../plans/plan.ts"
import type { RehearsedStep, StepResult } from "../rollback/facts.ts"
import { findTable, type TableFacts } from "./catalog.ts"
import { errorCode, StepbackError } from "../errors.ts"
import { erasedLines } from "./erase.ts"
import { closeStep, openStep } from "./ledger.ts"
import { settleStep } from "./settle.ts"
import {
  elapsed,
  failure,
  rehearseLooking,
  stepResult,
  type RunContext,
  type StepContext,
  type StepType,
} from "./step.ts"
import { statement } from "./target.ts"
import { undoChanges } from "./undo-changes.ts"
import { cutSummary, cutUndo, removedSummary, removedUndo } from "./undo-archive.ts"
import { imageChildren, imageSummary, imageUndo, type ImageOperation } from "./undo-images.ts"

/** One set of rows to take back: how to judge them and how to do it. */
export type Part = {
  table: TableFacts
  did: "changed" | "removed" | "restored"
  summary: string
  undo: string
  operation: ImageOperation | "archive"
  /** What people should know of it, for the card and the analysis. */
  told?: string
}
type Summary = { wanted: number; already: number; conflicts: number; labels: string[] }

/** Said of a step whose archive and before-images are not in the target. */
export const nothingKept =
  "the target has nothing kept of this step: it was restored or cleaned since, and there is no way back"

const schemaChanged = "schema_changed"

export const noLedger = "the target has no ledger: it was restored or replaced since"

/** Conflicts that are named one by one. */
const shownConflicts = 20

/** Gives back what a step of an earlier rollback replaced; a row that changed since is named and left. */
export const undoStep: StepType<UndoStep> = {
  rehearse: (step, context) => rehearseLooking(step, context, (client) => look(client, step, context), describe),

  run: (step, context) =>
    settleStep({ id: step.id, sql: "", timeoutMs: step.timeoutMs }, context, async (client, started) => {
      const done = await openStep(client, context.key, step.id, { timeoutMs: step.timeoutMs })
      if (done) {
        await client.query("rollback")
        return done.result
      }
      const acted = await act(client, step, context).catch((error: unknown) => {
        // Postgres's own words would show the row.
        if (!["22P02", "42P01", "3F000"].includes(errorCode(error))) throw error
        throw new StepbackError(schemaChanged, describe(errorCode(error), ""), { cause: error })
      })
      const result = { ...acted, attempts: context.attempt, ms: elapsed(started) }
      if (result.outcome === "succeeded") await closeStep(client, context.key, step.id, result)
      else await client.query("rollback")
      return result
    }),
}

async function look(client: PoolClient, step: UndoStep, context: StepContext): Promise<Partial<RehearsedStep>> {
  const parts = await findParts(client, step)
  const erased = await erasedLines(client, step.ofRollback, step.ofStep)
  if (parts.length === 0)
    return erased.length === 0
      ? { outcome: "unknown", note: nothingKept }
      : { rows: 0, changed: 0, note: erased.join(", "), warnings: erased }
  const judged = await judge(client, step, parts)
  const conflicts = conflictsOf(judged)
  return {
    rows: sum(judged, "wanted"),
    changed: sum(judged, "wanted"),
    changes: await undoChanges(client, step, parts, context.redact),
    note: conflicts ?? notesOf(judged).join(", "),
    warnings: [...(conflicts === null ? [] : [conflicts]), ...erased, ...toldOf(parts)],
  }
}

/** A table may have several parts of one kind, as rows that were changed and rows that were removed. */
function notesOf(judged: readonly { part: Part; summary: Summary }[]): string[] {
  const kinds = Map.groupBy(judged, ({ part }) => `${part.table.relation} ${part.did === "removed"}`)
  return [...kinds.values()].map((same) =>
    partNote((same[0] as (typeof same)[number]).part, { wanted: sum(same, "wanted"), already: sum(same, "already") }),
  )
}

/** "6 rows of answers given back", and what an earlier step of the undo must bring first. */
function partNote(part: Part, { wanted, already }: Pick<Summary, "wanted" | "already">): string {
  const many = (rows: number) => `${rows} ${rows === 1 ? "row" : "rows"} of ${part.table.name}`
  const verb = part.did === "removed" ? "removed" : "given back"
  // Rows that the run made and a later step of it removed: giving those back comes first, and then they go.
  return wanted === 0 && already > 0 && part.did === "removed"
    ? `${many(already)} that it made are not there now`
    : `${many(wanted)} ${verb}`
}

function describe(code: string, message: string): string {
  if (code === schemaChanged) return message
  if (code === "22P02") return "the table's columns changed since: what was kept does not fit any more"
  if (code === "42P01" || code === "3F000") return noLedger
  return `${code} ${message}`
}

/** What was kept of the step: archives with parents first, then before-images, the newest first. */
async function findParts(client: PoolClient, step: UndoStep): Promise<Part[]> {
  const of = [step.ofRollback, step.ofStep]
  const { rows: images } = await client.query<{ relation: string; operation: ImageOperation }>(
    `select relation, operation from stepback_ledger.before_images where rollback_id = $1 and step_id = $2
     group by relation, operation order by max(n) desc`,
    of,
  )
  const parts: Part[] = await archivedParts(client, of)
  for (const { relation, operation } of images) {
    const table = await tableOf(client, relation)
    parts.push({
      table,
      operation,
      did: operation === "update" ? "restored" : operation === "delete" ? "restored" : "removed",
      summary: imageSummary(table, operation, shownConflicts),
      undo: imageUndo(table, operation),
    })
  }
  return parts
}

async function archivedParts(client: PoolClient, of: string[]): Promise<Part[]> {
  const { rows: archives } = await client.query<{
    name: string
    relation: string
    columns: string[]
    cut: string[] | null
  }>(
    `select name, relation, columns, cut from stepback_ledger.archives where rollback_id = $1 and step_id = $2
     order by depth, created_at, name`,
    of,
  )
  const parts: Part[] = []
  for (const { name, relation, columns, cut } of archives) {
    const { rows } = await statement(client, `select 1 from ${name} limit 1`, [])
    if (rows.length === 0) continue
    const table = await tableOf(client, relation)
    const told = columnsMoved(table, columns)
    parts.push({
      table,
      operation: "archive",
      ...(told === null ? {} : { told }),
      did: "restored",
      summary: cut === null ? removedSummary(table, name) : cutSummary(table, name, cut),
      undo: cut === null ? removedUndo(table, name, columns) : cutUndo(table, name, cut),
    })
  }
  return parts
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

function toldOf(parts: readonly Part[]): string[] {
  return [...new Set(parts.flatMap((part) => part.told ?? []))]
}

async function tableOf(client: PoolClient, relation: string): Promise<TableFacts> {
  const names = [...relation.matchAll(/"((?:[^"]|"")*)"/g)].map((match) => (match[1] ?? "").replaceAll('""', '"'))
  const table = await findTable(client, names.length > 1 ? (names[0] ?? null) : null, names.at(-1) ?? "")
  if (!table) throw Object.assign(new Error(`${relation} is gone`), { code: "42P01" })
  return table
}

async function judge(client: PoolClient, step: UndoStep, parts: Part[]): Promise<{ part: Part; summary: Summary }[]> {
  const judged: { part: Part; summary: Summary }[] = []
  for (const part of parts) {
    const values = part.operation === "archive" ? [] : [step.ofRollback, step.ofStep, part.table.relation]
    judged.push({ part, summary: (await statement(client, part.summary, values)).rows[0] as Summary })
  }
  return judged
}

function sum(judged: readonly { summary: Summary }[], of: "wanted" | "already" | "conflicts"): number {
  return judged.reduce((total, { summary }) => total + summary[of], 0)
}

function conflictsOf(judged: readonly { part: Part; summary: Summary }[]): string | null {
  const named = judged.flatMap(({ part, summary }) => summary.labels.map((label) => `${part.table.name}.${label}`))
  const all = sum(judged, "conflicts")
  if (all === 0) return null
  const more = all > named.length ? ` and ${all - named.length} more` : ""
  return `${all} changed since and left as they are: ${named.join(", ")}${more}`
}

async function act(client: PoolClient, step: UndoStep, context: RunContext): Promise<StepResult> {
  const parts = await findParts(client, step)
  const erased = await erasedLines(client, step.ofRollback, step.ofStep)
  if (parts.length === 0 && erased.length === 0)
    return stepResult({
      outcome: "failed",
      failure: failure("nothing_kept", "the target has nothing kept of this step: it was restored or cleaned since"),
    })
  const judged = await judge(client, step, parts)
  const affected: StepResult["affected"] = []
  let rows = 0
  for (const { part } of judged) {
    const going = part.operation === "insert" ? await childrenAtRisk(client, step, part) : null
    if (going) return stepResult({ outcome: "failed", failure: failure("children", going) })
    const own = [part.table.relation, context.rollbackId, step.id]
    const values = part.operation === "archive" ? own : [step.ofRollback, step.ofStep, ...own]
    const done = (await statement(client, part.undo, values)).rowCount ?? 0
    rows += done
    const known = affected.find(({ table, did }) => table === part.table.name && did === part.did)
    if (known) known.rows += done
    else if (done > 0) affected.push({ table: part.table.name, did: part.did, rows: done })
  }
  const conflicts = conflictsOf(judged)
  const already = sum(judged, "already")
  return stepResult({
    rows,
    changed: rows,
    affected,
    issues: [...(conflicts === null ? [] : [conflicts]), ...erased, ...toldOf(parts)],
    evidence: [
      ...affected.map((item) => `${item.rows} ${item.rows === 1 ? "row" : "rows"} of ${item.table} ${item.did}`),
      ...erased,
      ...(rows === 0 && conflicts === null && erased.length === 0 ? ["already as it was, nothing changed"] : []),
      ...(already > 0 ? [`${already} were as before already`] : []),
      ...(conflicts === null ? [] : [conflicts]),
    ],
  })
}

/** Rows that somebody has added since and that would go with what is taken back. */
async function childrenAtRisk(client: PoolClient, step: UndoStep, part: Part): Promise<string | null> {
  for (const child of part.table.children) {
    const { rows } = await statement(client, imageChildren(part.table, child), [
      step.ofRollback,
      step.ofStep,
      part.table.relation,
    ])
    const count = (rows[0] as { rows: number }).rows
    if (count > 0)
      return `${count} rows of ${child.table} refer to rows that undo would remove: remove or move them first`
  }
  return null
}
