import fc from "fast-check"
import { expect, test } from "vitest"
import { checkPlanSource } from "../../../src/plans/load.ts"
import { describeStatement } from "../../../src/plans/statements.ts"
import { CHECKOUT, VALID } from "./fixtures.ts"

const RUNS = { numRuns: 300 }
async function isAnswered(source: string) {
  const { plan, problems } = await checkPlanSource("x.yaml", source)
  expect(plan === null).toBe(problems.length > 0)
  for (const { line, column, message } of problems) {
    expect(line).toBeGreaterThan(0)
    expect(line).toBeLessThanOrEqual(source.split(/\n/).length)
    expect(column).toBeGreaterThan(0)
    expect(message).not.toMatch(/undefined|\[object|Cannot read|is not a function/)
  }
}

test("any text gets an answer", async () => {
  await fc.assert(fc.asyncProperty(fc.string({ unit: "binary", maxLength: 200 }), isAnswered), RUNS)
})

const SNIPPETS = [
  "",
  " ",
  "\n",
  "null",
  "[]",
  "{}",
  "- ",
  ": ",
  "*x",
  "&x ",
  '"',
  "'",
  "|",
  "#",
  "$",
  "${",
  "/(/",
  "-1",
  ".nan",
  "1e999",
  "__proto__",
  "constructor",
  "~",
]

test("any change of a valid plan gets an answer", async () => {
  const cut = fc.record({
    source: fc.constantFrom(VALID, CHECKOUT),
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    length: fc.nat(30),
    replacement: fc.oneof(fc.constantFrom(...SNIPPETS), fc.string({ maxLength: 5 })),
  })
  const property = fc.asyncProperty(cut, async ({ source, at, length, replacement }) => {
    const start = Math.floor(at * source.length)
    await isAnswered(source.slice(0, start) + replacement + source.slice(start + length))
  })
  await fc.assert(property, RUNS)
}, 30_000)

test("any value of the plan may be of any kind", async () => {
  const words = [...VALID.matchAll(/(?<=[:[,] )[^\s{}[\],]+/g)]
  const swap = fc.record({
    word: fc.constantFrom(...words),
    value: fc.oneof(fc.constantFrom(...SNIPPETS), fc.json({ maxDepth: 2 })),
  })
  const property = fc.asyncProperty(swap, async ({ word, value }) => {
    await isAnswered(VALID.slice(0, word.index) + value + VALID.slice(word.index + word[0].length))
  })
  await fc.assert(property, RUNS)
}, 30_000)

test("any SQL gets an answer", async () => {
  const words = fc.constantFrom(
    "select",
    "update",
    "delete",
    "from",
    "where",
    "t",
    "a",
    "=",
    "1",
    "$1",
    "(",
    ")",
    ",",
    "with",
    "as",
    "set",
    "'x'",
    "::",
    "or",
    "not",
    "insert into",
    "values",
    ";",
    "in",
    "null",
    "interval",
    "case",
    "when",
    "then",
    "end",
  )
  const sql = fc.array(words, { maxLength: 12 }).map((list) => list.join(" "))
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(sql, fc.string()),
      fc.constantFrom("sql" as const, "check" as const),
      async (text, use) => {
        expect(Object.keys(await describeStatement(text, use))).not.toHaveLength(0)
      },
    ),
    RUNS,
  )
})
