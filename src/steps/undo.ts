import type { PoolClient } from "pg"
import type { UndoStep } from "../plans/plan.ts"
import type { ChildRows, RehearsedStep, StepResult } from "../rollback/facts.ts"
import { callingOut, type TableFacts } from "./catalog.ts"
import { errorCode, StepbackError } from "../errors.ts"
import { erasedLines } from "./erase.ts"
import { closeStep, openStep } from "./ledger.ts"
import { settleStep } from "./settle.ts"
import { some } from "./shown.ts"
import { countFollowed, fireDeferred, followingWords } from "./sql-keeping.ts"
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
import { imageChildren, imageLock, rereadImages } from "./undo-images.ts"
import { describe, findParts, inOrder, nothingKept, schemaChanged, valuesOf, type Part } from "./undo-parts.ts"

type Summary = {
  wanted: number
  already: number
  conflicts: number
  labels: string[]
  blocked: number
  blockedLabels: string[]
}

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
      const kept: TableFacts[] = []
      const acted = await act(client, step, context, kept).catch((error: unknown) => {
        // Postgres's own words would show the row.
        if (!["22P02", "42P01", "3F000"].includes(errorCode(error))) throw error
        throw new StepbackError(schemaChanged, describe(errorCode(error), ""), { cause: error })
      })
      const result = { ...acted, ms: elapsed(started) }
      if (result.outcome === "succeeded") await closeStep(client, context.key, step.id, result, { kept })
      else await client.query("rollback")
      return result
    }),
}

async function look(client: PoolClient, step: UndoStep, context: StepContext): Promise<Partial<RehearsedStep>> {
  const parts = await findParts(client, step, context.redact)
  const erased = await erasedLines(client, step.ofRollback, step.ofStep)
  if (parts.length === 0)
    return erased.length === 0
      ? { outcome: "unknown", note: nothingKept }
      : { rows: 0, changed: 0, note: erased.join(", "), warnings: erased }
  const judged = await judge(client, step, parts, "ahead")
  const left = leftOf(judged)
  const tables = [...new Map(parts.map(({ table }) => [table.relation, table])).values()]
  const along = await followingOf(client, step, parts)
  const changes = await undoChanges(client, step, parts, context)
  // Planned and not run: what this role may not do is said here.
  for (const part of parts) await statement(client, `explain ${part.undo}`, valuesOf(step, part, context.rollbackId))
  return {
    rows: sum(judged, "wanted"),
    changed: sum(judged, "wanted"),
    changes,
    note: [
      ...notesOf(judged).filter((note) => left.length === 0 || !note.startsWith("0 ")),
      ...followingWords(along),
      ...left,
    ].join(", "),
    raises: callingOut(tables),
    warnings: [
      ...left,
      ...erased,
      ...toldOf(parts),
      ...tables.flatMap(({ name, triggers }) => triggers.map((trigger) => `trigger ${trigger} on ${name} fires`)),
    ],
  }
}

/** Rows of other tables that get the value back which they refer to. */
async function followingOf(client: PoolClient, step: UndoStep, parts: readonly Part[]): Promise<ChildRows[]> {
  const found: ChildRows[] = []
  for (const { table, operation } of parts)
    if (operation === "update") found.push(...(await countFollowed(client, table, [step.ofRollback, step.ofStep])))
  return found
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
  if (wanted === 0 && already > 0)
    return part.did === "removed"
      ? `${many(already)} that it made are not there now`
      : `${many(already)} as before already`
  return `${many(wanted)} ${verb}`
}

function toldOf(parts: readonly Part[]): string[] {
  return [...new Set(parts.flatMap((part) => part.told ?? []))]
}

async function judge(
  client: PoolClient,
  step: UndoStep,
  parts: Part[],
  as: "summary" | "ahead" = "summary",
): Promise<{ part: Part; summary: Summary }[]> {
  const judged: { part: Part; summary: Summary }[] = []
  for (const part of parts) {
    const values = part.operation === "archive" ? [] : [step.ofRollback, step.ofStep, part.table.relation]
    judged.push({ part, summary: (await statement(client, part[as] ?? part.summary, values)).rows[0] as Summary })
  }
  return judged
}

