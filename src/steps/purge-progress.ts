import type { PoolClient } from "pg"
import type { StepResult } from "../rollback/facts.ts"
import type { RunKey } from "./ledger.ts"
import { firstOf, type Density, type Size } from "./purge-pace.ts"
import { stepResult } from "./step.ts"

/** Pages of a leaf: `from` is the first, `to` the one after the last. */
export type PageRange = { leaf: number; from: number; to: number }

/** Rows by table. `~` before a name: rows that were not removed but lost their parent. */
export type Removed = Record<string, number>

export const cutLoose = "~"

/**
 * What the first entry of a purge says: the tables, how many pages each had, and from which batch number on its entries
 * are counted. New numbers that were approved in its middle make a new beginning behind the old one's entries.
 */
export type Beginning = { first: number; leaves: string[]; pages: number[] }

/** `range` is null for the rows of a sweep, which were found by their places. */
export type Batch = { number: number; range: PageRange | null; removed: Removed }

export type Kept = { beginning: Beginning | null; batches: Batch[]; next: number }

type Row = { batch: number; digest: string; begun: Beginning | null; range: PageRange | null; removed: Removed | null }

/** What the ledger has of this purge, under the digest that is run. */
export async function readKept(client: PoolClient, key: RunKey, stepId: string): Promise<Kept> {
  const { rows } = await client.query<Row>(
    `select batch, digest, result -> 'begun' as begun, nullif(result -> 'range', 'null') as range, result -> 'removed' as removed
       from stepback_ledger.entries where rollback_id = $1 and step_id = $2 order by batch`,
    [key.rollbackId, stepId],
  )
  const own = rows.filter((row) => row.digest === key.digest)
  return {
    beginning: own.find((row) => row.begun !== null)?.begun ?? null,
    batches: own.flatMap(({ batch, range, removed }) => (removed ? [{ number: batch, range, removed }] : [])),
    next: (rows.at(-1)?.batch ?? -1) + 1,
  }
}

/** As a ledger entry: the step's own result is told at its end, these only say how far it came. */
export function beginningEntry(begun: Beginning): StepResult {
  return { ...stepResult({}), begun } as StepResult
}

export function batchEntry(range: PageRange | null, removed: Removed): StepResult {
  return { ...stepResult({}), range, removed } as StepResult
}

export function removedBy(entry: StepResult): Removed {
  return (entry as StepResult & { removed?: Removed }).removed ?? {}
}

export type Progress = ReturnType<typeof createProgress>

/** Which pages are still to do, and how many rows are gone. Several lanes take from it. */
export function createProgress(table: string, { first, pages }: Beginning, batches: readonly Batch[], most: number) {
  const startOf = (leaf: number) => first + 1 + pages.slice(0, leaf).reduce((sum, n) => sum + n, 0)
  const todo = gaps(pages, batches)
  const removed: Removed = {}
  let done = 0
  let sweep = batches.reduce((next, { number }) => Math.max(next, number + 1), startOf(pages.length))
  let reserved = 0

  const add = (more: Removed) => {
    if (Object.keys(more).length > 0) done++
    for (const [name, rows] of Object.entries(more)) removed[name] = (removed[name] ?? 0) + rows
  }
  for (const batch of batches) add(batch.removed)

  return {
    table,
    pages,
    removed: removed as Readonly<Removed>,
    batches: () => done,
    rows: () => removed[table] ?? 0,
    /** Rows that may still go. */
    room: () => most - (removed[table] ?? 0) - reserved,
    /** The next pages that nobody has taken, with about as many rows that match as may go at once. */
    take(size: Size, density: Density): ReturnType<typeof firstOf> | null {
      const next = todo[0]
      if (!next) return null
      const taken = firstOf(next, size, density)
      if (taken.ended === "table") todo.shift()
      else todo[0] = { ...next, from: taken.range.to }
      return taken
    },
    /** A batch is named by its first page: who doubts its commit finds the entry again, in whatever order they came. */
    numberOf: (range: PageRange) => startOf(range.leaf) + range.from,
    nextSweep: () => sweep++,
    /** Holds rows of a batch that is about to commit. False: they would go beyond what was approved. */
    reserve(rows: number): boolean {
      if ((removed[table] ?? 0) + reserved + rows > most) return false
      reserved += rows
      return true
    },
    free: (rows: number) => void (reserved -= rows),
    add,
  }
}

function gaps(pages: readonly number[], batches: readonly Batch[]): PageRange[] {
  return pages.flatMap((end, leaf) => {
    const taken = batches.flatMap(({ range }) => (range?.leaf === leaf ? [range] : [])).sort((a, b) => a.from - b.from)
    const free: PageRange[] = []
    let from = 0
    for (const range of taken) {
      if (range.from > from) free.push({ leaf, from, to: range.from })
      from = Math.max(from, range.to)
    }
    if (from < end) free.push({ leaf, from, to: end })
    return free
  })
}
