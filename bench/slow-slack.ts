import { setTimeout as pause } from "node:timers/promises"
import type { Stage } from "../playground/stage.ts"
import { median, spread, type Table } from "./figures.ts"
import { lightPlan, lightSchema, refill, startEcho } from "./light-plan.ts"
import { startRig } from "./rig.ts"

type Fault = Parameters<Stage["slack"]["faults"]["set"]>[0]

/** Everything that the outbox calls. Who somebody is can still be asked: without an answer nobody may approve. */
const methods = [
  "chat.postMessage",
  "chat.update",
  "chat.getPermalink",
  "conversations.history",
  "conversations.replies",
]
const moods: { name: string; fault: Fault | null }[] = [
  { name: "answers at once", fault: null },
  { name: "takes 150 ms", fault: { methods, kind: "slow", ms: 150 } },
  { name: "takes 5 s", fault: { methods, kind: "slow", ms: 5_000 } },
  { name: "never answers", fault: { methods, kind: "hang" } },
]
const rounds = 15
const warmUps = 3
const requiredRatio = 1.1

/** The light steps while Slack ails: from the approval's commit to the last effect's, whatever becomes of the messages. */
export async function benchSlowSlack(): Promise<Table> {
  const echo = await startEcho()
  const rig = await startRig({
    environments: ["slow"],
    schema: lightSchema,
    plan: lightPlan,
    variables: { BENCH_URL: echo.url },
  })
  try {
    await rig.startProcess()
    const [environment] = rig.environments
    if (!environment) throw new Error("no environment")
    const seen = new Map<string, number[]>(moods.map(({ name }) => [name, []]))
    for (let round = 0; round < rounds + warmUps; round++)
      // In turns and in changing order, so that a busy moment of the machine does not fall on one of them.
      for (const { name, fault } of rotated(moods, round)) {
        await rig.target(environment).query(refill)
        rig.stage.slack.faults.clear()
        const prepared = await rig.prepare(environment)
        if (fault) rig.stage.slack.faults.set(fault)
        await pause(60)
        await rig.approve(prepared)
        await rig.ended(prepared)
        const times = await rig.times(prepared)
        if (round >= warmUps) seen.get(name)?.push(times.lastEffect - times.approved)
      }
    const instant = median(seen.get("answers at once") ?? [])
    return {
      title: `slow-slack: from the approval's commit to the last effect's commit while Slack ails, ${rounds} rollbacks each in turns`,
      plainName: "times the first",
      lines: moods.map(({ name, fault }) => {
        const taken = seen.get(name) ?? []
        const ratio = median(taken) / instant
        return {
          what: `Slack ${name}`,
          ours: spread(taken),
          plain: ratio.toFixed(2),
          required: fault ? `≤ ${requiredRatio}` : "",
          holds: fault ? ratio <= requiredRatio : null,
        }
      }),
      notes: [],
    }
  } finally {
    rig.stage.slack.faults.clear()
    await rig.stop()
    await echo.stop()
  }
}

function rotated<T>(list: readonly T[], by: number): T[] {
  const at = by % list.length
  return [...list.slice(at), ...list.slice(0, at)]
}
