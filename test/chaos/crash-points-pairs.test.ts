import { afterAll, beforeAll, expect, it } from "vitest"
import { startPostgres, unsynced, type Postgres } from "../../playground/postgres.ts"
import { violationsOf } from "./crash-points-checks.ts"
import { tryDeaths, type Trial } from "./crash-points-lab.ts"
import { startWorld, type World } from "./crash-points-world.ts"

/**
 * STORM=1: each point and each ordered pair of points; else a spread of both. STORM_FROM and STORM_TO narrow the first
 * points; CRASH_AT=12,34 tries one pair again.
 */
const storm = process.env["STORM"] === "1"
const again = process.env["CRASH_AT"]?.split(",").map(Number)
const laneCount = storm ? 6 : 3
/** Primes, so that a sample meets boundaries of all kinds. */
const every = storm ? { point: 1, pair: 1 } : { point: 11, pair: 83 }
const minute = 60_000

let postgres: Postgres
let worlds: World[]

beforeAll(async () => {
  postgres = await startPostgres({ flags: [...unsynced, "-c", "max_connections=400"] })
  worlds = await Promise.all(Array.from({ length: laneCount }, () => startWorld(postgres)))
  // The first run on a target makes its archive tables.
  await Promise.all(worlds.map((world) => tryDeaths(world, [])))
})
afterAll(async () => {
  await Promise.all(worlds.map((world) => world.stop()))
  await postgres.stop()
})

/** All of these, side by side, each in a world that nobody else uses at that time. */
async function tryAll(all: number[][], heard: (deaths: number[], trial: Trial) => void): Promise<string[]> {
  const wrong: string[] = []
  const left = all.values()
  await Promise.all(
    worlds.map(async (_, n) => {
      for (const deaths of left) {
        const world = worlds[n] as World
        try {
          const trial = await tryDeaths(world, deaths)
          wrong.push(...(await violationsOf(world, trial)).map((text) => `${deaths.join(",")}: ${text}`))
          heard(deaths, trial)
        } catch (error) {
          wrong.push(`${deaths.join(",")}: ${String(error)}`)
          // What lies in this world's way is left there. On a busy machine a connection may come too late: once more.
          await world.stop()
          worlds[n] = await startWorld(postgres).catch(() => startWorld(postgres))
        }
      }
    }),
  )
  return wrong
}

const numbers = (to: number) => Array.from({ length: to }, (_, n) => n + 1)

it(
  "a worker that dies at any point, and its heir that dies at any other, cost no effect and no word, and double none",
  { timeout: storm ? 120 * minute : 5 * minute },
  async () => {
    if (again) return expect(await tryAll([again], (_, trial) => console.log(trial.diedAt))).toEqual([])
    const started = performance.now()
    const dry = await tryDeaths(worlds[0] as World, [])
    expect(await violationsOf(worlds[0] as World, dry)).toEqual([])
    const points = dry.lives[0]?.length ?? 0
    // The heir's boundaries are counted by what it does when only the first dies.
    const heirs = new Map<number, number>()
    const from = Number(process.env["STORM_FROM"] ?? 1)
    const to = Number(process.env["STORM_TO"] ?? points)
    const singles = numbers(points).filter((at) => at % every.point === 0 && at >= from && at <= to)
    const wrong = await tryAll(
      singles.map((at) => [at]),
      ([at = 0], trial) => heirs.set(at, trial.lives[1]?.length ?? 0),
    )
    const pairs = [...heirs]
      .toSorted(([a], [b]) => a - b)
      .flatMap(([at, most]) => numbers(most).map((then) => [at, then]))
      .filter((_, n) => n % every.pair === 0)
    let both = 0
    let decided = 0
    let tried = 0
    wrong.push(
      ...(await tryAll(pairs, (_, trial) => {
        if (trial.diedAt.length === 2) both++
        if (trial.decided.length > 0) decided++
        if (++tried % 500 === 0) console.log(`${tried} of ${pairs.length} pairs`)
      })),
    )
    const seconds = Math.round((performance.now() - started) / 1_000)
    console.log(
      `crash points: a run has ${points}; ${singles.length} tried alone and ${pairs.length} pairs (in ${both} both died, in ${decided} a person decided), ${wrong.length} violations, ${seconds} s`,
    )
    expect(wrong).toEqual([])
    expect(both).toBeGreaterThan(0)
  },
)
