import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, expect, test } from "vitest"
import { checkPlanFile, loadPlans } from "../../../src/plans/load.ts"
import { change, VALID } from "./fixtures.ts"

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "plans-"))
})
afterEach(() => rm(folder, { recursive: true }))

test("an invalid plan takes nothing from the others", async () => {
  await writeFile(join(folder, "shop.yaml"), VALID)
  await writeFile(join(folder, "broken.yml"), change("environment: shop", "environment: broken\nodd: 1"))
  await writeFile(join(folder, "schema.json"), "{}")
  await mkdir(join(folder, "folder.yaml"))
  const { plans, invalid } = await loadPlans(folder)
  expect([...plans.keys()]).toEqual(["shop"])
  expect(invalid.map(({ environment, problems }) => [environment, problems[0]?.message.slice(0, 17)])).toEqual([
    ["broken", 'unknown key "odd"'],
    [null, "not a file"],
  ])
})

test("two files for one environment are both invalid", async () => {
  await writeFile(join(folder, "a.yaml"), VALID)
  await writeFile(join(folder, "b.yaml"), VALID)
  const { plans, invalid } = await loadPlans(folder)
  expect(plans.size).toBe(0)
  expect(invalid.map(({ environment }) => environment)).toEqual(["shop", "shop"])
  expect(invalid[0]?.problems).toMatchObject([{ line: 2, column: 14, message: expect.stringContaining("b.yaml") }])
})

test("a folder that is not there is a problem", async () => {
  const { plans, invalid } = await loadPlans(join(folder, "nowhere"))
  expect(plans.size).toBe(0)
  expect(invalid).toMatchObject([{ environment: null, problems: [{ message: expect.stringContaining("ENOENT") }] }])
})

test.each([
  ["binary", Buffer.from([0, 1, 2]), "binary"],
  ["latin 1", Buffer.from("title: \xe4", "latin1"), "not UTF-8"],
  ["huge", Buffer.alloc(1_000_001, "a"), "more than a plan's"],
  [
    "an alias bomb",
    `a: &a [x,x,x,x,x,x,x,x,x]\n${"bcdefgh"
      .split("")
      .map((c, i) => `${c}: &${c} [${Array(9).fill(`*${"abcdefg"[i]}`).join(",")}]\n`)
      .join("")}`,
    "alias",
  ],
  ["a circle", "a: &a [*a]\n", ""],
  ["depth", "[".repeat(100_000), ""],
  ["a key that is a list", "? [a]\n: 1\n", "expected a key that is text"],
  ["a key of JavaScript's own", "__proto__: 1\n", "expected a key that is text"],
  ["a tag", "a: !!js/function x\n", "no YAML tags"],
  ["a second document", "a: 1\n---\nb: 1\n", "one YAML document"],
])("%s is a problem", async (_, content, message) => {
  const file = join(folder, "x.yaml")
  await writeFile(file, content)
  const { plan, problems } = await checkPlanFile(file)
  expect(plan).toBeNull()
  expect(problems[0]?.message).toContain(message)
})

test("a file that is not there is a problem", async () => {
  expect((await checkPlanFile(join(folder, "x.yaml"))).problems[0]?.message).toContain("ENOENT")
})
