import fc from "fast-check"
import { afterAll, beforeAll, expect, it } from "vitest"
import { commandArbitraries, scenes } from "./model-commands.ts"
import { Model } from "./model-state.ts"
import { environmentNames, startModelWorld, type World } from "./model-world.ts"

/** MODEL_SEED, MODEL_PATH and MODEL_REPLAY, as a failure prints them, play it again. */
const { MODEL_SEED: seed, MODEL_PATH: path, MODEL_REPLAY: replayPath } = process.env
const runs = process.env["STORM"] === "1" ? 1_500 : 25
const timeLimit = process.env["STORM"] === "1" ? 50 * 60_000 : 120_000

let world: World

beforeAll(async () => {
  world = await startModelWorld()
})
afterAll(() => world.stop())

it(
  "whatever people press and whoever dies, in any order: one at a time, never without its approvals, nothing after Stop",
  async () => {
    const played = { sequences: 0, commands: 0 }
    const ends: Record<string, number> = {}
    const commands = fc.commands(commandArbitraries, {
      maxCommands: 60,
      size: "max",
      ...(replayPath ? { replayPath } : {}),
    })
    const begun = fc.constantFrom(...Object.keys(scenes))
    await fc.assert(
      fc.asyncProperty(begun, fc.constantFrom(...environmentNames), commands, async (scene, environment, commands) => {
        await world.reset()
        const model = new Model(world)
        await fc.asyncModelRun(() => ({ model, real: world }), [...(scenes[scene]?.(environment) ?? []), ...commands])
        played.sequences++
        played.commands += model.played
        for (const { state } of model.rows) ends[state] = (ends[state] ?? 0) + 1
      }),
      // On a machine that is too busy there are fewer.
      {
        numRuns: runs,
        interruptAfterTimeLimit: timeLimit,
        // What is left over from a failure would be told as that of a smaller sequence.
        endOnFailure: true,
        ...(seed ? { seed: Number(seed) } : {}),
        ...(path ? { path } : {}),
      },
    )
    expect(await world.store.audit.verify()).toMatchObject({ intact: true })
    console.log(`model: ${JSON.stringify(played)}; where rollbacks stood at the end: ${JSON.stringify(ends)}`)
  },
  process.env["STORM"] === "1" ? 60 * 60_000 : 5 * 60_000,
)
