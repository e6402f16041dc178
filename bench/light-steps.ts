import { setTimeout as pause } from "node:timers/promises"
import type { BareCommand } from "./bare-steps.ts"
import { startChild, type Child } from "./child.ts"
import { median, ms, spread, type Line, type Table } from "./figures.ts"
import { lightPlan, lightSchema, refill, startEcho } from "./light-plan.ts"
import { startRig, type BenchEnvironment, type Rig, type Times } from "./rig.ts"

const pairs = 25
const warmUps = 5
const requiredRatio = 2.5

/** A full rollback of eight light steps beside the same statements, call and messages without Stepback, in turns. */
export async function benchLightSteps(): Promise<Table> {
  const echo = await startEcho()
  const rig = await startRig({
    environments: ["light"],
    schema: lightSchema,
    plan: lightPlan,
    variables: { BENCH_URL: echo.url },
  })
  const bare = startChild("./bare-steps.ts")
  try {
    await rig.startProcess()
    const [environment] = rig.environments
    if (!environment) throw new Error("no environment")
    await ask(bare, {
      databaseUrl: environment.url,
      httpUrl: echo.url,
      slackUrl: rig.stage.slack.apiUrl,
      token: rig.stage.slack.botToken,
    })
    const seen: { times: Times; bareMs: number; steps: StepEnd[] }[] = []
    for (let n = 0; n < pairs + warmUps; n++) {
      const pair = await onePair(rig, environment, bare)
      if (n >= warmUps) seen.push(pair)
    }
    return draw(seen)
  } finally {
    await bare.stop()
    await rig.stop()
    await echo.stop()
  }
}

type StepEnd = { id: string; at: number }

async function onePair(rig: Rig, environment: BenchEnvironment, bare: Child) {
  await rig.target(environment).query(refill)
  const prepared = await rig.prepare(environment, { settled: true })
  await pause(40)
  await rig.approve(prepared)
  await rig.ended(prepared)
  await rig.delivered(prepared)
  const times = await rig.times(prepared)
  const { rows: steps } = await rig.state.query<StepEnd>(
    `select step_id as id, (extract(epoch from pg_xact_commit_timestamp(xmin)) * 1000)::float8 as at
     from stepback.step_runs where rollback_id = $1 order by at`,
    [prepared.id],
  )
  await rig.target(environment).query(refill)
  await pause(40)
  const { ms: bareMs } = await ask(bare, { channel: prepared.channel })
  return { times, bareMs, steps }
}

const ask = (bare: Child, command: BareCommand) => bare.ask<{ ms: number }>(command)

function draw(seen: { times: Times; bareMs: number; steps: StepEnd[] }[]): Table {
  const ours = seen.map(({ times }) => times.ended - times.approved)
  const bare = seen.map(({ bareMs }) => bareMs)
  const ratio = median(ours) / median(bare)
  const parts = new Map<string, number[]>()
  const note = (part: string, took: number) => parts.set(part, [...(parts.get(part) ?? []), took])
  for (const { times, steps } of seen) {
    let before = times.approved
    note("approval to first effect", times.firstEffect - times.approved)
    for (const [index, step] of steps.entries()) {
      if (index === 0) note(`${step.id} recorded`, step.at - times.firstEffect)
      else note(step.id, step.at - before)
      before = step.at
    }
    note("end", times.ended - before)
  }
  const breakdown: Line[] = [...parts].map(([part, took]) => ({
    what: `  ${part}`,
    ours: ms(median(took)),
    plain: "",
    required: "",
    holds: null,
  }))
  return {
    title: `light-steps: update, 5 reads and deletes, HTTP call, check, a message after each; from approval to end, ${pairs} pairs in turns`,
    plainName: "pg and fetch",
    lines: [
      { what: "whole run", ours: spread(ours), plain: spread(bare), required: "", holds: null },
      {
        what: "ratio of the medians",
        ours: ratio.toFixed(2),
        plain: "1",
        required: `≤ ${requiredRatio}`,
        holds: ratio <= requiredRatio,
      },
      ...breakdown,
    ],
    notes: [],
  }
}