function sum(judged: readonly { summary: Summary }[], of: "wanted" | "already" | "conflicts" | "blocked"): number {
  return judged.reduce((total, { summary }) => total + summary[of], 0)
}

/** What stays as it is, in a sentence each: rows that somebody changed, and rows that have no place any more. */
function leftOf(judged: readonly { part: Part; summary: Summary }[]): string[] {
  const say = (of: "conflicts" | "blocked", labels: "labels" | "blockedLabels", what: string) => {
    const named = judged.flatMap(({ part, summary }) => summary[labels].map((label) => `${part.table.name}.${label}`))
    const all = sum(judged, of)
    return all === 0 ? [] : [`${all} ${what}: ${some(named, all)}`]
  }
  return [
    ...say("conflicts", "labels", "changed since and left as they are"),
    ...say("blocked", "blockedLabels", "cannot come back"),
  ]
}

async function act(client: PoolClient, step: UndoStep, context: RunContext, kept: TableFacts[]): Promise<StepResult> {
  const parts = await findParts(client, step, context.redact)
  kept.push(...parts.map((part) => part.table))
  const erased = await erasedLines(client, step.ofRollback, step.ofStep)
  if (parts.length === 0 && erased.length === 0)
    return stepResult({
      outcome: "failed",
      failure: failure("nothing_kept", "the target has nothing kept of this step: it was restored or cleaned since"),
    })
  const judged: { part: Part; summary: Summary }[] = []
  const affected: StepResult["affected"] = []
  const written: Written[] = []
  const following: ChildRows[] = []
  let rows = 0
  for (const part of await inOrder(client, step, parts)) {
    const going = part.operation === "insert" ? await childrenAtRisk(client, step, part) : null
    if (going) return stepResult({ outcome: "failed", failure: failure("children", going) })
    following.push(...(await followingOf(client, step, [part])))
    const { done, summary, differed } = await takeBack(client, step, part, context)
    const { wanted } = summary
    judged.push({ part, summary })
    if (done !== wanted)
      return stepResult({
        outcome: "failed",
        failure: failure(
          "40001",
          `${done} of ${wanted} rows of ${part.table.name} could be taken back, so none was: they changed meanwhile, or a trigger keeps them as they are`,
        ),
      })
    written.push({ part, differed: differed === null || part.absent ? differed : differed - done })
    rows += done
    const known = affected.find(({ table, did }) => table === part.table.name && did === part.did)
    if (known) known.rows += done
    else if (done > 0) affected.push({ table: part.table.name, did: part.did, rows: done })
  }
  const otherwise = await seeTriggers(client, step, written, context)
  const left = leftOf(judged)
  const already = sum(judged, "already")
  return stepResult({
    rows,
    changed: rows,
    affected: [
      ...affected,
      ...following.map((each) => ({ table: each.table, did: "changed" as const, rows: each.rows })),
    ],
    issues: [...left, ...otherwise, ...erased, ...toldOf(parts)],
    evidence: [
      ...affected.map((item) => `${item.rows} ${item.rows === 1 ? "row" : "rows"} of ${item.table} ${item.did}`),
      ...followingWords(following),
      ...erased,
      ...(rows === 0 && left.length === 0 && erased.length === 0 ? ["already as it was, nothing changed"] : []),
      ...otherwise,
      ...(already > 0 ? [`${already} were as before already`] : []),
      ...left,
    ],
  })
}

/** `differed`: rows that were not as they were kept before it was written; null where no trigger can make them so. */
type Written = { part: Part; differed: number | null }

