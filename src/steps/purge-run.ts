import { setTimeout as pause } from "node:timers/promises"
import { escapeIdentifier, type PoolClient } from "pg"
import { isPassing, LostLeaseError } from "../errors.ts"
import type { PurgeStep } from "../plans/plan.ts"
import type { StepResult } from "../rollback/facts.ts"
import { createArchive } from "./archive.ts"
import type { TableFacts } from "./catalog.ts"
import { closeStep, openStep } from "./ledger.ts"
import { allowedRowsMax, capProblem, countFamily, countProblem, countTable, splitName } from "./purge.ts"
import { cutLoose, remove, type Mark } from "./purge-batch.ts"
import { findFamily, listedKin, type Family } from "./purge-family.ts"
import { failure, stepResult, type RunContext } from "./step.ts"
import { looking, prologue, statement, withClient } from "./target.ts"

/** A batch holds up another writer for as long as it takes: this is aimed at. */
const batchAimMs = 30
/** Rows that arrive while it goes on are swept in this many further rounds; what still comes is reported. */
const sweeps = 5
const patienceMs = 90_000

/**
 * Goes over the table's pages in ranges: each range is one transaction with its ledger entry, so that a run is resumed
 * at the batch where it was broken off, and others wait for one batch at the most.
 */
export async function runPurge(step: PurgeStep, context: RunContext): Promise<StepResult> {
  const { pool } = context.target
  if (!pool)
    return stepResult({ outcome: "failed", failure: failure("no_database", "the plan's target has no database") })
  const values = step.params.map((name) => context.values[name] ?? "")
  const { schema, name } = splitName(step.table)
  const start = await looking(pool, step.timeoutMs, async (client) => {
    const family = await findFamily(client, schema, name, step.cascade)
    if (!family) return null
    const mark = await findMark(client, context, step)
    const counts = await countFamily(client, family, step, values)
    // The rehearsal counted the table; counting it again would be one scan more.
    const total = context.rehearsed?.total ?? (await countTable(client, family))
    const endPages = mark?.endPages ?? (await pagesOf(client, family.leaves))
    return { family, mark, counts, total, endPages }
  })
  if (!start) return refused("no_table", `there is no table ${step.table}`)
  const { family, counts } = start
  const before = start.mark?.removed[family.root.table.name] ?? 0
  const problem = family.problems[0] ?? counts.unlisted ?? capProblem(step, before + counts.rows, before + start.total)
  if (problem) return refused("refused", `${problem}; nothing ${before > 0 ? "more " : ""}was deleted`)
  const unapproved = countProblem(step, context.rehearsed?.rows ?? null, before + counts.rows)
  if (unapproved) return unapproved
  await withClient(pool, async (client) => {
    await client.query(prologue({ timeoutMs: step.timeoutMs }))
    for (const table of [
      ...family.leaves,
      ...listedKin(family)
        .slice(1)
        .map((kin) => kin.table),
    ])
      await createArchive(client, table)
    await client.query("commit")
  })
  const most = Math.min(step.atMost, allowedRowsMax(step, context.rehearsed?.rows ?? null))
  let mark: Mark = start.mark ?? { leaf: 0, page: 0, endPages: start.endPages, batch: 0, removed: {} }
  let pages = firstPages(start.total, start.endPages, step.batch)
  while (mark.leaf < family.leaves.length) {
    await context.checkpoint()
    if (context.signal.aborted) return partly(step, family, mark, "stopped before its end")
    const began = performance.now()
    mark = await batch(step, context, family, values, { mark, pages, most })
    pages = adapt(pages, performance.now() - began)
  }
  const swept = await sweep(step, context, family, values, mark, most)
  return summary(step, family, swept, values, context)
}

function refused(code: string, message: string): StepResult {
  return stepResult({ outcome: "failed", failure: failure(code, message) })
}

/** Pages of about a tenth of the plan's batch, to begin with: the pace is found from there. */
function firstPages(rows: number, endPages: readonly number[], batchRows: number): number {
  const pages = endPages.reduce((sum, n) => sum + n, 0)
  const perPage = Math.max(1, rows / Math.max(1, pages))
  return Math.max(1, Math.floor(batchRows / 10 / perPage))
}

function adapt(pages: number, ms: number): number {
  const factor = Math.min(2, Math.max(0.25, batchAimMs / Math.max(1, ms)))
  return Math.max(1, Math.min(100_000, Math.round(pages * factor)))
}

async function pagesOf(client: PoolClient, leaves: readonly TableFacts[]): Promise<number[]> {
  const pages: number[] = []
  for (const leaf of leaves) {
    const { rows } = await statement(
      client,
      "select (pg_relation_size(to_regclass($1)) / current_setting('block_size')::int)::int as pages",
      [leaf.relation],
    )
    pages.push((rows[0] as { pages: number }).pages)
  }
  return pages
}

async function findMark(client: PoolClient, context: RunContext, step: PurgeStep): Promise<Mark | null> {
  const { rows } = await client.query<{ mark: Mark | null }>(
    `select result -> 'mark' as mark from stepback_ledger.entries where rollback_id = $1 and step_id = $2 order by batch desc limit 1`,
    [context.rollbackId, step.id],
  )
  return rows[0]?.mark ?? null
}

