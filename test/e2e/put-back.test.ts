import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import pg from "pg"
import { afterAll, beforeAll, expect, test } from "vitest"
import { hasButton, nameOf, startPlay, wordsOf, type Play } from "../../playground/scenarios/play.ts"
import type { Message } from "../../playground/slack/local-slack.ts"
import { startStage, type Stage } from "../../playground/stage.ts"
import type { StepbackProcess } from "../../playground/stepback-process.ts"
import { shopPlan } from "./shop-plan.ts"

const plan =
  shopPlan(`      - { id: mail, title: Send the mail, command: [sh, -c, "echo sent >>mails"], cwd: "\${SHOP_FOLDER}", effect: blind }
      - { id: ring, title: Ring the bell, command: [sh, -c, "echo rung >>bells"], cwd: "\${SHOP_FOLDER}", effect: blind }
`)

const asks = plan
  .replace("environment: shop", "environment: asks")
  .replace(/ {6}- \{ id: mail/, "      - { id: look, title: Look first, manual: Look at it }\n$&")

let stage: Stage
let folder: string
let server: pg.Client
let shop: pg.Client
let processes: StepbackProcess[] = []
const play = (): Play => startPlay(stage, () => undefined)

async function start(): Promise<void> {
  processes = [await stage.start({ STEPBACK_ROLE: "bot" }), await stage.start({ STEPBACK_ROLE: "worker" })]
}

const stop = () => Promise.all(processes.map((one) => one.stop()))

/** As `pg_dump` does it: what is in the state database now, whoever is at work. */
async function backUp(): Promise<void> {
  for (const one of processes) one.kill("SIGSTOP")
  await server.query("select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = 'stepback_state'")
  await server.query("create database backup template stepback_state")
  for (const one of processes) one.kill("SIGCONT")
}

async function putBack(): Promise<void> {
  await server.query("drop database stepback_state with (force)")
  await server.query("alter database backup rename to stepback_state")
}

/** No connection of ours stays: a database that is in use is not copied. */
async function stateSays(sql: string): Promise<pg.QueryResult> {
  const state = new pg.Client({ connectionString: stage.environment["DATABASE_URL"] })
  await state.connect()
  try {
    return await state.query(sql)
  } finally {
    await state.end()
  }
}

/** What the runbook says to do before any process starts. */
async function makeReady(): Promise<void> {
  const runbook = await readFile(new URL("../../docs/runbook.md", import.meta.url), "utf8")
  const [sql = ""] = /select stepback\.put_back\(\)/.exec(runbook) ?? []
  expect((await stateSays(sql)).rows).toEqual([{ put_back: 1 }])
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "stepback-put-back-"))
  await writeFile(join(folder, "shop.yaml"), plan)
  await writeFile(join(folder, "asks.yaml"), asks)
  stage = await startStage({ mode: "http", queue: "redis", plans: folder })
  const url = await stage.postgres.createDatabase("shop")
  Object.assign(stage.environment, { SHOP_DATABASE_URL: url, SHOP_FOLDER: folder })
  server = new pg.Client(stage.postgres.url())
  shop = new pg.Client({ connectionString: url })
  await Promise.all([server.connect(), shop.connect()])
  await shop.query("create table settings (name text primary key, value text)")
  await shop.query("create table changes (at timestamptz default now())")
  await shop.query("insert into settings values ('engine', '2')")
  await shop.query(`create function noted() returns trigger language plpgsql as
    $$ begin insert into changes default values; return new; end $$`)
  await shop.query("create trigger noted after update on settings for each row execute function noted()")
  await start()
})
afterAll(async () => {
  await Promise.all([server.end(), shop.end()])
  await stage.stop()
  await rm(folder, { recursive: true, force: true })
})

const linesOf = async (file: string) =>
  (await readFile(join(folder, file), "utf8").catch(() => "")).split("\n").length - 1
const changes = async () => (await shop.query<{ n: number }>("select count(*)::int as n from changes")).rows[0]?.n
const reply = (card: Message, words: string) =>
  stage.slack.waitFor(() => stage.slack.replies("staging", card.ts).findLast((one) => wordsOf(one).includes(words)), {
    timeoutMs: 40_000,
    what: `a reply with "${words}"`,
  })
const cardSays = (scene: Play, card: Message, words: RegExp) =>
  scene.sees("staging", `the card with ${words}`, (one) => one.ts === card.ts && words.test(wordsOf(one)))

