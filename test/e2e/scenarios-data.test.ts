import { afterEach, expect, test } from "vitest"
import { playScenario, scenarios, writePlans } from "../../playground/scenarios.ts"
import type { Scenario } from "../../playground/scenarios/scenario.ts"
import { startStage, type Stage } from "../../playground/stage.ts"

const open: { stage: Stage; plans: Awaited<ReturnType<typeof writePlans>> }[] = []

afterEach(async () => {
  for (const { stage, plans } of open.splice(0)) {
    await stage.stop()
    await plans?.remove()
  }
})

/** Plays one after the other on a stage with the plan as the first wants it, and gives what did not hold. */
async function play(names: string[]): Promise<Record<string, string[]>> {
  const [first] = names
  const plans = await writePlans(scenarios[first ?? ""] as Scenario)
  const stage = await startStage({ mode: "http", queue: "redis", ...(plans ? { plans: plans.folder } : {}) })
  open.push({ stage, plans })
  await stage.start()
  const failed: Record<string, string[]> = {}
  for (const name of names) {
    const facts = await playScenario(scenarios[name] as Scenario, stage, () => undefined)
    expect(facts.length).toBeGreaterThan(0)
    failed[name] = facts.filter((fact) => !fact.holds).map((fact) => fact.what)
  }
  return failed
}

// A stage each: a channel takes about a message a second after a burst, and these two have much to say.
test.each(["full", "data-inconsistent"])("%s", async (name) => {
  expect(await play([name])).toEqual({ [name]: [] })
})

// The second wants a world that nobody has aligned yet, whatever version it is on.
test("functions that slow down after the rollback, then a conflict in the configuration", async () => {
  expect(await play(["slow-after-rollback", "config-conflict"])).toEqual({
    "slow-after-rollback": [],
    "config-conflict": [],
  })
})