/** One range of pages, until its outcome is known. */
async function batch(
  step: PurgeStep,
  context: RunContext,
  family: Family,
  values: readonly unknown[],
  at: { mark: Mark; pages: number; most: number },
): Promise<Mark> {
  const { mark } = at
  const leaf = family.leaves[mark.leaf] as TableFacts
  const end = mark.endPages[mark.leaf] ?? 0
  const upTo = Math.min(end, mark.page + at.pages)
  const range = `${escapeIdentifier(family.root.table.name)}.ctid >= '(${mark.page},0)'::tid and ${escapeIdentifier(family.root.table.name)}.ctid < '(${upTo},0)'::tid and (${step.where})`
  const next = (removed: Record<string, number>): Mark => ({
    ...mark,
    leaf: upTo >= end ? mark.leaf + 1 : mark.leaf,
    page: upTo >= end ? 0 : upTo,
    batch: mark.batch + 1,
    removed,
  })
  return settle(step, context, mark.batch + 1, (client) =>
    remove(client, step, context, family, values, { ...at, leaf, range, next }),
  )
}

/** Rows that came while it went on, in whole rounds; each round is a batch of its own. */
async function sweep(
  step: PurgeStep,
  context: RunContext,
  family: Family,
  values: readonly unknown[],
  from: Mark,
  most: number,
): Promise<{ mark: Mark; clean: boolean }> {
  let mark = from
  for (let round = 0; round < sweeps; round++) {
    const before = mark.removed[family.root.table.name] ?? 0
    for (const leaf of family.leaves) {
      const next = (removed: Record<string, number>): Mark => ({ ...mark, batch: mark.batch + 1, removed })
      mark = await settle(step, context, mark.batch + 1, (client) =>
        remove(client, step, context, family, values, { mark, most, leaf, range: `(${step.where})`, next }),
      )
    }
    if ((mark.removed[family.root.table.name] ?? 0) === before) return { mark, clean: true }
  }
  return { mark, clean: false }
}

/** One transaction with its ledger entry; after an error that passes the ledger is asked before it is tried again. */
async function settle(
  step: PurgeStep,
  context: RunContext,
  number: number,
  work: (client: PoolClient) => Promise<Mark>,
): Promise<Mark> {
  const pool = context.target.pool
  if (!pool) throw new Error("the plan's target has no database")
  const started = performance.now()
  for (let attempt = 1; ; attempt++) {
    try {
      return await withClient(pool, async (client) => {
        const done = await openStep(client, context.key, step.id, {
          timeoutMs: step.timeoutMs,
          batch: number,
          exclusive: attempt > 1,
        })
        if (done) {
          await client.query("rollback")
          return (done.result as unknown as { mark: Mark }).mark
        }
        const mark = await work(client)
        await closeStep(client, context.key, step.id, { ...stepResult({}), mark } as StepResult, number)
        return mark
      })
    } catch (error) {
      const late = performance.now() - started > patienceMs
      if (error instanceof LostLeaseError || !isPassing(error) || late || context.signal.aborted) throw error
      await pause(Math.min(100 * 2 ** attempt, 2_000))
    }
  }
}

function affected(mark: Mark): StepResult["affected"] {
  return Object.entries(mark.removed).map(([table, rows]) =>
    table.startsWith(cutLoose)
      ? { table: table.slice(cutLoose.length), did: "changed" as const, rows }
      : { table, did: "removed" as const, rows },
  )
}

function partly(step: PurgeStep, family: Family, mark: Mark, why: string): StepResult {
  const rows = mark.removed[family.root.table.name] ?? 0
  return stepResult({
    outcome: "failed",
    rows,
    affected: affected(mark),
    evidence: [`${rows} rows of ${step.table} archived and removed so far`],
    failure: failure("stopped", why),
  })
}

async function summary(
  step: PurgeStep,
  family: Family,
  { mark, clean }: { mark: Mark; clean: boolean },
  values: readonly unknown[],
  context: RunContext,
): Promise<StepResult> {
  const rows = mark.removed[family.root.table.name] ?? 0
  const pool = context.target.pool
  const left =
    pool === null || clean
      ? 0
      : (await looking(pool, step.timeoutMs, (client) => countFamily(client, family, step, values))).rows
  const others = Object.entries(mark.removed).filter(([table]) => table !== family.root.table.name)
  const unapproved = countProblem(step, context.rehearsed?.rows ?? null, rows)
  return stepResult({
    ...(unapproved
      ? {
          outcome: "failed" as const,
          failure: failure("row_count", `${rows} rows were removed, which is not what was approved`),
        }
      : {}),
    rows,
    changed: rows,
    affected: affected(mark),
    issues: left > 0 ? [`${left} rows of ${step.table} arrived meanwhile and were left`] : [],
    evidence: [
      `${rows} rows of ${step.table} archived and removed in ${mark.batch} batches`,
      ...others.map(([table, count]) =>
        table.startsWith(cutLoose)
          ? `${count} rows of ${table.slice(cutLoose.length)} lost their parent`
          : `${count} rows of ${table} with them`,
      ),
      ...(left > 0 ? [`${left} rows arrived meanwhile and were left`] : []),
    ],
  })
}
