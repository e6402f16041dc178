import { createHmac, randomUUID } from "node:crypto"
import { once } from "node:events"
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises"
import { Agent, request, type IncomingMessage } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { finished } from "node:stream/promises"
import pg from "pg"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { repliesOf, startPlay, wordsOf, type Play } from "../../playground/scenarios/play.ts"
import { startStage, type Stage } from "../../playground/stage.ts"
import type { StepbackProcess } from "../../playground/stepback-process.ts"

const broken = `version: 1
environment: broken
title: A plan with a mistake
target: { postgres: "\${STAGING_DATABASE_URL}" }
approve:
  low: { count: 1, from: anyone }
  medium: { count: 1, from: anyone }
  high: { count: 1, from: anyone }
components:
  config:
    steps:
      - id: everything
        sql: delete from scoring_config
        expect: { rows: 1 }
`

let stage: Stage
let running: StepbackProcess
let plans: string
const play = (): Play => startPlay(stage, () => undefined)

beforeAll(async () => {
  plans = await mkdtemp(join(tmpdir(), "stepback-plans-"))
  await cp(new URL("../../plans/staging.yaml", import.meta.url), join(plans, "staging.yaml"))
  await writeFile(join(plans, "broken.yaml"), broken)
  await writeFile(join(plans, "torn.yaml"), broken.replace("environment: broken", "environment: torn: apart"))
  stage = await startStage({ mode: "http", queue: "redis", plans })
  running = await stage.start()
})
afterAll(async () => {
  await stage.stop()
  await rm(plans, { recursive: true, force: true })
})

describe("requests that are not Slack's", () => {
  const body = new URLSearchParams({
    command: "/rollback",
    text: "staging forged",
    user_id: "U0ALICE",
    team_id: "T0LOCAL",
    channel_id: "C0STAGING",
    trigger_id: "1.1.forged",
  }).toString()
  const now = () => Math.floor(Date.now() / 1000)

  test.each([
    ["signed with another secret", () => ({ body, secret: "0".repeat(32) })],
    ["ten minutes old", () => ({ body, timestamp: now() - 600 })],
    ["an hour ahead", () => ({ body, timestamp: now() + 3600 })],
    ["without a time", () => ({ body, timestamp: "" })],
    ["with words for a time", () => ({ body, timestamp: "yesterday" })],
  ])("%s: 401, and nothing happens", async (_, request) => {
    // Whether the token is right is asked at the start, whatever comes in.
    const calls = () => stage.slack.calls.filter((call) => call.method !== "auth.test")
    const before = calls()
    expect(await stage.slack.sendRaw(request())).toBe(401)
    expect(calls()).toEqual(before)
    expect(stage.slack.messages("staging")).toEqual([])
  })

  test("those that are refused for their time are told in the log, once for many: the clock may be ours that is off", async () => {
    for (const timestamp of [now() - 600, now() + 3600])
      expect(await stage.slack.sendRaw({ body, timestamp })).toBe(401)
    const told = running.lines.filter(({ msg }) => String(msg).includes("refused for its time"))
    expect(told).toEqual([expect.objectContaining({ level: "warn", secondsApart: expect.any(Number) })])
  })

  test.each([
    ["nothing", "payload=null", 400],
    ["nothing with space around", "payload=%20null%0A", 400],
    ["a number", "payload=1", 200],
    ["a list", "payload=%5B%5D", 200],
    ["five megabytes", `payload=${"x".repeat(5 * 1024 * 1024)}`, 413],
  ])("signed by somebody who has the secret, %s: the process lives", async (_, body, status) => {
    const code = await stage.slack.sendRaw({ body })
    // What no listener takes has no answer in Slack's time.
    expect(status === 200 ? [0, 200, 404] : [status]).toContain(code)
    expect((await fetch(`http://127.0.0.1:${running.port}/healthz`)).status).toBe(200)
  })

  test("what is too long is read away: the connection serves the sender's next request", async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    try {
      const long = await post(agent, `payload=${"x".repeat(5 * 1024 * 1024)}`)
      const next = await post(agent, "payload=null")
      expect([long.status, next]).toEqual([413, { status: 400, over: long.over }])
    } finally {
      agent.destroy()
    }
  })
})

/** A request in time. `over`: the sender's port, which is another for each connection; a request that waited for one says nothing of it. */
async function post(agent: Agent, body: string): Promise<{ status: number | undefined; over: number | undefined }> {
  const sent = request({
    agent,
    method: "POST",
    port: running.port,
    path: "/slack/events",
    headers: {
      "content-type": "application/x-www-form-urlencoded",
      "x-slack-request-timestamp": String(Math.floor(Date.now() / 1000)),
    },
  }).end(body)
  const [answer] = (await once(sent, "response")) as [IncomingMessage]
  const over = answer.socket.localPort
  await finished(answer.resume())
  return { status: answer.statusCode, over }
}

