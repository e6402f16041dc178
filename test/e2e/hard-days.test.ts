import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import pg from "pg"
import { afterAll, beforeAll, expect, test } from "vitest"
import { hasButton, startPlay, wordsOf, type Play } from "../../playground/scenarios/play.ts"
import type { Message } from "../../playground/slack/local-slack.ts"
import { startStage, type Stage } from "../../playground/stage.ts"
import type { StepbackProcess } from "../../playground/stepback-process.ts"

let stage: Stage
let folder: string
let shop: pg.Pool
let worker: StepbackProcess
const play = (): Play => startPlay(stage, () => undefined)

const head = (environment: string, database = "SHOP_DATABASE_URL") => `version: 1
environment: ${environment}
title: The shop back to 1
target: { postgres: "\${${database}}" }
approve:
  low: { count: 1, from: anyone }
  medium: { count: 1, from: anyone }
  high: { count: 1, from: anyone }
escalate: { channel: C0ONCALL, mention: [S0ONCALL] }
components:
`
const setEngine = `      - { id: engine, title: Set the engine, sql: "update settings set value = '1' where name = 'engine'", expect: { rows: 1 }, timeout: 1s }`
const purgeQuotes = `      - { id: quotes, title: Remove quotes, purge: { table: quotes, where: "kind = 'bad'", at_most: 1000, max_share: 60%, batch: 50 }, expect: { rows: rehearsed, tolerance: 0% } }`
const fleet = ["one", "two", "three"]

const plans: Record<string, string> = {
  shop: `${head("shop")}  data:
    title: Data
    risk: low
    steps:
${setEngine}
${purgeQuotes}
`,
  away: `${head("away", "AWAY_DATABASE_URL")}  data:
    title: Data
    risk: low
    steps:
${setEngine}
${purgeQuotes}
`,
  waits: `${head("waits")}  data:
    title: Data
    risk: low
    steps:
${setEngine}
      - { id: flag, title: Turn the flag off, manual: Turn it off }
`,
  shout: `${head("shout")}  build:
    title: Build
    risk: low
    steps:
      - { id: build, title: Build it, command: [seq, "1000", "3000"], effect: keyed, irreversible: it only prints }
`,
  half: `${head("half")}  build:
    title: Build
    risk: low
    steps:
      - id: half
        title: Deploy by halves
        command: [sh, -c, "printf v1 >half; exit 7"]
        cwd: \${FLEET_FOLDER}
        effect: keyed
        deployed: [cat, half]
        undo: [sh, -c, 'printf %s "$1" >half', sh, $deployed]
`,
  fleet: `${head("fleet")}  functions:
    title: Functions
    risk: low
    parallel: true
    steps:
${fleet
  .map(
    (name) => `      - id: deploy-${name}
        title: Deploy ${name}
        command: [./deploy.sh, ${name}, v1]
        cwd: \${FLEET_FOLDER}
        effect: keyed
        deployed: [cat, ${name}]
        undo: [./deploy.sh, ${name}, $deployed]
      - id: call-${name}
        title: Call ${name}
        needs: [deploy-${name}]
        command: [cat, ${name}]
        cwd: \${FLEET_FOLDER}
        effect: none
        expect: { stdout: /^v1/ }`,
  )
  .join("\n")}
`,
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "stepback-hard-days-"))
  for (const [name, plan] of Object.entries(plans)) await writeFile(join(folder, `${name}.yaml`), plan)
  await mkdir(join(folder, "fleet"))
  for (const name of fleet) await writeFile(join(folder, "fleet", name), "v2")
  const script = `#!/bin/sh\necho "$1 $2" >>done\n[ -e "block-$1" ] && { echo "no room for $1" >&2; exit 7; }\nprintf %s "$2" >"$1"\n`
  await writeFile(join(folder, "fleet", "deploy.sh"), script)
  await chmod(join(folder, "fleet", "deploy.sh"), 0o755)
  stage = await startStage({ mode: "http", queue: "redis", plans: folder })
  const url = await stage.postgres.createDatabase("shop")
  Object.assign(stage.environment, {
    SHOP_DATABASE_URL: url,
    AWAY_DATABASE_URL: url.replace(/\/shop$/, "/away"),
    FLEET_FOLDER: join(folder, "fleet"),
  })
  shop = new pg.Pool({ connectionString: url, max: 3 })
  await shop.query("create table settings (name text primary key, value text)")
  await shop.query("create table quotes (id integer generated always as identity primary key, kind text not null)")
  await stage.start({ STEPBACK_ROLE: "bot" })
  worker = await stage.start({ STEPBACK_ROLE: "worker" })
})
afterAll(async () => {
  await shop.end()
  await stage.stop()
  await rm(folder, { recursive: true, force: true })
})

