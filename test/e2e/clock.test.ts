import { afterAll, beforeAll, expect, test } from "vitest"
import { nameOf, startPlay } from "../../playground/scenarios/play.ts"
import { startStage, type Stage } from "../../playground/stage.ts"
import { startStepback, type StepbackProcess } from "../../playground/stepback-process.ts"

const preload = new URL("../../playground/faults/clock-preload.ts", import.meta.url).pathname

let stage: Stage
let stepback: StepbackProcess

beforeAll(async () => {
  stage = await startStage({ mode: "socket", queue: "postgres" })
  stepback = await startStepback(stage.environment, ["--import", preload])
})
afterAll(async () => {
  await stepback.stop()
  await stage.stop()
})

test("a process whose clock is put back by an hour hears people, and says what there is to say", async () => {
  const ready = async () => (await fetch(`http://127.0.0.1:${stepback.port}/readyz`)).json()
  await expect.poll(ready, { timeout: 20_000 }).toMatchObject({ degraded: false })
  const scene = startPlay(stage, () => undefined)
  await scene.types("bob", "status")
  await scene.types("alice", "staging the scores are off")
  const card = await scene.waitingCard()
  stepback.kill("SIGUSR2")
  await scene.presses("bob", card, "approve")
  await scene.sees("staging", "the analysis", ({ text }) => text.startsWith(`Post-rollback analysis · ${nameOf(card)}`))
  const ended = await scene.sees(
    "staging",
    "the card's end",
    ({ ts, text }) => ts === card.ts && /staging is back/.test(text),
  )
  expect(ended.text).not.toContain("waiting")
})
