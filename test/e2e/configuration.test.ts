import { spawn } from "node:child_process"
import { once } from "node:events"
import { expect, test } from "vitest"

const main = new URL("../../src/main.ts", import.meta.url).pathname

/** Runs the process as a user does, until it ends. */
async function run(
  environment: Record<string, string>,
): Promise<{ code: number | null; stderr: string; stdout: string }> {
  const child = spawn(process.execPath, [main], {
    env: { PATH: process.env["PATH"] ?? "", ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  })
  const output = { stderr: "", stdout: "" }
  child.stderr.on("data", (chunk: Buffer) => (output.stderr += chunk.toString()))
  child.stdout.on("data", (chunk: Buffer) => (output.stdout += chunk.toString()))
  const [code] = (await once(child, "close")) as [number | null]
  return { code, ...output }
}

test("nothing configured: exit 78, every missing variable named with what it is for", async () => {
  const { code, stderr } = await run({})
  expect(code).toBe(78)
  for (const name of ["SLACK_BOT_TOKEN", "SLACK_SIGNING_SECRET", "DATABASE_URL"])
    expect(stderr).toMatch(new RegExp(`^${name} is missing: \\w+`, "m"))
  expect(stderr.trim().split("\n")).toHaveLength(3)
})

test("all that is wrong is told at once, and no value of a secret with it", async () => {
  const { code, stderr } = await run({
    SLACK_BOT_TOKEN: "xapp-1-swapped-secret",
    SLACK_APP_TOKEN: "xoxb-swapped-secret",
    DATABASE_URL: "mysql://user:hunter2@127.0.0.1/db",
    REDIS_URL: "127.0.0.1:6379",
    STEPBACK_ROLE: "boss",
    PORT: "99999",
  })
  expect(code).toBe(78)
  const named = stderr
    .trim()
    .split("\n")
    .map((line) => line.split(" ")[0])
  expect(named).toEqual(["SLACK_BOT_TOKEN", "SLACK_APP_TOKEN", "DATABASE_URL", "REDIS_URL", "STEPBACK_ROLE", "PORT"])
  expect(stderr).not.toMatch(/swapped-secret|hunter2/)
})

test("a worker needs no signing secret", async () => {
  const { code, stderr } = await run({ STEPBACK_ROLE: "worker" })
  expect(code).toBe(78)
  expect(stderr).not.toContain("SLACK_SIGNING_SECRET")
})
