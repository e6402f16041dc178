import { median, spread, type Line, type Table } from "./figures.ts"
import { lightPlan, lightSchema, refill, startEcho } from "./light-plan.ts"
import { startRig, type Rig } from "./rig.ts"

const environments = 20
const rounds = 3
const warmUps = 1

/** Twenty environments, approved at once: rollbacks of eight light steps a second, from the first approval to the last end. */
export async function benchThroughput(): Promise<Table> {
  const lines: Line[] = []
  for (const workers of [1, 2]) {
    const { rates, times } = await measure(workers)
    const name = workers === 1 ? "one worker process" : "two worker processes"
    lines.push({ what: name, ours: `${median(rates).toFixed(1)} rollbacks/s`, plain: "", required: "", holds: null })
    lines.push({ what: "  approval to end", ours: spread(times), plain: "", required: "", holds: null })
  }
  return {
    title: `throughput: ${environments} environments at once, eight light steps each, median of ${rounds} rounds`,
    plainName: "",
    lines,
    notes: ["One process takes the clicks and sends the messages; the workers are processes of their own."],
  }
}

async function measure(workers: number): Promise<{ rates: number[]; times: number[] }> {
  const echo = await startEcho()
  const names = Array.from({ length: environments }, (_, n) => `many${n + 1}`)
  const rig = await startRig({
    environments: names,
    schema: lightSchema,
    plan: lightPlan,
    variables: { BENCH_URL: echo.url },
  })
  try {
    for (let n = 0; n < workers; n++) await rig.startProcess({ STEPBACK_ROLE: "worker", WORKER_CONCURRENCY: "20" })
    await rig.startProcess({ STEPBACK_ROLE: "bot" })
    const rates: number[] = []
    const times: number[] = []
    for (let round = 0; round < rounds + warmUps; round++) {
      const taken = await oneRound(rig)
      if (round < warmUps) continue
      const span = Math.max(...taken.map(({ ended }) => ended)) - Math.min(...taken.map(({ approved }) => approved))
      rates.push((environments / span) * 1000)
      times.push(...taken.map(({ approved, ended }) => ended - approved))
    }
    return { rates, times }
  } finally {
    await rig.stop()
    await echo.stop()
  }
}

async function oneRound(rig: Rig): Promise<{ approved: number; ended: number }[]> {
  await Promise.all(rig.environments.map((environment) => rig.target(environment).query(refill)))
  const prepared = await Promise.all(rig.environments.map((environment) => rig.prepare(environment, { settled: true })))
  await Promise.all(prepared.map((each) => rig.approve(each)))
  await Promise.all(prepared.map((each) => rig.ended(each)))
  const times = await Promise.all(prepared.map((each) => rig.times(each)))
  await Promise.all(prepared.map((each) => rig.delivered(each)))
  return times
}