/** The bad version: engine 2, and so many bad quotes among a thousand. */
async function refill(bad = 400): Promise<void> {
  await shop.query("truncate settings, quotes; insert into settings values ('engine', '2')")
  await shop.query(
    "insert into quotes (kind) select case when n <= $1 then 'bad' else 'good' end from generate_series(1, 1000) n",
    [bad],
  )
}

const count = async (sql: string) =>
  (await shop.query<{ n: number }>(`select count(*)::int as n from ${sql}`)).rows[0]?.n

async function approved(scene: Play, environment: string): Promise<Message> {
  await scene.types("alice", `${environment} it is bad`)
  const card = await scene.waitingCard()
  await scene.presses("bob", card, "approve")
  return card
}

/** The card, when its headline says so. */
const cardSays = (scene: Play, card: Message, words: RegExp) =>
  scene.sees("staging", `the card with ${words}`, (message) => message.ts === card.ts && words.test(wordsOf(message)))

const called = (scene: Play, words: string) =>
  scene.sees("oncall", `a call that says "${words}"`, (message) => wordsOf(message).includes(words))

const reply = (card: Message, words: string) =>
  stage.slack.waitFor(() => stage.slack.replies("staging", card.ts).find((one) => wordsOf(one).includes(words)), {
    what: `a reply with "${words}"`,
    timeoutMs: 40_000,
  })

const numberOf = (card: Message) => /R-\d+/.exec(wordsOf(card))?.[0] ?? "?"

test("a lock that somebody holds: who, how long and at what is told, and Retry goes on", async () => {
  await refill()
  const scene = play()
  const colleague = new pg.Client({ connectionString: stage.environment["SHOP_DATABASE_URL"] })
  await colleague.connect()
  const { rows } = await colleague.query<{ pid: number }>("select pg_backend_pid() as pid")
  await colleague.query("begin; update settings set value = value /* a colleague at work */")
  const card = await approved(scene, "shop")
  const call = await called(scene, "Set the engine: SQL failed")
  expect(wordsOf(call)).toMatch(
    new RegExp(`55P03 .*held by pid ${rows[0]?.pid} for 00:00:\\d\\d.*a colleague at work`, "s"),
  )
  const failed = await cardSays(scene, card, /shop is NOT back/)
  await colleague.query("rollback")
  await colleague.end()
  await scene.presses("alice", failed, "retry")
  await cardSays(scene, card, /shop is back/)
  expect([await count("settings where value = '1'"), await count("quotes where kind = 'bad'")]).toEqual([1, 0])
})

test("a target that is away: what is absolute may be approved at raised risk, what was not counted asks again", async () => {
  await refill()
  const scene = play()
  await scene.types("alice", "away it is bad")
  const card = await scene.waitingCard()
  expect(wordsOf(card)).toMatch(/risk: medium/)
  expect(wordsOf(card)).toMatch(/the target database could not be looked at: .*"away" does not exist/)
  await stage.postgres.createDatabase("away")
  const away = new pg.Client({ connectionString: stage.environment["AWAY_DATABASE_URL"] })
  await away.connect()
  await away.query(`create table settings (name text primary key, value text);
    create table quotes (id integer primary key, kind text not null);
    insert into settings values ('engine', '2');
    insert into quotes select n, case when n <= 30 then 'bad' else 'good' end from generate_series(1, 100) n`)
  await scene.presses("bob", card, "approve")
  const again = await scene.sees(
    "staging",
    "the card that asks again",
    (message) => message.ts === card.ts && hasButton(message, "approve") && wordsOf(message).includes("30 of 100 rows"),
  )
  expect((await away.query("select (select value from settings), count(*)::int from quotes")).rows).toEqual([
    { value: "1", count: 100 },
  ])
  expect(wordsOf(again)).toContain("✓ Set the engine")
  await scene.presses("bob", again, "approve")
  await cardSays(scene, card, /away is back/)
  expect((await away.query("select count(*)::int from quotes")).rows).toEqual([{ count: 70 }])
  await away.end()
})

