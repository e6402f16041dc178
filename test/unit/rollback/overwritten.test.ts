import { expect, test } from "vitest"
import type { Change } from "../../../src/rollback/facts.ts"
import { overwritten } from "../../../src/rollback/overwritten.ts"

const change = (row: string, before: string, column = "v"): Change => ({
  row,
  column,
  before,
  after: "good",
  afterKnown: true,
})

test("values that nobody was shown are named, but for those that the run set itself or that were not on the card", () => {
  const shown = ["a", "b", "c"].map((row) => change(row, "old"))
  const done = [change("a", "mine"), change("b", "old"), change("c", "step one's"), change("d", "new")]
  expect(overwritten(shown, done, [change("c", "old")])).toEqual([
    "a.v was mine when it was set, where the card had old",
  ])
  const many = Array.from({ length: 8 }, (_, n) => `r${n}`)
  const told = overwritten(
    many.map((row) => change(row, "old")),
    many.map((row) => change(row, "mine")),
    [],
  )
  expect([told.length, told.at(-1)]).toEqual([6, "and 3 more"])
})
