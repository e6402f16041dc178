import { spawn } from "node:child_process"
import { once } from "node:events"
import { createServer, type AddressInfo } from "node:net"
import { createInterface } from "node:readline"
import { expect, inject, test } from "vitest"
import { connectPostgres } from "../../playground/postgres.ts"
import { startLocalSlack } from "../../playground/slack/local-slack.ts"
import { startStepback } from "../../playground/stepback-process.ts"

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

test("a state database that is away: one clear line a try, without a stack; the process lives and is not ready", async () => {
  const port = await freePort()
  const child = spawn(process.execPath, [main], {
    env: {
      PATH: process.env["PATH"] ?? "",
      SLACK_BOT_TOKEN: "xoxb-any",
      SLACK_SIGNING_SECRET: "any",
      DATABASE_URL: "postgres://u:hunter2@127.0.0.1:1/x",
      PORT: String(port),
    },
    stdio: ["ignore", "pipe", "pipe"],
  })
  const lines: string[] = []
  for await (const line of createInterface({ input: child.stdout })) if (lines.push(line) === 2) break
  const at = (path: string, method = "GET") => fetch(`http://127.0.0.1:${port}${path}`, { method })
  expect((await at("/healthz")).status).toBe(200)
  const ready = await at("/readyz")
  expect([ready.status, await ready.json()]).toEqual([
    503,
    { ready: false, degraded: true, reasons: [expect.stringContaining("state database")] },
  ])
  expect((await at("/slack/events", "POST")).status).toBe(503)
  // Asked to end before it has started, it does: not by the signal, which would end a worker in its first step too.
  child.kill("SIGTERM")
  expect(await once(child, "close")).toEqual([0, null])
  for (const [at, line] of lines.entries()) {
    const { msg, reason, attempt, of } = JSON.parse(line) as Record<string, unknown>
    expect({ msg, reason, attempt, of }).toEqual({
      msg: "state database not reachable yet, trying on",
      reason: "connect ECONNREFUSED 127.0.0.1:1",
      attempt: at + 1,
      of: 30,
    })
    expect(line).not.toMatch(/stack|hunter2/)
  }
})

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, "close")
  return port
}

test("a state database that refuses us is said to be what DATABASE_URL names, without its password", async () => {
  const nowhere = new URL(inject("postgresUrl"))
  nowhere.pathname = "/nowhere"
  nowhere.password ||= "hunter2"
  for (const address of [nowhere.href, `${nowhere.href}?sslrootcert=/nowhere.crt`]) {
    const tokens = { SLACK_BOT_TOKEN: "xoxb-any", SLACK_SIGNING_SECRET: "any", PORT: "0" }
    const { code, stderr } = await run({ ...tokens, DATABASE_URL: address })
    expect(code).toBe(1)
    expect(stderr).toMatch(/^DATABASE_URL: the state database cannot be used: .*nowhere/)
    expect(stderr).not.toContain(nowhere.password)
  }
})

test("a token that Slack refuses is said plainly, and the process goes on", async () => {
  const slack = await startLocalSlack()
  const database = await connectPostgres(inject("postgresUrl")).createDatabase(`badtoken_${process.pid}`)
  const stepback = await startStepback({
    SLACK_BOT_TOKEN: "xoxb-not-the-one",
    SLACK_SIGNING_SECRET: slack.signingSecret,
    SLACK_API_URL: slack.apiUrl,
    DATABASE_URL: database,
  })
  const line = await stepback.logged(({ msg }) => String(msg).startsWith("Slack refuses SLACK_BOT_TOKEN"))
  expect(line).toMatchObject({
    level: "error",
    slackError: "invalid_auth",
    msg: expect.stringContaining("Install App"),
  })
  await stepback.stop()
  await slack.stop()
})

test("where no plan can be read, an environment is not taken for a mistyped command", async () => {
  const slack = await startLocalSlack()
  const stepback = await startStepback({
    SLACK_BOT_TOKEN: slack.botToken,
    SLACK_SIGNING_SECRET: slack.signingSecret,
    SLACK_API_URL: slack.apiUrl,
    DATABASE_URL: await connectPostgres(inject("postgresUrl")).createDatabase(`noplans_${process.pid}`),
    STEPBACK_PLANS: "/not/there",
  })
  slack.setRequestUrl(`http://127.0.0.1:${stepback.port}/slack/events`)
  await slack.command({ user: "alice", channel: "staging", text: "shop prices are off" })
  const told = await slack.waitFor(() => slack.ephemerals("alice").at(-1), { what: "the answer" })
  expect(told.text).toBe(
    'I know no environment "shop". No plan can be used here: `stepback plan check` and my log say why.',
  )
  await stepback.stop()
  await slack.stop()
})

test("an error that nothing handles ends the process with a line in its log, and shows no token", async () => {
  const slack = await startLocalSlack()
  const database = await connectPostgres(inject("postgresUrl")).createDatabase(`crash_${process.pid}`)
  const preload = `process.on("SIGUSR2", () => void Promise.reject(
    Object.assign(new Error("broken"), { config: { headers: { Authorization: "Bearer " + process.env.SLACK_BOT_TOKEN } } })))`
  const child = spawn(process.execPath, ["--import", `data:text/javascript,${encodeURIComponent(preload)}`, main], {
    env: {
      PATH: process.env["PATH"] ?? "",
      SLACK_BOT_TOKEN: slack.botToken,
      SLACK_SIGNING_SECRET: slack.signingSecret,
      SLACK_API_URL: slack.apiUrl,
      DATABASE_URL: database,
      PORT: "0",
    },
    stdio: ["ignore", "pipe", "pipe"],
  })
  const output = { stderr: "", stdout: "" }
  child.stderr.on("data", (chunk: Buffer) => (output.stderr += chunk.toString()))
  child.stdout.on("data", (chunk: Buffer) => {
    output.stdout += chunk.toString()
    if (output.stdout.includes('"msg":"started"')) child.kill("SIGUSR2")
  })
  const [code] = (await once(child, "close")) as [number | null]
  await slack.stop()
  expect([code, output.stderr]).toEqual([1, ""])
  expect(JSON.parse(output.stdout.trim().split("\n").at(-1) ?? "")).toMatchObject({
    level: "fatal",
    err: { message: "broken" },
    msg: "ended by an error that nothing handled",
  })
  expect(output.stdout).not.toContain(slack.botToken)
})
