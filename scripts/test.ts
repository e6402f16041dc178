import { spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

import { findMachine } from "./machine.ts"
import { countTests, describeCounts, type Counts, type VitestReport } from "./test-counts.ts"

const root = fileURLToPath(new URL("..", import.meta.url))
const isContinuousIntegration = process.env.CI === "true" || process.env.CI === "1"

type Missing = { program: string; consequence: string; remedy: string }

const machine = findMachine(process.env)
const missing: Missing[] = []
if (machine.redisServer === null) {
  missing.push({
    program: "redis-server (or valkey-server)",
    consequence: "the tests that need a Redis were not run",
    remedy: "apt-get install redis-server",
  })
}
if (machine.chromium === null) {
  missing.push({
    program: "Chromium",
    consequence: "the tests of the page in a real browser (test/page) were not run",
    remedy: "apt-get install chromium, or set CHROMIUM_PATH",
  })
}
if (machine.psql === null) {
  missing.push({
    program: "psql",
    consequence: "the test that pastes the statements for by-hand work into it was not run",
    remedy: "apt-get install postgresql-client, or set PSQL",
  })
}

if (machine.postgres === null) {
  missing.push({
    program: "a Postgres server of the distribution",
    consequence: "what steps do to a target was tried on the package's own server alone",
    remedy: "apt-get install postgresql",
  })
}

// More arguments go to Vitest: `npm test -- test/unit`.
const chosen = process.argv.slice(2)
const skipped = [...(machine.chromium === null ? ["page"] : []), ...(machine.postgres === null ? ["distribution"] : [])]
const skippedProjects = skipped.flatMap((name) => ["--project", `!${name}`])
const counts = await runVitest([...skippedProjects, ...chosen])

for (const { program, consequence, remedy } of missing) {
  console.log(`Not found on this machine: ${program}. So ${consequence}. To have them: ${remedy}.`)
}
if (missing.length === 0) console.log("Everything could be run on this machine.")
if (isContinuousIntegration && missing.length > 0) {
  console.log("With CI=true that counts as a failure.")
  counts.failed += missing.length
}
if (counts.passed + counts.failed === 0) {
  console.log("No test ran: that counts as a failure.")
  counts.failed += 1
}
console.log(describeCounts(counts))
process.exitCode = counts.failed > 0 ? 1 : 0

/** Runs Vitest in its own process, so that a crash of it is a failure here and not a silence. */
async function runVitest(args: string[]): Promise<Counts> {
  const folder = mkdtempSync(join(tmpdir(), "stepback-test-"))
  const file = join(folder, "report.json")
  const vitest = fileURLToPath(new URL("vitest.mjs", import.meta.resolve("vitest/package.json")))
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${file}`]
  try {
    const child = spawn(process.execPath, [vitest, "run", ...reporters, ...args], {
      cwd: root,
      stdio: ["ignore", "inherit", "inherit"],
    })
    const exitCode = await new Promise<number | null>((resolve, reject) => {
      child.once("error", reject)
      child.once("exit", resolve)
    })
    return countTests(readReport(file), exitCode)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function readReport(file: string): VitestReport | null {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as VitestReport
  } catch {
    return null
  }
}