/** `summary`: judged just before, since an earlier part may have brought rows that this one takes. */
async function takeBack(
  client: PoolClient,
  step: UndoStep,
  part: Part,
  context: RunContext,
): Promise<{ done: number; summary: Summary; differed: number | null }> {
  const [judged] = await judge(client, step, [part])
  let { summary } = judged as { summary: Summary }
  const guarded = part.table.triggers.length > 0 && part.did !== "removed"
  const differed = guarded ? await countDiffering(client, step, part) : null
  const values = valuesOf(step, part, context.rollbackId)
  const { inTurns } = part
  if (inTurns === null) return { done: (await statement(client, part.undo, values)).rowCount ?? 0, summary, differed }
  const whole = await backwards(client, part.undo, values)
  if (whole !== null) return { done: whole, summary, differed }
  let done = 0
  for (let some = 1; some > 0 && done < summary.wanted; done += some)
    some = (await statement(client, inTurns.undo, values)).rowCount ?? 0
  if (done < summary.wanted) {
    // Who had the value stays as it is, since somebody else has what that one had.
    const [{ wanted, blocked, blockedLabels }] = (await statement(client, inTurns.rest, values.slice(0, 3))).rows as [
      Summary,
    ]
    summary = { ...summary, wanted: done + wanted, blocked, blockedLabels }
  }
  return { done, summary, differed }
}

/**
 * In the opposite order of what is taken back, by a join that keeps it: each value is free when it is wanted, as it was on
 * the way there. Null where one was not, and nothing was done.
 */
async function backwards(client: PoolClient, undo: string, values: readonly unknown[]): Promise<number | null> {
  const joins = (as: string) => `set local enable_hashjoin ${as}; set local enable_mergejoin ${as}`
  await client.query(`savepoint stepback_whole; ${joins("= off")}`)
  try {
    const done = (await statement(client, undo, values)).rowCount ?? 0
    await client.query(`${joins("to default")}; release savepoint stepback_whole`)
    return done
  } catch (error) {
    if (!["23505", "23P01"].includes(errorCode(error))) throw error
    await client.query("rollback to savepoint stepback_whole")
    return null
  }
}

async function countDiffering(client: PoolClient, step: UndoStep, part: Part): Promise<number> {
  if (part.differs !== null) return ((await statement(client, part.differs, [])).rows[0] as { rows: number }).rows
  const judged = await judge(client, step, [part])
  // One that a trigger made again what the step had left would be wanted once more.
  return sum(judged, "conflicts") + sum(judged, "wanted")
}

/** What triggers made of the rows, those too that wait for the commit: it is said, and kept as what this step left. */
async function seeTriggers(
  client: PoolClient,
  step: UndoStep,
  written: readonly Written[],
  { rollbackId }: RunContext,
): Promise<string[]> {
  const tables = new Map(written.map(({ part: { table } }) => [table.relation, table]))
  for (const table of tables.values()) await fireDeferred(client, table)
  for (const table of tables.values()) await rereadImages(client, table, rollbackId, step.id)
  const told: string[] = []
  for (const { part, differed } of written) {
    const altered = differed === null ? 0 : (await countDiffering(client, step, part)) - differed
    if (altered <= 0) continue
    const many = `${altered} ${altered === 1 ? "row" : "rows"} of ${part.table.name}`
    told.push(`${many} came back otherwise than as kept: by trigger ${part.table.triggers.join(", ")}`)
  }
  return told
}

/** Rows that somebody has added since and that would go with what is taken back. */
async function childrenAtRisk(client: PoolClient, step: UndoStep, part: Part): Promise<string | null> {
  const values = [step.ofRollback, step.ofStep, part.table.relation]
  if (part.table.children.length > 0) await statement(client, imageLock(part.table), values)
  for (const child of part.table.children) {
    const { rows } = await statement(client, imageChildren(part.table, child), values)
    const count = (rows[0] as { rows: number }).rows
    if (count > 0)
      return `${count} rows of ${child.table} refer to rows that undo would remove: remove or move them first`
  }
  return null
}
