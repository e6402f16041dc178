import { createHmac } from "node:crypto"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import pg from "pg"
import { afterAll, beforeAll, expect, test } from "vitest"
import { startPostgresProxy, type PostgresProxy } from "../../playground/faults/proxy.ts"
import { hasButton, nameOf, startPlay, type Play } from "../../playground/scenarios/play.ts"
import type { Message } from "../../playground/slack/local-slack.ts"
import { startStage, type Stage } from "../../playground/stage.ts"
import type { StepbackProcess } from "../../playground/stepback-process.ts"
import { shopPlan } from "./shop-plan.ts"

const plan = shopPlan()

let stage: Stage
let folder: string
let state: pg.Pool
let bot: StepbackProcess
/** The bot's link to its database; the worker has one of its own. */
let link: PostgresProxy
const play = (): Play => startPlay(stage, () => undefined)

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "stepback-odd-days-"))
  await writeFile(join(folder, "shop.yaml"), plan)
  stage = await startStage({ mode: "http", queue: "redis", plans: folder })
  const url = await stage.postgres.createDatabase("shop")
  const shop = new pg.Client({ connectionString: url })
  await shop.connect()
  await shop.query("create table settings (name text primary key, value text)")
  await shop.query("insert into settings values ('engine', '2')")
  await shop.end()
  stage.environment["SHOP_DATABASE_URL"] = url
  const direct = stage.environment["DATABASE_URL"] ?? ""
  state = new pg.Pool({ connectionString: direct, max: 2 })
  link = await startPostgresProxy(Number(new URL(direct).port))
  bot = await stage.start({ STEPBACK_ROLE: "bot", DATABASE_URL: link.url(direct) })
  await stage.start({ STEPBACK_ROLE: "worker" })
})
afterAll(async () => {
  await state.end()
  await stage.stop()
  await link.stop()
  await rm(folder, { recursive: true, force: true })
})

const stateOf = async (card: Message) =>
  (await state.query<{ state: string }>("select state from stepback.rollbacks where card_ts = $1", [card.ts])).rows[0]
    ?.state

async function asked(scene: Play): Promise<Message> {
  await scene.types("alice", "shop it is bad")
  return scene.waitingCard()
}

/** Ends what goes on, so that the next may begin. */
async function stopped(scene: Play, card: Message): Promise<void> {
  await scene.types("alice", `stop ${nameOf(card)}`)
  await expect.poll(() => stateOf(card), { timeout: 20_000 }).toBe("stopped")
}

test("status tells of one rollback too, and what is a button is said to be one", async () => {
  const scene = play()
  await scene.types("alice", "shop one more look")
  const card = await scene.waitingCard()
  const name = nameOf(card)
  await scene.types("carol", `status ${name.toLowerCase()}`)
  expect((await scene.isTold("carol", name)).text).toMatch(/shop · waiting|0 of 1 approvals/)
  await scene.types("carol", `approve ${name}`)
  await scene.isTold("carol", "a button on the rollback's card")
  await scene.types("carol", "status R-999")
  await scene.isTold("carol", "R-999")
  await scene.types("alice", `cancel ${name}`)
  await scene.isTold("alice", `${name} is cancelled`)
  await scene.types("carol", `status ${name}`)
  await scene.isTold("carol", "cancelled")
})

test("an approval whose answer is lost with the link is not said to have changed nothing", async () => {
  const scene = play()
  const card = await asked(scene)
  link.cutAtCommit("after", 1_000)
  await scene.presses("bob", card, "approve")
  const told = await scene.isTold("bob", "database")
  link.cutAtCommit("after", 0)
  expect(told.text).toMatch(/cannot tell whether this counted.*look at the card/)
  expect(told.text).not.toContain("Nothing was changed")
  // The server may still be at it when the link is gone.
  await expect.poll(() => stateOf(card), { timeout: 20_000 }).toMatch(/approved|running/)
  await stopped(scene, card)
})

