import { afterAll, beforeAll, expect, it } from "vitest"
import { startPostgres, unsynced, type Postgres } from "../../playground/postgres.ts"
import { tryDeaths, type Trial } from "./crash-points-lab.ts"
import { startWorld, type World } from "./crash-points-world.ts"

/** STORM=1: each point of a run; else a spread of them. */
const every = process.env["STORM"] === "1" ? 1 : 6

let postgres: Postgres
let world: World

beforeAll(async () => {
  postgres = await startPostgres({ flags: unsynced })
  world = await startWorld(postgres)
})
afterAll(async () => {
  await world.stop()
  await postgres.stop()
})

/** Whatever the ledger has is on record, with as many rows; what has begun has an outcome; nobody is asked any more. */
async function violations({ id, diedAt }: Trial): Promise<string[]> {
  const found: string[] = []
  const runs = await world.store.runs.listSteps(id)
  const entries = await world.target.query<{ step: string; batch: number; removed: Record<string, number> | null }>(
    "select step_id as step, batch, result -> 'affected' as removed from stepback_ledger.entries where rollback_id = $1",
    [id],
  )
  for (const step of new Set(entries.rows.map((entry) => entry.step))) {
    // A purge that has only begun has removed nothing; its rows are counted below.
    if (step === "remove") continue
    const newest = runs.findLast((run) => run.stepId === step)?.result
    if (newest == null) found.push(`${step} is in the ledger, and nothing of it on record`)
    else if (newest.outcome !== "succeeded") found.push(`${step} was done, on record: ${newest.outcome}`)
  }
  const gone = 16 - (await count(world, "orders where bad"))
  const told = runs.findLast((run) => run.stepId === "remove")?.result?.affected ?? []
  const removed = told.find(({ table }) => table === "orders")?.rows ?? 0
  if (removed !== gone) found.push(`${gone} orders were removed, on record: ${removed}`)
  for (const run of runs) if (run.result === null) found.push(`${run.stepId} has begun and has no outcome`)
  const open = await world.state.query(
    "select 1 from stepback.confirmations where rollback_id = $1 and answer is null",
    [id],
  )
  if (open.rowCount !== 0) found.push("somebody is still asked")
  return found.map((text) => `died at ${diedAt.join()}: ${text}`)
}

async function count({ target }: World, what: string): Promise<number> {
  const { rows } = await target.query<{ n: number }>(`select count(*)::integer as n from ${what}`)
  return rows[0]?.n ?? Number.NaN
}

it(
  "a worker that dies before Stop is pressed: what it has done is on record, wherever it died",
  { timeout: every === 1 ? 1_200_000 : 300_000 },
  async () => {
    const dry = await tryDeaths(world, [])
    const points = dry.lives[0]?.length ?? 0
    const wrong: string[] = []
    let stopped = 0
    for (let at = every; at <= points; at += every) {
      const trial = await tryDeaths(world, [at], { stopped: true })
      if (!trial.stopped) continue
      stopped++
      wrong.push(...(await violations(trial)))
    }
    console.log(
      `Stop after a death: ${points} points, at ${stopped} of those tried Stop was taken, ${wrong.length} violations`,
    )
    expect(wrong).toEqual([])
    expect(stopped).toBeGreaterThan(0)
  },
)