describe("requests of compatible servers", () => {
  test.each([
    "application/x-www-form-urlencoded;charset=UTF-8",
    "application/x-www-form-urlencoded; charset=utf-8",
    "Application/X-WWW-Form-Urlencoded",
  ])("a command sent as %s is one", async (contentType) => {
    const before = stage.slack.ephemerals("alice").length
    expect(await sendCommand({ trigger_id: `1.1.${randomUUID()}` }, contentType)).toBe(200)
    await expect.poll(() => stage.slack.ephemerals("alice").length).toBe(before + 1)
  })
})

/** As Slack sends it, but for these fields and the type; without an address for the answer. */
async function sendCommand(
  fields: Record<string, string>,
  type = "application/x-www-form-urlencoded",
): Promise<number> {
  const command = {
    command: "/rollback",
    text: "help",
    user_id: "U0ALICE",
    team_id: "T0LOCAL",
    channel_id: "C0STAGING",
  }
  const body = new URLSearchParams({ ...command, ...fields }).toString()
  const at = String(Math.floor(Date.now() / 1000))
  const secret = stage.environment["SLACK_SIGNING_SECRET"] ?? ""
  const answer = await fetch(`http://127.0.0.1:${running.port}/slack/events`, {
    method: "POST",
    headers: {
      "content-type": type,
      "x-slack-request-timestamp": at,
      "x-slack-signature": `v0=${createHmac("sha256", secret).update(`v0:${at}:${body}`).digest("hex")}`,
    },
    body,
  })
  return answer.status
}

describe("what people type", () => {
  test("a typo of an environment gets the nearest, alone", async () => {
    const scene = play()
    await scene.types("alice", "stagign scoring is broken")
    expect((await scene.isTold("alice", "stagign")).text).toContain('Did you mean "staging"?')
    expect(stage.slack.messages("staging")).toEqual([])
  })

  test("a typo of a component gets the nearest", async () => {
    const scene = play()
    await scene.types("alice", "staging --only db-confg it is only the version")
    expect((await scene.isTold("alice", "db-confg")).text).toContain('Did you mean "db-config"?')
  })

  test("a typo of a command gets the nearest", async () => {
    const scene = play()
    await scene.types("alice", "histry")
    expect((await scene.isTold("alice", "histry")).text).toContain('Did you mean "history"?')
  })

  test("an invalid plan is refused with its place, as a rollback and as a plan", async () => {
    for (const text of ["broken now", "plan broken"]) {
      const scene = play()
      await scene.types("alice", text)
      expect((await scene.isTold("alice", "not valid")).text).toMatch(/broken\.yaml:13:\d+: .*WHERE/i)
    }
  })

  test("a file that is not even YAML is refused with its place too", async () => {
    const scene = play()
    await scene.types("alice", "torn now")
    expect((await scene.isTold("alice", "not valid")).text).toMatch(/torn\.yaml:2:\d+: /)
  })

  test("help and the empty command say what can be done, and where", async () => {
    for (const text of ["help", "", "  "]) {
      const scene = play()
      await scene.types("carol", text)
      expect((await scene.isTold("carol", "/rollback status")).text).toContain("Environments: staging")
    }
  })

  test("plan shows components, steps, approvals and notes", async () => {
    const scene = play()
    await scene.types("alice", "plan staging")
    const { text } = await scene.isTold("alice", "Scoring from v1.2.1 back to v1.2.0")
    for (const words of ["Edge functions", "Set results_version", "never the requester", "Note from the plan"])
      expect(text).toContain(words)
  })

  test("a rollback that does not exist is said not to", async () => {
    const scene = play()
    await scene.types("alice", "cancel R-99")
    expect((await scene.isTold("alice", "R-99")).text).toContain("There is none yet")
  })

  test("a reason of hostile words is shown as words and calls nobody", async () => {
    const scene = play()
    await scene.types("alice", "staging --only db-config <!channel> *bold* <https://evil.example|docs> &amp; `code`")
    const card = await scene.waitingCard()
    expect(card.mentions).toEqual(["U0ALICE"])
    expect(wordsOf(card)).toContain("*bold*")
    expect(card.text).not.toMatch(/<!channel|<https:\/\/evil/)
    await scene.presses("alice", card, "cancel")
    await scene.sees("staging", "that it was cancelled", (message) => /cancelled/.test(message.text))
  })

  test("while the plan beside it is broken, the valid one runs; --only narrows it; status and history tell", async () => {
    const scene = play()
    await scene.types("alice", "staging --only db-config it is only the version")
    const card = await scene.waitingCard()
    expect(card.text).not.toContain("finalizeAssessment")
    await scene.types("carol", "status")
    expect((await scene.isTold("carol", "R-2")).text).toContain("waiting for approval")
    await scene.presses("bob", card, "approve")
    await scene.analysisOf(card)
    expect(repliesOf(stage, card.ts)).toHaveLength(2)
    const state = await stage.world.state()
    expect([state.resultsVersion, state.functions.score_prism.ref]).toEqual(["v1.2.0", "v1.2.1"])
    const after = play()
    await after.types("carol", "history staging")
    expect((await after.isTold("carol", "R-2")).text).toMatch(/R-2 .*done[\s\S]*R-1 .*cancelled/)
  })
})