test("a state database put back to before its run does nothing twice: what nobody knows of waits for a person", async () => {
  const scene = play()
  await scene.types("alice", "shop it is bad")
  const card = await scene.waitingCard()
  await backUp()
  await scene.presses("bob", card, "approve")
  await scene.presses("bob", await reply(card, "Turn it off"), "manual_done")
  await cardSays(scene, card, /shop is back/)
  expect([await changes(), await linesOf("mails"), await linesOf("bells")]).toEqual([1, 1, 1])
  await scene.types("carol", "shop once more")
  const lost = await scene.sees("staging", "a second card", (one) => one.ts !== card.ts && hasButton(one, "approve"))

  await stop()
  await putBack()
  await makeReady()
  await start()
  await scene.presses("bob", lost, "approve")
  await scene.isTold("bob", "it is not in my database")
  const again = await scene.sees("staging", "Approve again", (one) => one.ts === card.ts && hasButton(one, "approve"))
  expect(wordsOf(again)).toContain("whether this was denied, cancelled or run since is not on record here")
  expect(wordsOf(again)).toContain("this has run already, after what my database knows")
  await scene.presses("bob", again, "approve")
  await reply(card, "my database was put back to a backup")
  const failed = await cardSays(scene, card, /shop is NOT back/)
  await reply(card, "this may have been done in it")
  expect([await changes(), await linesOf("mails"), await linesOf("bells")]).toEqual([1, 1, 1])

  // Retry is one person's word for the step that was looked at, not for what comes after it.
  await scene.presses("alice", failed, "retry")
  await stage.slack.waitFor(
    () =>
      stage.slack
        .replies("staging", card.ts)
        .find((one) => /Ring the bell.*unknown|Ring the bell.*not known/s.test(wordsOf(one))),
    { timeoutMs: 40_000, what: "the second step in doubt" },
  )
  expect([await changes(), await linesOf("mails"), await linesOf("bells")]).toEqual([1, 2, 1])
  await scene.types("alice", `undo ${nameOf(card)}`)
  const undo = await scene.sees(
    "staging",
    "the undo's card",
    (one) => /Take back/.test(wordsOf(one)) && hasButton(one, "approve"),
  )
  await scene.presses("bob", undo, "approve")
  await cardSays(scene, undo, /Undone on shop/)
  expect((await shop.query("select value from settings")).rows).toEqual([{ value: "2" }])
})

test("a run that was going on in the backup does nothing twice, and nothing by an approval or an answer of before", async () => {
  await Promise.all(["mails", "bells"].map((file) => rm(join(folder, file), { force: true })))
  await shop.query("truncate changes")
  const scene = play()
  await scene.types("alice", "asks it is bad")
  const card = await scene.waitingCard()
  await scene.presses("bob", card, "approve")
  await reply(card, "Look at it")
  const unsent = "select from stepback.outbox where state <> 'sent'"
  await expect.poll(async () => (await stateSays(unsent)).rowCount, { timeout: 20_000 }).toBe(0)
  await backUp()
  const asked = await reply(card, "Look at it")
  await scene.presses("bob", asked, "manual_done")
  await scene.presses("bob", await reply(card, "Turn it off"), "manual_done")
  await cardSays(scene, card, /asks is back/)

  await stop()
  await putBack()
  await makeReady()
  await start()
  await reply(card, "My database was put back to a backup")
  // Somebody may have pressed Stop since: nothing goes on by the approval of before.
  const again = await scene.sees("staging", "Approve again", (one) => one.ts === card.ts && hasButton(one, "approve"))
  expect(wordsOf(again)).toContain("or run since is not on record here")
  await scene.presses("bob", again, "approve")
  const open = await stage.slack.waitFor(
    () => stage.slack.replies("staging", card.ts).find((one) => one.ts !== asked.ts && hasButton(one, "manual_done")),
    { timeoutMs: 40_000, what: "the question with its buttons" },
  )
  const before = stage.slack.replies("staging", card.ts).find(({ ts }) => ts === asked.ts)
  expect(before?.text).toContain("what was answered is not on record any more")
  await scene.presses("bob", open, "manual_done")
  await cardSays(scene, card, /asks is NOT back/)
  await reply(card, "this may have been done in it")
  expect([await changes(), await linesOf("mails"), await linesOf("bells")]).toEqual([1, 1, 1])
})