test("a long purge tells how far it is, in the reply that becomes its result", async () => {
  await refill()
  await shop.query(`create function slowly() returns trigger language plpgsql as 'begin perform pg_sleep(0.05); return old; end';
    create trigger slowly before delete on quotes for each row execute function slowly()`)
  const scene = play()
  const card = await approved(scene, "shop")
  const progress = await reply(card, "rows removed so far")
  expect(wordsOf(progress)).toMatch(/▸ .*Remove quotes.* \d+ of 400 rows removed so far/)
  await cardSays(scene, card, /shop is back/)
  await shop.query("drop function slowly cascade")
  const result = await reply(card, "400 rows of quotes archived and removed")
  expect(result.ts).toBe(progress.ts)
  expect(wordsOf(result)).not.toContain("so far")
  const replies = stage.slack.replies("staging", card.ts).filter((one) => wordsOf(one).includes("Remove quotes"))
  expect(replies).toHaveLength(1)
})

test("a target restored in the middle has lost what was done: the run fails, says it and calls; Retry does it again", async () => {
  await refill()
  const scene = play()
  const card = await approved(scene, "waits")
  await reply(card, "Set the engine")
  const asked = await reply(card, "Turn it off")
  // Ledger and effect are in one database: a backup from before has neither.
  await shop.query(
    "update settings set value = '2'; delete from stepback_ledger.entries; delete from stepback_ledger.before_images",
  )
  await scene.presses("bob", asked, "manual_done")
  await called(scene, "the target has lost what was done: Set the engine")
  const failed = await cardSays(scene, card, /waits is NOT back/)
  expect(wordsOf(failed)).toContain("✗ Set the engine: failed")
  expect(wordsOf(failed)).not.toContain("settings 1 changed")
  await reply(card, "the target has lost what this did")
  await scene.sees("staging", "the analysis with the loss", ({ text }) =>
    /^Post-rollback analysis.*Set the engine: the target has lost what this did.*3 Data affected: none/s.test(text),
  )
  await scene.presses("alice", failed, "retry")
  expect(wordsOf(await cardSays(scene, card, /waits is back/))).toContain("settings 1 changed")
  expect(await count("settings where value = '1'")).toBe(1)
})

test("a target restored after the end: the undo is withdrawn and says why", async () => {
  await refill()
  const scene = play()
  const card = await approved(scene, "shop")
  await cardSays(scene, card, /shop is back/)
  await shop.query("drop schema stepback_ledger cascade")
  await refill()
  await scene.types("alice", `undo ${numberOf(card)}`)
  const withdrawn = await scene.sees("staging", "the undo's card", (message) => message.text.includes("withdrawn"))
  expect(wordsOf(withdrawn)).toMatch(new RegExp(`the undo of ${numberOf(card)} is withdrawn: .*restored`))
  expect(hasButton(withdrawn, "approve")).toBe(false)
  expect(await count("quotes where kind = 'bad'")).toBe(400)
})

test("a deployment that is half done: each function's version is shown, Retry repeats the missing one alone", async () => {
  await writeFile(join(folder, "fleet", "block-two"), "")
  const scene = play()
  const card = await approved(scene, "fleet")
  const failed = await cardSays(scene, card, /fleet is NOT back/)
  const words = wordsOf(failed)
  for (const said of [
    "✓ Deploy one · deployed v2 → v1",
    "✓ Deploy three · deployed v2 → v1",
    "✗ Deploy two: failed · deployed still v2",
  ])
    expect(words).toContain(said)
  expect(wordsOf(await reply(card, "no room for two"))).toContain("deployed still v2")
  await called(scene, "Deploy two")
  await rm(join(folder, "fleet", "block-two"))
  await scene.presses("alice", failed, "retry")
  await cardSays(scene, card, /fleet is back/)
  const done = (await readFile(join(folder, "fleet", "done"), "utf8")).trim().split("\n")
  expect(done.toSorted()).toEqual(["one v1", "three v1", "two v1", "two v1"])
  expect(await readFile(join(folder, "fleet", "two"), "utf8")).toBe("v1")
})

