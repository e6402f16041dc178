import type { PageRange } from "./purge-progress.ts"

/** A batch holds up another writer for as long as it takes: this is aimed at. */
const batchAimMs = 45
/** 16 MB: what is looked at in one batch to begin with where little matches. */
const firstPages = 2_000
const mostPages = 100_000
const mostRows = 1_000_000
/** 3 MB of a table are looked at to find out where its rows are that match, or this share of it. */
const sampledPages = 400
const sampledShare = 1 / 64
/** Some 80 KB of text. A batch of 10,000 of a million rows has 50 of them. */
const samplesAtMost = 5_000

/** How many rows, and out of how many pages, one batch may take. */
export type Size = { rows: number; pages: number }

/** Where the rows are that match: of each leaf the pages, in order, of a sample of them, each of which stands for so many. */
export type Density = { each: number; pages: number[][] }

export const unknownDensity: Density = { each: 1, pages: [] }

/** Which share of its pages is looked at, and one in how many rows there is taken note of, where about `rows` match. */
export function samplingOf(pages: readonly number[], rows: number): { share: number; every: number } {
  const all = pages.reduce((sum, n) => sum + n, 0)
  const share = Math.min(1, Math.max(sampledPages / Math.max(1, all), sampledShare))
  return { share, every: Math.max(1, Math.ceil((rows * share) / samplesAtMost)) }
}

/** `sample`: of each row its leaf's oid and its place, as `16(5,2)`. `leaves`: their oids. */
export function readSample(sample: string | null, leaves: readonly string[], each: number): Density {
  const pages = leaves.map((): number[] => [])
  for (const place of sample?.split(" ") ?? []) {
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

/** One that was quick may have been lucky: with twice as many rows the next one took 100 ms. */
const growsBy = { rows: 1.25, pages: 2 }

/** The size of the next batch, after one that took so long. Of what did not end it nothing is known, but that it was not too few. */
export function nextSize(size: Size, ended: Ended, ms: number): Size {
  const factor = Math.max(0.25, batchAimMs / Math.max(1, ms))
  const adapt = (of: keyof Size, most: number) =>
    ended === of || (ended === "table" && factor < 1)
      ? Math.max(1, Math.min(most, Math.round(size[of] * Math.min(growsBy[of], factor))))
      : size[of]
  return { rows: adapt("rows", mostRows), pages: adapt("pages", mostPages) }
}
