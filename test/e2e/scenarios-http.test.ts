import { afterAll, beforeAll, expect, test } from "vitest"
import { playScenario, scenarios } from "../../playground/scenarios.ts"
import type { Scenario } from "../../playground/scenarios/scenario.ts"
import { startStage, type Stage } from "../../playground/stage.ts"

let stage: Stage

beforeAll(async () => {
  stage = await startStage({ mode: "http", queue: "redis" })
  await stage.start()
})
afterAll(() => stage.stop())

// In this order: those that leave staging at the bad version come first.
test.each(["denied", "sql-fails", "happy"])("over HTTP, with Redis: %s", async (name) => {
  const facts = await playScenario(scenarios[name] as Scenario, stage, () => undefined)
  expect(facts.filter((fact) => !fact.holds)).toEqual([])
})

test("rollbacks are numbered without gaps and each end frees the environment", async () => {
  await stage.slack.command({ user: "carol", channel: "staging", text: "history staging" })
  const { text } = await stage.slack.waitFor(() => stage.slack.ephemerals("carol").at(-1), { what: "the history" })
  expect(text.match(/R-\d+/g)).toEqual(["R-3", "R-2", "R-1"])
  expect(text).toMatch(/R-3 .*done[\s\S]*R-2 .*failed[\s\S]*R-1 .*denied/)
})
