import { setTimeout as pause } from "node:timers/promises"
import { median, ms, quantile, spread, type Table } from "./figures.ts"
import { lightSchema, onePlan, refill } from "./light-plan.ts"
import { startRig } from "./rig.ts"

const rollbacks = 40
const warmUps = 5
const requiredMs = 20

/** From the commit of the approval to the commit of the first effect. */
export async function benchFirstEffect(): Promise<Table> {
  const rig = await startRig({ environments: ["first"], schema: lightSchema, plan: onePlan })
  try {
    await rig.startProcess()
    const [environment] = rig.environments
    if (!environment) throw new Error("no environment")
    const waits: number[] = []
    const ends: number[] = []
    for (let n = 0; n < rollbacks + warmUps; n++) {
      await rig.target(environment).query(refill)
      const prepared = await rig.prepare(environment, { settled: true })
      // People take longer than this to decide; the machine is idle when they do.
      await pause(40)
      await rig.approve(prepared)
      await rig.ended(prepared)
      const times = await rig.times(prepared)
      if (n < warmUps) continue
      waits.push(times.firstEffect - times.approved)
      ends.push(times.ended - times.approved)
    }
    return {
      title: `first-effect: from the approval's commit to the first effect's commit, ${rollbacks} rollbacks on an idle machine`,
      plainName: "",
      lines: [
        {
          what: "first effect, median",
          ours: ms(median(waits)),
          plain: "",
          required: `< ${requiredMs} ms`,
          holds: median(waits) < requiredMs,
        },
        { what: "first effect, p99", ours: ms(quantile(waits, 0.99)), plain: "", required: "", holds: null },
        { what: "end of the rollback", ours: spread(ends), plain: "", required: "", holds: null },
      ],
      notes: [],
    }
  } finally {
    await rig.stop()
  }
}
