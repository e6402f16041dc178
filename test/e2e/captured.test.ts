import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import pg from "pg"
import { afterAll, beforeAll, expect, test } from "vitest"
import { hasButton, startPlay } from "../../playground/scenarios/play.ts"
import { startStage, type Stage } from "../../playground/stage.ts"

const plan = `version: 1
environment: shop
title: A shop
target: { postgres: "\${STAGING_DATABASE_URL}" }
redact: [pin]
approve: { low: { count: 1, from: anyone }, medium: { count: 1, from: anyone }, high: { count: 1, from: anyone } }
components:
  all:
    risk: low
    steps:
      - { id: pin, check: "select pin as code from pins", capture: { c: code }, expect: { rows: 1 } }
      - { id: told, title: Told, command: [echo, "got $c"], effect: keyed, undo: [echo, "back $c"] }
      - { id: off, title: Off, command: [echo, "not $c"], effect: none, expect: { stdout: /^never/ } }
`
const secret = "4711-hush"
let stage: Stage
let plans: string

beforeAll(async () => {
  plans = await mkdtemp(join(tmpdir(), "stepback-plans-"))
  await writeFile(join(plans, "shop.yaml"), plan)
  stage = await startStage({ mode: "http", queue: "redis", plans })
  const world = new pg.Client({ connectionString: stage.environment["STAGING_DATABASE_URL"] })
  await world.connect()
  await world.query(`create table pins (pin text); insert into pins values ('${secret}')`)
  await world.end()
  await stage.start()
})
afterAll(async () => {
  await stage.stop()
  await rm(plans, { recursive: true, force: true })
})

test("what was captured from a redacted column is shown by no step, no call and no undo", async () => {
  const scene = startPlay(stage, () => undefined)
  await scene.types("alice", "shop prices are off")
  const card = await scene.waitingCard()
  await scene.presses("bob", card, "approve")
  const analysis = await scene.analysisOf(card)
  expect(analysis.text).toContain("Off")
  const told = stage.slack.replies("staging", card.ts).find(({ text }) => text.includes("Told"))
  expect(told?.text).toContain("got •••")

  await scene.types("alice", "undo R-1")
  const undo = await scene.sees("staging", "the undo", ({ ts, ...message }) => {
    return ts > card.ts && hasButton({ ts, ...message }, "approve")
  })
  await scene.presses("alice", undo, "details")
  await stage.slack.waitFor(() => stage.slack.openViews("alice").at(-1), { what: "Details" })
  await scene.presses("bob", undo, "approve")
  await scene.analysisOf(undo)
  const reply = stage.slack.replies("staging", undo.ts).find(({ text }) => text.includes("Undo: Told"))
  expect(reply?.text).toContain("back •••")
  const everything = [stage.slack.transcript(), JSON.stringify(stage.slack.openViews("alice"))].join("\n")
  expect(everything).toContain("back")
  expect(everything).not.toContain(secret)
})
