import { afterAll, beforeAll, expect, it } from "vitest"
import { startCrashLane, type CrashLane, type CrashOutcome } from "../../playground/faults/crash-lane.ts"
import { effectsOfTheStagingPlan } from "../../playground/faults/effects.ts"
import { startPostgres, unsynced, type Postgres } from "../../playground/postgres.ts"
import { findRedis, startRedis, type Redis } from "../../playground/redis.ts"

/** STORM=1: each boundary of a run; else a few, spread. STORM_FROM and STORM_TO narrow it for a second look. */
const storm = process.env["STORM"] === "1"
const laneCount = storm ? 5 : 4
const sample = 6
const minute = 60_000

let postgres: Postgres
let redis: Redis | null
let lanes: CrashLane[]

beforeAll(async () => {
  ;[postgres, redis] = await Promise.all([
    startPostgres({ flags: unsynced }),
    findRedis() === null ? null : startRedis(),
  ])
  lanes = await Promise.all(Array.from({ length: laneCount }, (_, n) => startCrashLane(postgres, redis, n)))
})
afterAll(async () => {
  await Promise.all(lanes.map((lane) => lane.stop()))
  await Promise.all([postgres.stop(), redis?.stop()])
})

function pointsOf(boundaries: number): number[] {
  if (!storm) return Array.from({ length: sample }, (_, n) => 1 + Math.floor(((n + 0.5) * boundaries) / sample))
  const from = Number(process.env["STORM_FROM"] ?? 1)
  const to = Number(process.env["STORM_TO"] ?? boundaries)
  return Array.from({ length: Math.max(0, to - from + 1) }, (_, n) => from + n)
}

/** What is wrong with an outcome; empty when each effect and each message came once. */
function complaints(outcome: CrashOutcome, dry: CrashOutcome): string[] {
  const wrong: string[] = []
  const same = (what: string, seen: unknown, wanted: unknown) => {
    if (JSON.stringify(seen) !== JSON.stringify(wanted))
      wrong.push(`${what}: ${JSON.stringify(seen)}, expected ${JSON.stringify(wanted)}`)
  }
  const withoutId = (keys: string[]) =>
    keys.map((key) => key.slice(key.indexOf("/")).replace(/^\/audit\/\d+$/, "/audit")).sort()
  same("state", outcome.state, "succeeded")
  same("effects", outcome.effects, effectsOfTheStagingPlan)
  same("messages", withoutId(outcome.messageKeys), withoutId(dry.messageKeys))
  same("steps", outcome.steps.toSorted(), dry.steps.toSorted())
  same("version", outcome.world.resultsVersion, "v1.2.0")
  same(
    "deployed",
    Object.values(outcome.world.functions).map((served) => served.ref),
    ["v1.2.0", "v1.2.0", "v1.1"],
  )
  for (const [step, before] of Object.entries(outcome.deployedBefore))
    same(`${step} goes back to`, before, outcome.badCommit)
  return wrong.map((text) => `${outcome.at} (${outcome.boundary ?? "not reached"}): ${text}`)
}

function figures(outcomes: CrashOutcome[]): string {
  const spread = (times: (number | null)[]) => {
    const sorted = times.filter((time) => time !== null).toSorted((a, b) => a - b)
    const at = (share: number) =>
      ((sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0) / 1000).toFixed(1)
    return `median ${at(0.5)} s, 95 % ${at(0.95)} s, most ${at(1)} s`
  }
  const killed = outcomes.filter((outcome) => outcome.boundary !== null && outcome.takeoverMs !== null)
  // Killed after the approval, when nobody is waited for any more.
  const midRun = killed.filter((outcome) => outcome.boundaries > 40 && (outcome.takeoverMs ?? 0) > 0)
  return [
    `${killed.length} workers killed at ${new Set(killed.map((outcome) => outcome.boundary)).size} kinds of boundaries`,
    `from the kill to the end of the run: ${spread(midRun.map((outcome) => outcome.takeoverMs))}`,
    `to the last message: ${spread(midRun.map((outcome) => outcome.caughtUpMs))}`,
  ].join("; ")
}

it(
  "a worker killed before or after any commit or outside call costs time, no effect and no message",
  async () => {
    const [first] = lanes
    const dry = await (first as CrashLane).run(0)
    expect(complaints(dry, dry)).toEqual([])
    const points = pointsOf(dry.boundaries)
    const outcomes: CrashOutcome[] = []
    const wrong: string[] = []
    await Promise.all(
      lanes.map(async (lane) => {
        for (let at = points.shift(); at !== undefined; at = points.shift()) {
          const outcome = await lane.run(at).catch((error: unknown) => String(error))
          if (typeof outcome === "string") {
            // What lies in this lane's way is left there for the next to stumble over.
            wrong.push(outcome)
            return
          }
          outcomes.push(outcome)
          wrong.push(...complaints(outcome, dry))
        }
      }),
    )
    console.log(`crash points: a run has ${dry.boundaries} boundaries; ${figures(outcomes)}`)
    expect(wrong).toEqual([])
  },
  storm ? 120 * minute : 5 * minute,
)
