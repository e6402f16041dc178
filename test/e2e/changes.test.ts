import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import pg from "pg"
import { afterAll, beforeAll, expect, test } from "vitest"
import { hasButton, startPlay, valueOf, wordsOf, type Play } from "../../playground/scenarios/play.ts"
import { startStage, type Stage } from "../../playground/stage.ts"

let stage: Stage
let plans: string
let state: pg.Pool
const play = (): Play => startPlay(stage, () => undefined)

const other = `version: 1
environment: other
title: Another environment
target: { http: "\${STAGING_URL}" }
approve:
  low: { count: 1, from: anyone }
  medium: { count: 1, from: anyone }
  high: { count: 1, from: anyone }
  expires: 2s
components:
  functions:
    risk: low
    steps:
      - id: prism-serves
        http: { path: /functions/v1/score_prism }
        expect: { status: 200 }
`

beforeAll(async () => {
  plans = await mkdtemp(join(tmpdir(), "stepback-plans-"))
  await cp(new URL("../../plans", import.meta.url), plans, { recursive: true })
  await writeFile(join(plans, "other.yaml"), other)
  stage = await startStage({ mode: "http", queue: "redis", plans })
  state = new pg.Pool({ connectionString: stage.environment["DATABASE_URL"], max: 2 })
  await stage.start()
})
afterAll(async () => {
  await state.end()
  await stage.stop()
  await rm(plans, { recursive: true, force: true })
})

test("a plan edited between card and click: nothing runs, what moved is told, the fresh card can be approved", async () => {
  const scene = play()
  await scene.types("alice", "staging --only db-config going back")
  const card = await scene.waitingCard()
  const token = valueOf(card, "approve")
  const file = join(plans, "staging.yaml")
  const source = await readFile(file, "utf8")
  await writeFile(
    file,
    source.replace("default: v1.2.0, description: The version", "default: v1.1.9, description: The version"),
  )
  await scene.presses("bob", card, "approve")
  expect((await scene.isTold("bob", "It has changed")).text).toContain("parameter good: v1.2.0 → v1.1.9")
  const fresh = await scene.sees(
    "staging",
    "a fresh card",
    (message) => hasButton(message, "approve") && valueOf(message, "approve") !== token,
  )
  expect(wordsOf(fresh)).toMatch(/"v1\.2\.1" → "v1\.1\.9"/)
  expect(wordsOf(fresh)).toContain("Changed since the earlier card")
  expect((await stage.world.state()).resultsVersion).toBe("v1.2.1")
  expect((await state.query("select 1 from stepback.approvals")).rowCount).toBe(0)

  // The card of before, from a client that still shows it.
  const forge = { action_id: "approve", value: token }
  await stage.slack.click({ user: "carol", channel: "staging", ts: card.ts, action: "approve", forge })
  await scene.isTold("carol", "out of date")
  await scene.presses("bob", fresh, "approve")
  await scene.analysisOf(fresh)
  expect((await stage.world.state()).resultsVersion).toBe("v1.1.9")
  await writeFile(file, source)
})

test("a comment that is edited moves nothing", async () => {
  const scene = play()
  await scene.types("alice", "staging --only db-config and on to the right one")
  const card = await scene.waitingCard()
  const file = join(plans, "staging.yaml")
  await writeFile(file, `# Only a remark.\n${await readFile(file, "utf8")}`)
  await scene.presses("bob", card, "approve")
  await scene.analysisOf(card)
  expect((await stage.world.state()).resultsVersion).toBe("v1.2.0")
})

test("a second request meanwhile is answered with a link to the first; cancelling frees the environment", async () => {
  const scene = play()
  await scene.types("alice", "staging --only db-config first")
  const card = await scene.waitingCard()
  await scene.types("bob", "staging second")
  const told = await scene.isTold("bob", "already has a rollback")
  expect(told.text).toMatch(new RegExp(`<http[^|>]*${card.ts.replace(".", "")}[^|>]*\\|R-3>`))
  await scene.types("carol", "cancel R-3")
  await scene.isTold("carol", "R-3 is cancelled")
  const ended = await scene.sees(
    "staging",
    "the end",
    (message) => message.ts === card.ts && /cancelled/.test(message.text),
  )
  expect(hasButton(ended, "approve")).toBe(false)
  expect(ended.text).toContain("Nothing was changed")
  const again = play()
  await again.types("bob", "staging --only db-config third")
  expect((await again.waitingCard()).text).toContain("R-4")
})

test("a note that somebody takes is among the issues of the analysis", async () => {
  const card = stage.slack.messages("staging").find((message) => hasButton(message, "approve"))
  const scene = play()
  await scene.types("carol", "note R-4 customers saw <empty> profiles & called")
  await scene.isTold("carol", "Noted for the analysis of R-4")
  const asked = card ?? (await scene.waitingCard())
  await scene.presses("alice", asked, "approve")
  const analysis = await scene.analysisOf(asked)
  expect(JSON.stringify(analysis.blocks)).toContain("customers saw <empty> profiles & called")
  await scene.types("carol", "note R-4 and one of them wrote a letter")
  await scene.sees(
    "staging",
    "the later note",
    (message) => message.ts === analysis.ts && /wrote a letter/.test(message.text),
  )
})

test("a request that nobody approves expires, and Ask again makes a new one", async () => {
  const scene = play()
  await scene.types("alice", "other for a moment")
  const card = await scene.waitingCard()
  const value = valueOf(card, "approve")
  const expired = await scene.sees(
    "staging",
    "the expiry",
    (message) => message.ts === card.ts && hasButton(message, "ask_again"),
  )
  expect(expired.text).toMatch(/expired.*nobody approved it/)
  await press("bob", value, card.ts)
  await scene.isTold("bob", "expired")
  const again = play()
  await again.presses("carol", expired, "ask_again")
  const fresh = await again.waitingCard()
  expect(wordsOf(fresh)).toContain("for a moment")
  await again.presses("carol", fresh, "approve")
  await again.isTold("carol", "another person has to approve")
  await again.presses("alice", fresh, "approve")
  await again.analysisOf(fresh)
})

test("a rehearsal only looks: facts, no buttons, no number", async () => {
  const scene = play()
  await scene.types("alice", "rehearse staging")
  const card = await scene.sees("staging", "the rehearsal", (message) => message.text.includes("Only a look"))
  expect(hasButton(card, "approve")).toBe(false)
  expect(card.text).not.toMatch(/R-\d/)
})

function press(user: string, value: string, ts: string) {
  const forge = { action_id: "approve", value }
  return stage.slack.click({ user, channel: "staging", ts, action: "approve", forge })
}

test("a value that somebody set between card and run is named", async () => {
  const scene = play()
  const world = new pg.Client({ connectionString: stage.environment["STAGING_DATABASE_URL"] })
  await world.connect()
  const set = (value: string) =>
    world.query("update scoring_config set value = to_jsonb($1::text) where key = 'results_version'", [value])
  await set("v6")
  await scene.types("alice", "staging --only db-config it is off once more")
  const card = await scene.waitingCard()
  await set("v7")
  await scene.presses("bob", card, "approve")
  const analysis = await scene.analysisOf(card)
  expect(wordsOf(analysis)).toMatch(
    /scoring_config\.results_version\.value was "?v7"? when it was set, where the card had "?v6"?/,
  )
  await world.end()
})
