import type { AckLoad, AckTimes } from "./ack-load.ts"
import { startChild } from "./child.ts"
import { ms, quantile, spread, type Line, type Table } from "./figures.ts"
import { lightSchema, onePlan } from "./light-plan.ts"
import { startRig } from "./rig.ts"

const requests = 1_000
const atOnce = 50
/** Enough that nobody meets the limit on one person. */
const people = 200
const requiredMs = 50

/** Signed commands and clicks to the real process, and to a bare app that does nothing but ack, in turns. */
export async function benchAck(): Promise<Table> {
  const rig = await startRig({ environments: ["bench"], schema: lightSchema, plan: onePlan })
  const { slack } = rig.stage
  const bare = startChild("./bare-bolt.ts", { BENCH_SIGNING_SECRET: slack.signingSecret })
  const generator = startChild("./ack-load.ts")
  try {
    const { url } = await bare.next<{ url: string }>()
    const stepback = await rig.startProcess()
    const users = Array.from({ length: people }, (_, n) => slack.addUser({ name: `clicker-${n}` }).id)
    const load = {
      signingSecret: slack.signingSecret,
      users,
      channel: "C0STAGING",
      teamId: "T0LOCAL",
      requests,
      atOnce,
    }
    const addresses = { ours: `http://127.0.0.1:${stepback.port}/slack/events`, bare: url }
    const send = (to: "ours" | "bare", many = requests) =>
      generator.ask<AckTimes>({ ...load, url: addresses[to], requests: many } satisfies AckLoad)
    // The first requests meet cold code.
    await send("bare", 300)
    await send("ours", 300)
    const seen = { ours: [] as AckTimes[], bare: [] as AckTimes[] }
    for (const to of ["bare", "ours", "bare", "ours"] as const) seen[to].push(await send(to))
    return draw(seen)
  } finally {
    await bare.stop()
    await generator.stop()
    await rig.stop()
  }
}

function draw(seen: { ours: AckTimes[]; bare: AckTimes[] }): Table {
  const line = (what: string, pick: (times: AckTimes) => number[]): Line => {
    const ours = seen.ours.flatMap(pick)
    return {
      what,
      ours: spread(ours),
      plain: spread(seen.bare.flatMap(pick)),
      required: `p99 < ${requiredMs} ms`,
      holds: quantile(ours, 0.99) < requiredMs,
    }
  }
  const rate = (runs: AckTimes[]) =>
    `${Math.round((requests * runs.length) / runs.reduce((sum, run) => sum + run.seconds, 0))}/s`
  return {
    title: `ack: signed requests to the real process, bursts of ${atOnce} at once, twice ${requests} in turns`,
    plainName: "bare Bolt app",
    lines: [
      line("slash commands", (times) => times.command),
      line("clicks", (times) => times.click),
      { what: "requests acked", ours: rate(seen.ours), plain: rate(seen.bare), required: "", holds: null },
      {
        what: "slowest",
        ours: ms(Math.max(...seen.ours.flatMap((run) => [...run.command, ...run.click]))),
        plain: ms(Math.max(...seen.bare.flatMap((run) => [...run.command, ...run.click]))),
        required: "",
        holds: null,
      },
    ],
    notes: [
      "Stepback does its work after each ack (looks people up, reads its state, answers); the bare app does none.",
    ],
  }
}