test("a state database that takes no writes is said to the person and on /readyz, and a step's question waits for it", async () => {
  const scene = play()
  const admin = new pg.Client(stage.postgres.url())
  await admin.connect()
  const closed = async (on: boolean) => {
    await admin.query(`alter database stepback_state set default_transaction_read_only = ${on ? "on" : "off"}`)
    await admin.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'stepback_state' and application_name = 'stepback'",
    )
  }
  const ready = async () => (await fetch(`http://127.0.0.1:${bot.port}/readyz`)).json()
  const card = await asked(scene)
  await closed(true)
  await expect
    .poll(ready, { timeout: 20_000 })
    .toEqual({ ready: true, degraded: true, reasons: [expect.stringContaining("it takes no writes")] })
  await scene.presses("bob", card, "approve")
  await scene.isTold("bob", "takes no writes, so I cannot do anything safely. Nothing was changed")
  await closed(false)
  await expect.poll(ready, { timeout: 20_000 }).toEqual({ ready: true, degraded: false, reasons: [] })
  await scene.presses("bob", card, "approve")
  const engine = () => stage.slack.replies("staging", card.ts).some(({ text }) => text.includes("Set the engine"))
  await stage.slack.waitFor(engine, { what: "the first step", timeoutMs: 20_000 })
  await closed(true)
  // Longer than the lease, which nobody can renew.
  const lapsed = async () =>
    (await state.query("select from stepback.rollbacks where card_ts = $1 and lease_until < now()", [card.ts])).rowCount
  await expect.poll(lapsed, { timeout: 20_000 }).toBe(1)
  await closed(false)
  await expect.poll(() => stateOf(card), { timeout: 20_000 }).toBe("running")
  await stopped(scene, card)
  await admin.end()
}, 120_000)

