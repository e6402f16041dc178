import { once } from "node:events"
import { copyFile, mkdtemp, rm, writeFile } from "node:fs/promises"
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Redis } from "ioredis"
import pg from "pg"
import { expect } from "vitest"

import { isAnalysisOf } from "../../playground/scenarios/play.ts"
import type { Message } from "../../playground/slack/local-slack.ts"
import { startStage, type Stage } from "../../playground/stage.ts"
import type { StepbackProcess } from "../../playground/stepback-process.ts"

export const planted = { password: "planted-db-password", key: "planted-api-key-7c1e" }
export const evil = "<!channel> <!here> <@U0CAROL> <!subteam^S0ONCALL> \u202e\u200b\u0007 *b* `c` &lt;!channel&gt; 🔥"

const shop = `
version: 1
environment: shop
title: Shop <!channel> back
target: { postgres: "\${SHOP_DATABASE_URL}", http: "\${SHOP_URL}" }
approve: { low: { count: 1, from: anyone }, medium: { count: 1, from: anyone }, high: { count: 1, from: anyone } }
components:
  prices:
    risk: low
    steps:
      - { id: look, check: "select usename::text as who, passwd is null as hidden, now() as at from pg_user where usename = current_user" }
      - { id: ask, http: { path: /prices, headers: { Authorization: "Bearer \${SHOP_KEY}" } } }
escalate: { channel: C0NOWHERE, mention: [U0CAROL], acknowledge_within: 10m }
`

export let stage: Stage
export let stepback: StepbackProcess
let target: Server
let plans: string
export let monitored: string
let redis: Redis | null = null
let monitor: Redis | null = null
export const redisCommands: string[] = []

export async function open(): Promise<void> {
  plans = await mkdtemp(join(tmpdir(), "stepback-hostile-"))
  await copyFile(new URL("../../plans/staging.yaml", import.meta.url), join(plans, "staging.yaml"))
  await writeFile(join(plans, "shop.yaml"), shop)
  // Says back all that it was told, and more than anybody wants to read.
  target = createServer((request, response) => {
    response.writeHead(500, { location: "http://169.254.169.254/" })
    response.end(`${evil} you sent ${request.headers.authorization} ${"x".repeat(2_000_000)}`)
  })
  target.listen(0, "127.0.0.1")
  await once(target, "listening")
  stage = await startStage({ mode: "http", queue: "redis", plans })
  const url = new URL(await stage.postgres.createDatabase("shop"))
  await query(stage.postgres.url(), `create role shopper superuser login password '${planted.password}'`)
  Object.assign(url, { username: "shopper", password: planted.password })
  monitored = stage.redis?.url ?? ""
  if (monitored !== "") {
    redis = new Redis(monitored)
    monitor = await redis.monitor()
    monitor.on("monitor", (_time: string, parts: string[]) => redisCommands.push(parts.join(" ")))
  }
  const { port } = target.address() as AddressInfo
  stepback = await stage.start({
    SHOP_DATABASE_URL: url.href,
    SHOP_URL: `http://127.0.0.1:${port}`,
    SHOP_KEY: planted.key,
    LOG_LEVEL: "debug",
  })
  stage.slack.addUser({ id: "U0FLOOD", name: "flood" })
  stage.slack.addChannel({ id: "C0ALONE", name: "alone", botIsMember: false })
  stage.slack.addChannel({ id: "C0SHARED", name: "shared", is_ext_shared: true })
}

/** What a test left waiting holds the environment: it is cancelled. */
export async function cancelAll(): Promise<void> {
  stage.slack.faults.clear()
  const live = "select number from stepback.rollbacks where state in ('preparing', 'awaiting_approval')"
  for (const { number } of await query(stage.environment["DATABASE_URL"] ?? "", live))
    await type(`cancel R-${String(number)}`)
}

export async function close(): Promise<void> {
  monitor?.disconnect()
  redis?.disconnect()
  await stage.stop()
  target.close()
  await rm(plans, { recursive: true, force: true })
}

export async function query(url: string, text: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  const { rows } = (await client.query(text)) as { rows: Record<string, unknown>[] }
  await client.end()
  return rows
}

export const hasApprove = (message: Message) => JSON.stringify(message.blocks).includes('"approve"')
export const says = (message: Message) => message.text + JSON.stringify(message.blocks)
export const cards = (mark: string) =>
  stage.slack.messages("C0STAGING").filter((message) => says(message).includes(mark) && /R-\d+/.test(message.text))

/** Types a command and gives what that person alone is answered. */
export async function type(text: string, user = "alice", channel = "staging"): Promise<string> {
  const before = stage.slack.ephemerals(user).length
  const outcome = await stage.slack.command({ user, channel, text })
  expect(outcome).toMatchObject({ ok: true, status: 200 })
  return told(user, before)
}

export async function told(user: string, before: number): Promise<string> {
  const answer = await stage.slack.waitFor(() => stage.slack.ephemerals(user)[before], {
    timeoutMs: 15_000,
    what: `an answer to ${user}`,
  })
  return answer.text
}

export async function ask(text: string): Promise<Message> {
  const known = new Set(stage.slack.messages("C0STAGING").map(({ ts }) => ts))
  await stage.slack.command({ user: "alice", channel: "staging", text })
  return stage.slack.waitFor(
    () => stage.slack.messages("C0STAGING").find((message) => !known.has(message.ts) && hasApprove(message)),
    { timeoutMs: 20_000, what: "a card" },
  )
}

export const click = (card: Message, user: string, action: string) =>
  stage.slack.click({ user, channel: "C0STAGING", ts: card.ts, action })

export async function pressed(card: Message, user: string, action: string): Promise<string> {
  const before = stage.slack.ephemerals(user).length
  await click(card, user, action)
  return told(user, before)
}

export const analysisOf = (card: Message) =>
  stage.slack.waitFor(() => stage.slack.messages("C0STAGING").find((message) => isAnalysisOf(card, message)), {
    timeoutMs: 40_000,
    what: "its analysis",
  })
