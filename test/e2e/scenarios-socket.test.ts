import { afterAll, beforeAll, expect, test } from "vitest"
import { playScenario, scenarios } from "../../playground/scenarios.ts"
import type { Scenario } from "../../playground/scenarios/scenario.ts"
import { startStage, type Stage } from "../../playground/stage.ts"
import type { StepbackProcess } from "../../playground/stepback-process.ts"

let stage: Stage
let running: StepbackProcess

beforeAll(async () => {
  stage = await startStage({ mode: "socket", queue: "postgres" })
  running = await stage.start()
})
afterAll(() => stage.stop())

const readiness = async () => (await fetch(`http://127.0.0.1:${running.port}/readyz`)).json()

test("the process is ready when its socket is connected", async () => {
  await expect.poll(readiness, { timeout: 20_000 }).toMatchObject({ ready: true, degraded: false })
})

// The first leaves the configuration at the bad version, the last takes it back.
test.each(["denied", "happy"])("in Socket Mode, without Redis: %s", async (name) => {
  const facts = await playScenario(scenarios[name] as Scenario, stage, () => undefined)
  expect(facts.filter((fact) => !fact.holds)).toEqual([])
  expect(stage.redis).toBeNull()
})

test("Slack may ask the socket to connect anew", async () => {
  stage.slack.refreshSockets("refresh_requested")
  const taken = await stage.slack.waitFor(
    () => stage.slack.calls.filter((call) => call.method === "apps.connections.open").length >= 2,
    { what: "a second connection" },
  )
  expect(taken).toBe(true)
  await expect
    .poll(async () => (await stage.slack.command({ user: "carol", channel: "staging", text: "help" })).ok, {
      timeout: 20_000,
    })
    .toBe(true)
  await stage.slack.waitFor(() => stage.slack.ephemerals("carol").length > 0, { what: "the help" })
})

test("a token that Slack refuses when the socket connects anew ends nothing: it is tried again", async () => {
  const refused = (line: Record<string, unknown>) => /could not be connected/.test(String(line["msg"]))
  const told = running.logged(refused)
  stage.slack.faults.set({ kind: "error", error: "invalid_auth", methods: ["apps.connections.open"] })
  stage.slack.refreshSockets("refresh_requested")
  await told
  expect(await readiness()).toMatchObject({
    ready: true,
    degraded: true,
    reasons: [expect.stringContaining("socket to Slack is not connected")],
  })
  stage.slack.faults.clear()
  const before = stage.slack.ephemerals("carol").length
  await expect
    .poll(async () => (await stage.slack.command({ user: "carol", channel: "staging", text: "help" })).ok, {
      timeout: 40_000,
      interval: 500,
    })
    .toBe(true)
  await stage.slack.waitFor(() => stage.slack.ephemerals("carol").length > before, { what: "the help" })
  expect(await readiness()).toMatchObject({ ready: true, degraded: false })
})

test("a Slack that takes the question for a new socket and says nothing keeps nobody out: it is asked again", async () => {
  const opened = () => stage.slack.calls.filter(({ method }) => method === "apps.connections.open").length
  const before = opened()
  stage.slack.faults.set({ kind: "hang", methods: ["apps.connections.open"], times: 1 })
  stage.slack.refreshSockets("refresh_requested")
  await expect.poll(opened, { timeout: 20_000 }).toBeGreaterThan(before)
  await expect.poll(readiness, { timeout: 30_000, interval: 500 }).toMatchObject({ ready: true, degraded: false })
  expect((await stage.slack.command({ user: "carol", channel: "staging", text: "help" })).ok).toBe(true)
})

test("functions-still-failing", async () => {
  const facts = await playScenario(scenarios["functions-still-failing"] as Scenario, stage, () => undefined)
  expect(facts.filter((fact) => !fact.holds)).toEqual([])
})