test("a state database that says nothing is told to those who watch over the process, before they stop asking", async () => {
  const asked = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${bot.port}${path}`, { signal: AbortSignal.timeout(8_000) })
    return { status: response.status, body: await response.text() }
  }
  expect(await asked("/readyz")).toMatchObject({ status: 200 })
  link.hold(true)
  const [ready, metrics] = await Promise.all([asked("/readyz"), asked("/metrics")]).finally(() => link.hold(false))
  expect(ready).toMatchObject({ status: 503, body: expect.stringContaining("state database: no answer") })
  expect(metrics).toMatchObject({ status: 200, body: expect.stringContaining("process_cpu_seconds_total") })
  expect(metrics.body).not.toContain("stepback_rollbacks{")
  await expect.poll(async () => (await asked("/readyz")).status, { timeout: 20_000 }).toBe(200)
})

test("a card whose edits Slack refused while the bot was out of the channel is edited again when it is back", async () => {
  const scene = play()
  const card = await asked(scene)
  await scene.presses("bob", card, "approve")
  const question = await stage.slack.waitFor(
    () => stage.slack.replies("staging", card.ts).find((reply) => hasButton(reply, "manual_done")),
    { what: "the question", timeoutMs: 20_000 },
  )
  stage.slack.faults.set({ methods: ["chat.update"], kind: "error", error: "not_in_channel" })
  const edits = () => stage.slack.calls.filter(({ method, error }) => method === "chat.update" && error !== undefined)
  const before = edits().length
  await state.query("select stepback.redraw_card(id) from stepback.rollbacks where card_ts = $1", [card.ts])
  await stage.slack.waitFor(() => edits().length > before, { what: "an edit that is refused", timeoutMs: 20_000 })
  stage.slack.faults.clear()
  await scene.presses("bob", question, "manual_done")
  const ended = await scene.sees("staging", "the end", ({ ts, text }) => ts === card.ts && /shop is back/.test(text))
  expect([hasButton(ended, "stop"), hasButton(ended, "undo")]).toEqual([false, true])
})

test("a Stop that is delivered again after Retry does not stop the run a second time, and says so", async () => {
  const scene = play()
  const card = await asked(scene)
  await scene.presses("bob", card, "approve")
  const cardWith = (action: string) =>
    scene.sees("staging", `the button ${action}`, (message) => message.ts === card.ts && hasButton(message, action))
  await scene.presses("alice", await cardWith("stop"), "stop")
  await scene.presses("alice", await cardWith("retry"), "retry")
  await cardWith("stop")
  // The two presses, once more.
  await stage.slack.redeliver(2)
  expect((await scene.isTold("alice", "Too late")).text).toMatch(
    /is running.*Nothing was changed now.*rollback stop R-/,
  )
  expect(await stateOf(card)).toBe("running")
  await stopped(scene, card)
})

/** As a compatible server may send it: with no trigger, or an empty one. */
async function pressesWithoutTrigger(user: string, rollbackId: string, actionId: string, more: object): Promise<void> {
  const actions = [{ type: "button", action_id: actionId, block_id: "b", value: rollbackId }]
  const press = { type: "block_actions", user: { id: user, team_id: "T0LOCAL" }, actions, ...more }
  const body = new URLSearchParams({ payload: JSON.stringify(press) }).toString()
  const at = String(Math.floor(Date.now() / 1000))
  const secret = stage.environment["SLACK_SIGNING_SECRET"] ?? ""
  const headers = {
    "content-type": "application/x-www-form-urlencoded",
    "x-slack-request-timestamp": at,
    "x-slack-signature": `v0=${createHmac("sha256", secret).update(`v0:${at}:${body}`).digest("hex")}`,
  }
  const answer = await fetch(`http://127.0.0.1:${bot.port}/slack/events`, { method: "POST", headers, body })
  expect(answer.status).toBe(200)
}

test.each([{}, { trigger_id: "" }])("presses with %j for a trigger are one each", async (trigger) => {
  const scene = play()
  const card = await asked(scene)
  await scene.presses("bob", card, "approve")
  const one = "select id, generation from stepback.rollbacks where card_ts = $1"
  const rollback = async () => (await state.query<{ id: string; generation: number }>(one, [card.ts])).rows[0]
  const seen = new Set<string>()
  for (const generation of [1, 2]) {
    const question = await stage.slack.waitFor(
      () =>
        stage.slack
          .replies("staging", card.ts)
          .find((reply) => hasButton(reply, "manual_not_done") && !seen.has(reply.ts)),
      { what: "the question", timeoutMs: 20_000 },
    )
    seen.add(question.ts)
    await scene.presses("bob", question, "manual_not_done")
    await expect.poll(() => stateOf(card), { timeout: 20_000 }).toBe("failed")
    await pressesWithoutTrigger("U0BOB", (await rollback())?.id ?? "", "retry", trigger)
    await expect.poll(async () => (await rollback())?.generation, { timeout: 10_000 }).toBe(generation)
  }
  await stopped(scene, card)
})

test("a press that is delivered again while its form is open is no failure to open it", async () => {
  const scene = play()
  const card = await asked(scene)
  await scene.presses("bob", card, "deny")
  await stage.slack.waitFor(() => stage.slack.openViews("bob").length === 1, { what: "the form" })
  const opened = () => stage.slack.calls.filter(({ method, status }) => method === "views.open" && status !== 0)
  const before = stage.slack.ephemerals("bob").length
  await stage.slack.redeliver(1)
  await stage.slack.waitFor(() => opened().some(({ error }) => error === "exchanged_trigger_id"), {
    what: "the refusal",
  })
  // What is answered next is the answer to this.
  await scene.types("bob", "help")
  await scene.isTold("bob", "/rollback status")
  expect(stage.slack.ephemerals("bob").slice(before)).toHaveLength(1)
  await scene.presses("alice", card, "cancel")
  await scene.sees("staging", "that it was cancelled", ({ ts, text }) => ts === card.ts && /cancelled/.test(text))
  // Nothing ran, so there is no analysis that a note could go into.
  await scene.types("carol", `note ${nameOf(card)} nobody could agree`)
  expect((await scene.isTold("carol", "Noted")).text).toMatch(/is cancelled and never ran: it gets no analysis/)
})

test("a plan file that is no YAML any more when it is approved is named with its place on the card", async () => {
  const scene = play()
  const card = await asked(scene)
  await writeFile(join(folder, "shop.yaml"), "{{{:")
  await scene.presses("bob", card, "approve")
  const ended = await scene.sees("staging", "the end", ({ ts, text }) => ts === card.ts && /cancelled/.test(text))
  expect(ended.text).toMatch(/the plan is invalid: \S*shop\.yaml:1:\d+: /)
  await writeFile(join(folder, "shop.yaml"), plan)
})

test("a program that lacks a variable while tables are looked at ends the request with its reason, not the worker", async () => {
  const scene = play()
  const look = `- { id: flag, title: Turn the flag off, command: ["true"], env: [FLAG_TOOL], effect: none }`
  await writeFile(join(folder, "shop.yaml"), plan.replace(/- \{ id: flag.*/, look))
  await scene.types("alice", "shop it is bad")
  const ended = await scene.sees("staging", "the end", ({ text }) => /cancelled/.test(text))
  expect(ended.text).toContain("FLAG_TOOL is not set in the worker's environment")
  await writeFile(join(folder, "shop.yaml"), plan)
})
