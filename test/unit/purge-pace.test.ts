import { describe, expect, it } from "vitest"
import { firstOf, firstSize, nextSize, readSample, samplingOf, type Density } from "../../src/steps/purge-pace.ts"

const all = { leaf: 0, from: 0, to: 10_000 }
/** Nothing in the first 9,000 pages, then a row in ten of each page, each of which stands for ten. */
const atTheEnd: Density = { each: 10, pages: [Array.from({ length: 4_000 }, (_none, n) => 9_000 + Math.floor(n / 4))] }

describe("a range", () => {
  it("ends before more rows than may go at once", () => {
    expect(firstOf({ ...all, from: 9_000 }, { rows: 400, pages: 2_000 }, atTheEnd)).toEqual({
      range: { leaf: 0, from: 9_000, to: 9_010 },
      ended: "rows",
    })
  })

  it("ends after so many pages where nothing matches, and where nothing is known", () => {
    const ended = { range: { leaf: 0, from: 0, to: 2_000 }, ended: "pages" }
    expect(firstOf(all, { rows: 400, pages: 2_000 }, atTheEnd)).toEqual(ended)
    expect(firstOf(all, { rows: 400, pages: 2_000 }, { each: 1, pages: [] })).toEqual(ended)
  })

  it("is a page at least, though more rows are in it", () => {
    expect(firstOf({ ...all, from: 9_500 }, { rows: 1, pages: 5 }, atTheEnd).range.to).toBe(9_501)
  })

  it("ends with its table", () => {
    const rest = { leaf: 0, from: 9_995, to: 10_000 }
    expect(firstOf(rest, { rows: 4_000, pages: 2_000 }, atTheEnd)).toEqual({ range: rest, ended: "table" })
  })
})

describe("the next size", () => {
  const size = { rows: 10_000, pages: 2_000 }

  it("has more pages after quick ones where nothing matched, and no more rows", () => {
    expect(nextSize(size, "pages", 5)).toEqual({ rows: 10_000, pages: 4_000 })
  })

  it("has as many rows as take the time that is aimed at", () => {
    expect(nextSize(size, "rows", 90)).toEqual({ rows: 5_000, pages: 2_000 })
    expect(nextSize(size, "rows", 40)).toEqual({ rows: 11_250, pages: 2_000 })
  })

  it("has no more than a quarter more rows after one that was quick", () => {
    expect(nextSize(size, "rows", 5)).toEqual({ rows: 12_500, pages: 2_000 })
  })

  it("learns nothing from a short rest, and from a long one that both were too many", () => {
    expect(nextSize(size, "table", 1)).toEqual(size)
    expect(nextSize(size, "table", 90)).toEqual({ rows: 5_000, pages: 1_000 })
  })

  it("is one row at least", () => {
    expect(firstSize(0.25).rows).toBe(1)
    expect(nextSize({ rows: 1, pages: 1 }, "rows", 1_000).rows).toBe(1)
  })
})

it("a small table is looked at as a whole, a large one in part, and no more is taken note of than fits", () => {
  expect(samplingOf([300, 100], 5_000)).toEqual({ share: 1, every: 1 })
  expect(samplingOf([10_000], 200_000)).toEqual({ share: 0.04, every: 2 })
  expect(samplingOf([6_400_000], 128_000_000)).toEqual({ share: 1 / 64, every: 400 })
})

it("samples are told apart by their leaves, and stand in order", () => {
  expect(readSample("17(30,1) 16(5,2) 17(4,9) 16(1,1)", ["16", "17"], 3)).toEqual({
    each: 3,
    pages: [
      [1, 5],
      [4, 30],
    ],
  })
})