test("a deployment that failed after it had done its part is taken back, though nothing else was done", async () => {
  await writeFile(join(folder, "fleet", "half"), "v2")
  const scene = play()
  const card = await approved(scene, "half")
  const failed = await cardSays(scene, card, /half is NOT back/)
  expect(wordsOf(failed)).toContain("✗ Deploy by halves: failed · deployed v2 → v1")
  await scene.presses("alice", failed, "undo")
  const undo = await scene.waitingCard()
  await scene.presses("bob", undo, "approve")
  await cardSays(scene, undo, /Undone on half/)
  expect(await readFile(join(folder, "fleet", "half"), "utf8")).toBe("v2")
})

test("output that is too long for a reply is cut there and goes along whole, as a file", async () => {
  const scene = play()
  const card = await approved(scene, "shout")
  const shown = await reply(card, "Build it")
  expect(wordsOf(shown)).not.toContain("2000")
  const withFile = await stage.slack.waitFor(
    () => stage.slack.replies("staging", card.ts).find((one) => (one.files ?? []).length > 0),
    { what: "the file", timeoutMs: 40_000 },
  )
  const output = stage.slack.fileText(String(withFile.files?.[0]?.["id"]))
  for (const line of ["1000", "2000", "3000"]) expect(output).toContain(line)
})

test("what was done by hand is recorded, and gets its number and its analysis", async () => {
  const scene = play()
  await scene.types("carol", "record shop set the engine by psql <!channel>")
  const analysis = await scene.sees("staging", "its analysis", ({ text }) =>
    /^Post-rollback analysis · R-\d+ · shop.*done by hand: set the engine by psql/s.test(text),
  )
  expect(analysis.text).not.toContain("<!channel>")
  expect(hasButton(analysis, "fill_analysis")).toBe(true)
})

test("what a run keeps is removed when its time is over, by a worker that says so; undo is withdrawn then", async () => {
  await refill()
  const scene = play()
  const card = await approved(scene, "shop")
  await cardSays(scene, card, /shop is back/)
  expect(await count("stepback_ledger.archives")).toBeGreaterThan(0)
  const state = new pg.Client({ connectionString: stage.environment["DATABASE_URL"] })
  await state.connect()
  await state.query("update stepback.rollbacks set ended_at = now() - interval '31 days' where number = $1", [
    numberOf(card).slice(2),
  ])
  await state.end()
  // A worker looks when it begins, and every ten minutes.
  await worker.stop()
  worker = await stage.start({ STEPBACK_ROLE: "worker" })
  await reply(card, "What this run kept (401 rows) was removed after 30 days: it cannot be taken back any more")
  expect([await count("stepback_ledger.archives"), await count("stepback_ledger.before_images")]).toEqual([0, 0])
  await scene.types("alice", `undo ${numberOf(card)}`)
  await scene.sees("staging", "the undo's card", (message) => message.text.includes("withdrawn"))
})

test("a state database made anew: R-1 again, and the ledger of the first R-1 is not taken for it", async () => {
  await refill()
  const url = await stage.postgres.createDatabase("state_anew")
  await worker.stop()
  await stage.start({ DATABASE_URL: url })
  const scene = play()
  const card = await approved(scene, "shop")
  expect(numberOf(card)).toBe("R-1")
  await cardSays(scene, card, /shop is back/)
  expect(await count("quotes where kind = 'bad'")).toBe(0)
  const ended = await cardSays(scene, card, /shop is back/)
  await scene.presses("alice", ended, "undo")
  const undo = await scene.waitingCard()
  expect(wordsOf(undo)).toContain("400 rows of quotes given back")
  await scene.presses("bob", undo, "approve")
  await cardSays(scene, undo, /Undone on shop/)
  expect(await count("quotes where kind = 'bad'")).toBe(400)
})
