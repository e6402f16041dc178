import { escapeIdentifier } from "pg"
import type { PageRange } from "./purge-progress.ts"

/** A batch holds up another writer for as long as it takes: this is aimed at. */
const batchAimMs = 45
/** 16 MB: what is looked at in one batch to begin with where little matches. */
const firstPages = 2_000
const mostPages = 100_000
const mostRows = 1_000_000
/** 2 ms for the server. Of a million rows that match, 50 for a batch of 10,000. */
const samplesAtMost = 5_000

/** How many rows, and out of how many pages, one batch may take. */
export type Size = { rows: number; pages: number }

/** Where the rows are that match: of each leaf the pages, in order, of a sample of them, each of which stands for so many. */
export type Density = { each: number; pages: number[][] }

export const unknownDensity: Density = { each: 1, pages: [] }

/** One in how many rows is taken note of, where about so many match. */
export function sampledEach(rows: number): number {
  return Math.max(1, Math.ceil(rows / samplesAtMost))
}

/** For the count: where the sampled rows are. Without it a batch that comes from where nothing matches takes far too many. */
export function sampleColumn(name: string, each: number): string {
  const table = escapeIdentifier(name)
  return `string_agg(concat(${table}.tableoid, ${table}.ctid), ' ') filter (where hashtid(${table}.ctid) % ${each} = 0) as sample`
}

/** `leaves`: their oids. */
export function readSamples(samples: readonly (string | null)[], leaves: readonly string[], each: number): Density {
  const pages = leaves.map((): number[] => [])
  for (const place of samples.flatMap((sample) => sample?.split(" ") ?? [])) {
    const [oid = "", page = ""] = place.split(/[(,]/)
    pages[leaves.indexOf(oid)]?.push(Number(page))
  }
  return { each, pages: pages.map((list) => list.toSorted((a, b) => a - b)) }
}

/** What ends a range: as many rows or pages as may be, or that there are no more. */
export type Ended = "rows" | "pages" | "table"

/** The first `size` of a range, and what ended it. */
export function firstOf(range: PageRange, size: Size, { each, pages }: Density): { range: PageRange; ended: Ended } {
  const places = pages[range.leaf] ?? []
  const first = places.findIndex((page) => page >= range.from)
  const beyond = first === -1 ? undefined : places[first + Math.max(1, Math.floor(size.rows / each))]
  const byRows = beyond === undefined ? Infinity : Math.max(range.from + 1, beyond)
  const to = Math.min(range.to, range.from + size.pages, byRows)
  return { range: { ...range, to }, ended: to === byRows ? "rows" : to === range.to ? "table" : "pages" }
}

export function firstSize(rows: number): Size {
  return { rows: Math.max(1, rows), pages: firstPages }
}

/** The size of the next batch, after one that took so long. Of what did not end it nothing is known, but that it was not too few. */
export function nextSize(size: Size, ended: Ended, ms: number): Size {
  const factor = Math.min(2, Math.max(0.25, batchAimMs / Math.max(1, ms)))
  const adapt = (value: number, most: number, by: Ended) =>
    ended === by || (ended === "table" && factor < 1) ? Math.max(1, Math.min(most, Math.round(value * factor))) : value
  return { rows: adapt(size.rows, mostRows, "rows"), pages: adapt(size.pages, mostPages, "pages") }
}
