import { expect, it } from "vitest"
import { createLimit } from "../../../src/bot/limit.ts"
import { createTurns, TooManyWaitingError } from "../../../src/bot/turns.ts"

it("one person has a burst and then waits, others do not; time gives it back", () => {
  let now = 0
  const limit = createLimit(() => now)
  const waits = Array.from({ length: 150 }, () => limit("U0FLOOD"))
  expect(waits.filter((seconds) => seconds === 0)).toHaveLength(100)
  expect(limit("U0FLOOD")).toBeGreaterThan(0)
  expect(limit("U0CAROL")).toBe(0)
  now = 60_000
  expect(limit("U0FLOOD")).toBe(0)
})

it("so many people are remembered and no more: the oldest is forgotten", () => {
  const limit = createLimit(() => 0)
  for (let n = 0; n < 101; n++) limit("U0FLOOD")
  expect(limit("U0FLOOD")).toBeGreaterThan(0)
  for (let n = 0; n < 10_000; n++) limit(`U${n}`)
  expect(limit("U0FLOOD")).toBe(0)
})

it("so many requests wait for their turn and no more; those that wait get it", async () => {
  const inTurn = createTurns()
  let served = 0
  const outcomes = await Promise.allSettled(
    Array.from({ length: 6_000 }, () =>
      inTurn(async () => {
        served++
      }),
    ),
  )
  const dropped = outcomes.filter((outcome) => outcome.status === "rejected")
  expect({ served, dropped: dropped.length }).toEqual({ served: 5_000, dropped: 1_000 })
  expect(dropped[0]).toMatchObject({ reason: new TooManyWaitingError() })
})
