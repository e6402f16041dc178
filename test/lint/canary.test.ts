import { spawnSync } from "node:child_process"
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join, relative } from "node:path"
import { fileURLToPath } from "node:url"

import { afterAll, beforeAll, describe, expect, it } from "vitest"

import { importers } from "./boundaries.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))
const fixtures = join(root, "test/lint/fixtures")
const fixtureFiles = filesUnder(fixtures)
const generated: Record<string, { source: string; guiltyOf: string[] }> = {
  "src/rollback/lines-300.ts": { source: linesOf(300), guiltyOf: [] },
  "src/rollback/lines-301.ts": { source: linesOf(301), guiltyOf: ["eslint(max-lines)"] },
  "src/rollback/function-60.ts": { source: functionOf(60), guiltyOf: [] },
  "src/rollback/function-61.ts": { source: functionOf(61), guiltyOf: ["eslint(max-lines-per-function)"] },
}

type Complaint = { rule: string; line: number }

let place = ""
let found = new Map<string, Complaint[]>()

// One run over a copy: the rules go by path, so the fixtures have to stand where the real files stand.
beforeAll(() => {
  place = realpathSync(mkdtempSync(join(tmpdir(), "stepback-lint-")))
  for (const file of [".oxlintrc.json", "tsconfig.json", "package.json"]) cpSync(join(root, file), join(place, file))
  symlinkSync(join(root, "node_modules"), join(place, "node_modules"))
  cpSync(fixtures, place, { recursive: true })
  for (const [file, { source }] of Object.entries(generated)) write(file, source)
  for (const { file, source } of importers) write(file, source)
  found = lint(place)
})

afterAll(() => {
  rmSync(place, { recursive: true, force: true })
})

describe("the linter finds", () => {
  it.each(fixtureFiles)("%s as its first line says", (file) => {
    const source = readFileSync(join(fixtures, file), "utf8")
    const guiltyOf = /^\/\/ guilty of: (.+)$/m.exec(source)?.[1]
    if (guiltyOf === undefined) expect(source).toMatch(/^\/\/ innocent/)
    expect(rulesBrokenIn(file)).toEqual(guiltyOf === undefined ? [] : [guiltyOf])
  })

  it.each(Object.entries(generated))("%s by its length", (file, { guiltyOf }) => {
    expect(rulesBrokenIn(file)).toEqual(guiltyOf)
  })
})

describe("who may import whom", () => {
  it.each(importers)("$file", ({ file, lines, forbidden }) => {
    const complaints = (found.get(file) ?? []).filter((complaint) => complaint.rule === "eslint(no-restricted-imports)")
    expect(complaints.map((complaint) => lines[complaint.line - 1])).toEqual(forbidden)
  })
})

describe("the house", () => {
  it("has no drawers", () => {
    const drawers = /(^|\/)(utils?|helpers?|lib|common|services|managers)(\/|\.[jt]sx?$)/
    const files = ["src", "playground", "bench", "scripts", "test"].flatMap((folder) =>
      filesUnder(join(root, folder)).map((file) => join(folder, file)),
    )
    expect(files.length).toBeGreaterThan(20)
    expect(files.filter((file) => drawers.test(file))).toEqual([])
  })
})

function write(file: string, source: string): void {
  const path = join(place, file)
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, source)
}

/** Comments count: what has to be read is long, whatever it is made of. */
function linesOf(lines: number): string {
  return `${"// a line\n".repeat(lines - 1)}export const last = true\n`
}

function functionOf(lines: number): string {
  return `export function long(): number {\n  let count = 0\n${"  count += 1\n".repeat(lines - 4)}  return count\n}\n`
}

function filesUnder(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.parentPath.includes("node_modules"))
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .toSorted()
}

function rulesBrokenIn(file: string): string[] {
  return [...new Set((found.get(file) ?? []).map((complaint) => complaint.rule))]
}

type Report = {
  diagnostics: { code?: string; message: string; filename: string; labels: { span: { line: number } }[] }[]
}

/** File -> what the linter says about it, in the order of its lines. */
function lint(folder: string): Map<string, Complaint[]> {
  const oxlint = join(root, "node_modules/oxlint/bin/oxlint")
  // `src` and not the whole: the linked node_modules would be linted too.
  const run = spawnSync(process.execPath, [oxlint, "--type-aware", "--deny-warnings", "--format=json", "src"], {
    cwd: folder,
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
  })
  expect(run.stderr).toBe("")
  expect(run.status).toBe(1)
  const { diagnostics } = JSON.parse(run.stdout) as Report
  const complaints = diagnostics
    .map(({ filename, code, message, labels }) => ({
      filename,
      rule: code ?? message,
      line: labels[0]?.span.line ?? 0,
    }))
    .toSorted((a, b) => a.line - b.line)
  return Map.groupBy(complaints, (complaint) => complaint.filename)
}