test("where anyone may approve, the call after a while is seen in the channel too", async () => {
  const scene = play()
  await scene.types("alice", "staging --only db-config nobody is here")
  const card = await scene.waitingCard()
  const state = new pg.Client({ connectionString: stage.environment["DATABASE_URL"] })
  await state.connect()
  await state.query("update stepback.rollbacks set rehearsed_at = now() - interval '3 minutes' where state = $1", [
    "awaiting_approval",
  ])
  await state.end()
  const call = await scene.sees("staging", "the call", (message) => message.text.includes("still waits for 1 approval"))
  expect([call.thread_ts, call.reply_broadcast]).toEqual([card.ts, true])
  await scene.presses("alice", card, "cancel")
  await scene.sees("staging", "that it was cancelled", ({ ts, text }) => ts === card.ts && /cancelled/.test(text))
})

test("the process tells how it is: health, readiness, figures", async () => {
  const get = async (path: string) => {
    const answer = await fetch(`http://127.0.0.1:${running.port}${path}`)
    return { status: answer.status, body: await answer.text() }
  }
  expect((await get("/healthz")).status).toBe(200)
  expect(await get("/readyz")).toMatchObject({ status: 200, body: expect.stringContaining('"degraded":false') })
  const metrics = await get("/metrics")
  expect(metrics.status).toBe(200)
  expect(metrics.body).toMatch(/stepback_rollbacks\{state="succeeded"\} 1/)
  expect(metrics.body).toMatch(/stepback_rollbacks\{state="running"\} 0/)
  expect(metrics.body).toMatch(/stepback_step_seconds_count\{kind="sql",outcome="succeeded"\} [1-9]/)
  for (const name of ["outbox_age_seconds", "escalations_unacknowledged", "queue_waiting"])
    expect(metrics.body).toMatch(new RegExp(`^stepback_${name} \\d`, "m"))
  stage.slack.faults.set({ methods: ["users.info"], kind: "error", error: "internal_error", times: 1 })
  await stage.slack.command({ user: "carol", channel: "staging", text: "plan staging" })
  await expect
    .poll(async () => (await get("/metrics")).body, { timeout: 15_000 })
    .toMatch(/stepback_slack_errors_total\{method="users.info",code="internal_error"\} 1/)
  stage.slack.faults.clear()
  const { rollbackId } = await running.logged((line) => line["msg"] === "rollback ended")
  const told = running.lines.filter((line) => line["rollbackId"] === rollbackId).map((line) => line["msg"])
  for (const msg of ["rollback rehearsed", "run taken", "step ended", "rollback ended"]) expect(told).toContain(msg)
  expect((await get("/slack/events")).status).toBe(405)
  expect((await get("/elsewhere")).status).toBe(404)
  const log = JSON.stringify(running.lines)
  for (const secret of [stage.slack.botToken, stage.slack.signingSecret, new URL(stage.world.databaseUrl).password])
    expect(log).not.toContain(secret)
})

test("without Slack the process is ready, degraded, and says why; and no more when it is back", async () => {
  const told = async () => (await fetch(`http://127.0.0.1:${running.port}/readyz`)).json()
  for (const [fault, reason] of [
    [{ kind: "error", error: "token_revoked" }, /Slack: token_revoked/],
    [{ kind: "hang" }, /Slack: /],
  ] as const) {
    stage.slack.faults.set(fault)
    await expect
      .poll(told, { timeout: 15_000 })
      .toMatchObject({ ready: true, degraded: true, reasons: [expect.stringMatching(reason)] })
    stage.slack.faults.clear()
    await expect.poll(told, { timeout: 15_000 }).toMatchObject({ ready: true, degraded: false, reasons: [] })
  }
})

test("without Redis the process is ready, degraded, and says why", async () => {
  await stage.redis?.stop()
  await expect
    .poll(async () => (await fetch(`http://127.0.0.1:${running.port}/readyz`)).json(), { timeout: 15_000 })
    .toMatchObject({ ready: true, degraded: true, reasons: [expect.stringContaining("queue")] })
  const told = await running.logged(({ msg }) => String(msg).startsWith("Redis does not answer"))
  expect(told).toMatchObject({ level: "warn", reason: expect.any(String) })
})

test("a command without a trigger is one, and so is the next", async () => {
  const before = stage.slack.ephemerals("alice").length
  for (const text of ["record staging first", "record staging second"]) expect(await sendCommand({ text })).toBe(200)
  const said = (word: string) => stage.slack.messages("staging").some((message) => message.text.includes(word))
  await expect.poll(() => [said("first"), said("second")], { timeout: 10_000 }).toEqual([true, true])
  expect(stage.slack.ephemerals("alice")).toHaveLength(before)
})
