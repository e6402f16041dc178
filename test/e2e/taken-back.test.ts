import pg from "pg"
import { afterAll, beforeAll, expect, test } from "vitest"
import { hasButton, isAnalysisOf, nameOf, startPlay, type Play } from "../../playground/scenarios/play.ts"
import type { Message } from "../../playground/slack/local-slack.ts"
import { startStage, type Stage } from "../../playground/stage.ts"

let stage: Stage

beforeAll(async () => {
  stage = await startStage({ mode: "http", queue: "redis" })
  await stage.start()
})
afterAll(() => stage.stop())

/** The newest card of the channel, approved by the other one and done. */
async function done(scene: Play, number: number): Promise<Message> {
  const card = await scene.sees("staging", `the card of R-${number}`, (message) => {
    return nameOf(message) === `R-${number}` && hasButton(message, "approve")
  })
  await scene.presses("bob", card, "approve")
  await scene.analysisOf(card)
  return card
}

const standing = (scene: Play, { ts }: Message, says: RegExp): Promise<Message> =>
  scene.sees("staging", String(says), (message) => message.ts === ts && says.test(message.text))

const analysisSays = (scene: Play, card: Message, says: RegExp): Promise<Message> =>
  scene.sees("staging", String(says), (message) => isAnalysisOf(card, message) && says.test(message.text))

test("a rollback's card says that it was taken back, and that it stands again when that was taken back in turn", async () => {
  const scene = startPlay(stage, () => undefined)
  await scene.types("alice", "staging --only db-config scoring is off")
  const first = await done(scene, 1)
  await scene.presses("alice", await standing(scene, first, /^staging is back · R-1/), "undo")
  const second = await done(scene, 2)
  const undone = await standing(scene, first, /^staging was back · R-1\b.*\btaken back by R-2 at /s)
  expect([hasButton(undone, "undo"), hasButton(undone, "analysis")]).toEqual([false, true])
  await analysisSays(scene, first, /staging was back · taken back by R-2 at /)
  await scene.types("alice", "history staging")
  const told = await scene.isTold("alice", ", taken back by R-2 · ")
  expect(told.text).toMatch(/^R-1 · staging · done after .*, taken back by R-2 · /m)

  await scene.types("alice", "undo R-2")
  await done(scene, 3)
  await standing(scene, second, /^Undone on staging, and taken back · R-2\b.*\btaken back by R-3 at /s)
  const again = await standing(scene, first, /^staging is back · R-1/)
  expect(hasButton(again, "undo")).toBe(true)
  await analysisSays(scene, first, /staging is back · waiting/)
})

test("what an undo left as it was is not said to be taken back", async () => {
  const scene = startPlay(stage, () => undefined)
  await scene.types("alice", "staging --only db-config once more")
  const card = await done(scene, 4)
  const world = new pg.Client({ connectionString: stage.environment["STAGING_DATABASE_URL"] })
  await world.connect()
  await world.query("update scoring_config set value = '\"v9\"' where key = 'results_version'")
  await world.end()
  await scene.types("alice", "undo R-4")
  const undo = await done(scene, 5)
  await standing(scene, undo, /^Undone on staging · R-5/)
  const kept = await standing(scene, card, /^staging is back · R-4/)
  expect(hasButton(kept, "undo")).toBe(true)
})

test("a step that met nothing does not stand in the way of what others did", async () => {
  const scene = startPlay(stage, () => undefined)
  const world = new pg.Client({ connectionString: stage.environment["STAGING_DATABASE_URL"] })
  await world.connect()
  await world.query(`update scoring_config set value = '"v1.3.0"' where key = 'results_version'; delete from fc_scores`)
  await scene.types("alice", "staging --only db-config,data-cleanup --with data-cleanup bad rows")
  const card = await done(scene, 6)
  await scene.presses("alice", await standing(scene, card, /^staging is back · R-6/), "undo")
  const undo = await done(scene, 7)
  await standing(scene, undo, /^Undone on staging · R-7/)
  await standing(scene, card, /^staging was back · R-6\b.*\btaken back by R-7 at /s)
  const { rows } = await world.query("select value from scoring_config where key = 'results_version'")
  expect(rows).toEqual([{ value: "v1.3.0" }])
  await world.end()
})
