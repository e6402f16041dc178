import { cp, mkdtemp, rm, writeFile } from "node:fs/promises"
import { connect } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, expect, test } from "vitest"
import { hasButton, startPlay, wordsOf, type Play } from "../../playground/scenarios/play.ts"
import { startStage, type Stage } from "../../playground/stage.ts"
import type { StepbackProcess } from "../../playground/stepback-process.ts"

let stage: Stage
let plans: string
let worker: StepbackProcess
const play = (): Play => startPlay(stage, () => undefined)

/** Three steps, of which the middle one takes a while. */
const slow = (environment: string, seconds: number) => `version: 1
environment: ${environment}
title: A slow one
target: { http: "\${STAGING_URL}" }
approve:
  low: { count: 1, from: anyone }
  medium: { count: 1, from: anyone }
  high: { count: 1, from: anyone }
components:
  service:
    risk: low
    steps:
      - { id: before, title: Before, effect: keyed, command: [sleep, "0"] }
      - { id: meanwhile, title: Meanwhile, effect: keyed, command: [sleep, "${seconds}"] }
      - { id: after, title: After, effect: keyed, command: [sleep, "0"] }
`

beforeAll(async () => {
  plans = await mkdtemp(join(tmpdir(), "stepback-plans-"))
  await cp(new URL("../../plans/staging.yaml", import.meta.url), join(plans, "staging.yaml"))
  for (const [name, seconds] of [
    ["slow", 2],
    ["long", 8],
  ] as const)
    await writeFile(join(plans, `${name}.yaml`), slow(name, seconds))
  stage = await startStage({ mode: "http", queue: "redis", plans })
  await stage.start({ STEPBACK_ROLE: "bot" })
  worker = await stage.start({ STEPBACK_ROLE: "worker" })
})
afterAll(async () => {
  await stage.stop()
  await rm(plans, { recursive: true, force: true })
})

test("Stop while it runs: the step on its way ends, the next does not begin, the analysis follows", async () => {
  const scene = play()
  await scene.types("alice", "slow down")
  const card = await scene.waitingCard()
  await scene.presses("bob", card, "approve")
  const running = await scene.sees("staging", "the button Stop", (message) => hasButton(message, "stop"))
  await scene.presses("alice", running, "stop")
  const stopped = await scene.sees(
    "staging",
    "the end",
    (message) => message.ts === card.ts && /stopped/.test(message.text),
  )
  expect(stopped.text).toMatch(/stopped.*by <@U0ALICE>/s)
  expect(hasButton(stopped, "stop")).toBe(false)
  await scene.analysisOf(card)
  const titles = stage.slack.replies("staging", card.ts).map(wordsOf).join("\n")
  expect(titles).toContain("Before")
  expect(titles).not.toContain("After")
  // What a person stopped is no trouble to call anybody for.
  expect(stage.slack.messages("staging").filter((message) => message.text.includes("needs you"))).toEqual([])
})

test.each([
  ["a step that ends in time is finished first", "slow"],
  ["a step that does not is left to the next worker", "long"],
])(
  "SIGTERM during a run, %s: the worker ends in 10 s, another one goes on",
  { timeout: 90_000 },
  async (_, environment) => {
    const scene = play()
    await scene.types("alice", `${environment} down`)
    const card = await scene.waitingCard()
    await scene.presses("bob", card, "approve")
    await stage.slack.waitFor(() => stage.slack.replies("staging", card.ts).length >= 1, { what: "the first step" })
    // Half of a request, which the server waits for a while: the run does not go on meanwhile.
    const half = connect(worker.port, "127.0.0.1")
    half.on("error", () => undefined)
    await new Promise((resolve) => half.write("GET /healthz HTTP/1.1\r\nHost: x\r\n", resolve))
    worker.kill("SIGTERM")
    // The contract of a shutdown, not a measurement: whoever orchestrates kills after this.
    const late = new Promise((resolve) => setTimeout(resolve, 10_000, "later than 10 s").unref())
    expect(await Promise.race([worker.ended, late])).toBe(0)
    half.destroy()
    expect(stage.slack.replies("staging", card.ts).map(wordsOf).join("\n")).not.toContain("After")
    worker = await stage.start({ STEPBACK_ROLE: "worker" })
    await scene.analysisOf(card)
    const titles = stage.slack
      .replies("staging", card.ts)
      .flatMap((message) => /Before|Meanwhile|After/.exec(wordsOf(message))?.[0] ?? [])
    expect(titles).toEqual(["Before", "Meanwhile", "After"])
  },
)

test("a worker has health, readiness and figures of its own, and takes no requests of Slack's", async () => {
  const status = async (path: string, method = "GET") =>
    (await fetch(`http://127.0.0.1:${worker.port}${path}`, { method })).status
  expect([await status("/healthz"), await status("/readyz"), await status("/metrics")]).toEqual([200, 200, 200])
  expect(await status("/slack/events", "POST")).toBe(404)
})
