import { setTimeout as pause } from "node:timers/promises"
import { afterAll, beforeAll, expect, it } from "vitest"
import { slowSteps, startKillStage, type KillStage } from "../../playground/faults/kill-stage.ts"
import { startPostgres, unsynced, type Postgres } from "../../playground/postgres.ts"

/** KILLS_SEED, as it is printed, plays the same moments again; STORM=1: many of them, a large table, KILLS_LANES at once. */
const seed = Number(process.env["KILLS_SEED"] ?? Math.floor(Math.random() * 2 ** 31))
const storm = process.env["STORM"] === "1"
const lanes = Number(process.env["KILLS_LANES"] ?? (storm ? 3 : 1))
const orders = storm ? 100_000 : 20_000
const lines = orders / 2
const rounds = storm ? { purge: 50, workflow: 50, sigterm: 200 } : { purge: 3, workflow: 3, sigterm: 3 }
const timeout = storm ? 60 * 60_000 : 300_000

let postgres: Postgres
let stages: KillStage[]

beforeAll(async () => {
  postgres = await startPostgres({ flags: unsynced })
  stages = await Promise.all(Array.from({ length: lanes }, (_, n) => startKillStage(postgres, n)))
  // Three processes a lane start at once, on a machine that may have other work.
}, 300_000)
afterAll(async () => {
  await Promise.all(stages.map((stage) => stage.stop()))
  await postgres.stop()
}, 60_000)

/** Numbers between 0 and 1, the same for the same seed. */
function randomOf(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** The same rounds for a seed, however they are shared out among the stages. */
async function play(what: string, count: number, round: (stage: KillStage, share: number) => Promise<unknown>) {
  const random = randomOf(seed)
  const left = Array.from({ length: count }, (_, n) => ({ n, share: random() })).values()
  const failed: string[] = []
  const struck: unknown[] = []
  await Promise.all(
    stages.map(async (stage) => {
      for (const { n, share } of left)
        await round(stage, share).then(
          (where) => {
            struck.push(where)
            // Of a long run that is broken off, so much is known.
            if (struck.length % 10 === 0) console.log(`${what}: ${struck.length} of ${count} rounds, seed ${seed}`)
          },
          (error: unknown) => {
            failed.push(`KILLS_SEED=${seed}, round ${n}, at ${share.toFixed(3)}: ${String(error)}`)
            console.log(failed.at(-1))
          },
        )
    }),
  )
  const counts = Object.entries(Object.groupBy(struck, String)).map(([where, all]) => `${all?.length ?? 0} ${where}`)
  console.log(`${what}: ${count} rounds with seed ${seed}: ${counts.sort().join(", ")}; ${failed.length} violations`)
  expect(failed).toEqual([])
}

const count = async (stage: KillStage, sql: string) =>
  (await stage.target.query<{ n: number }>(`select count(*)::int as n from ${sql}`)).rows[0]?.n ?? 0

const filling = (table: string) =>
  `insert into ${table} select n, n % 11 <> 0, repeat('x', 60) from generate_series(1, ${orders + orders / 10}) n`

const lineOfBad = "lines join orders on orders.id = order_id where bad"

/** Batches of a table with children lock its rows first; those of a table on its own are moved from a snapshot. */
const purges = {
  mill: {
    table: "orders",
    fill: `truncate orders, lines; ${filling("orders")}; insert into lines select n, 2 * n from generate_series(1, ${lines}) n`,
    taken: { orders: "orders where bad", lines: lineOfBad },
  },
  flat: { table: "events", fill: `truncate events; ${filling("events")}`, taken: { events: "events where bad" } },
}

async function counts(stage: KillStage, of: Record<string, string>): Promise<Record<string, number>> {
  const found = Object.entries(of).map(async ([table, sql]) => [table, await count(stage, sql)] as const)
  return Object.fromEntries(await Promise.all(found))
}

/** Changes rows that are about to go and others, until it is told to end. */
function startWriter({ target }: KillStage, table: string, random: () => number) {
  const now = { over: false }
  const writing = (async () => {
    while (!now.over) {
      const id = Math.ceil(random() * orders)
      await target.query(`update ${table} set pad = 'touched' where id = $1`, [id])
      await pause(5)
    }
  })()
  return async () => {
    now.over = true
    await writing
  }
}

/** Rows that are kept of a run, and how many different ones, by table; then they are forgotten. */
async function kept(stage: KillStage, id: string): Promise<Record<string, [number, number]>> {
  const { rows } = await stage.target.query<{ name: string; table: string }>(
    "select name, split_part(relation, '.', 2) as table from stepback_ledger.archives where rollback_id = $1 order by 2",
    [id],
  )
  const found: Record<string, [number, number]> = {}
  for (const { name, table } of rows) {
    found[table.replaceAll('"', "")] = [
      await count(stage, name),
      await count(stage, `(select distinct id from ${name}) as d`),
    ]
    await stage.target.query(`truncate ${name}`)
  }
  return found
}

const killed = "killed in a purge of %s: what is archived is what is deleted is what is counted"
it.each(["mill", "flat"] as const)(killed, { timeout }, async (plan) => {
  const { table, fill, taken: of } = purges[plan]
  const undisturbed = async (stage: KillStage) => {
    await stage.target.query(fill)
    const { id } = await stage.begin(plan)
    const { ms } = await stage.outcome(id)
    await kept(stage, id)
    return ms
  }
  // From then on each target has its ledger.
  await Promise.all(stages.map(undisturbed))
  // How long it takes when nobody is killed: the kill falls somewhere in it.
  const lasts = await undisturbed(stages[0] as KillStage)

  await play(`killed in a purge of ${plan}`, rounds.purge, async (stage, share) => {
    await stage.target.query(fill)
    const before = await counts(stage, of)
    const endWriter = startWriter(stage, table, randomOf(seed + Math.floor(share * 1e6)))
    const struck = async () => {
      try {
        const taken = await stage.begin(plan)
        await stage.strike(taken, "SIGKILL", share * lasts)
        const batches = await count(stage, `stepback_ledger.entries where rollback_id = '${taken.id}'`)
        return { taken, batches, outcome: await stage.outcome(taken.id) }
      } finally {
        await endWriter()
      }
    }
    const { taken, batches, outcome } = await struck()
    const all = await count(stage, `stepback_ledger.entries where rollback_id = '${taken.id}'`)
    expect(outcome).toMatchObject({ state: "succeeded", rows: before })
    expect(Object.values(await counts(stage, of)).every((left) => left === 0)).toBe(true)
    expect(await kept(stage, taken.id)).toEqual(
      Object.fromEntries(Object.entries(before).map(([name, rows]) => [name, [rows, rows]])),
    )
    expect(outcome.messages.sort()).toEqual(["analysis", "audit", "card", "remove/1"])
    if (plan === "mill") expect(await count(stage, "lines")).toBe(lines - (before["lines"] ?? 0))
    // The good ones and what hangs on them are where they were.
    expect(await count(stage, `${table} where not bad`)).toBe(Math.floor((orders + orders / 10) / 11))
    return batches === 0 ? "before the first batch" : batches < all ? "between batches" : "after the last batch"
  })
})

it("killed in a workflow: it is dispatched once", { timeout }, async () => {
  const runMs = 700
  await play("killed in a workflow", rounds.workflow, async (stage, share) => {
    const earlier = stage.github.runs().length
    void stage.github.started(earlier).then((run) => setTimeout(() => stage.github.finish(run, "success"), runMs))
    const taken = await stage.begin("shop")
    await stage.strike(taken, "SIGKILL", share * runMs * 1.2)
    const dispatched = stage.github.runs().length > earlier
    const outcome = await stage.outcome(taken.id)
    expect(outcome.state).toBe("succeeded")
    expect(stage.github.runs().length - earlier).toBe(1)
    expect(outcome.messages.sort()).toEqual(["analysis", "audit", "card", "deploy/1"])
    return outcome.takenBy < 3 ? "after its end" : dispatched ? "while it was awaited" : "before the dispatch"
  })
})

it("asked to end in a run: gone within 10 s, and another worker goes on", { timeout }, async () => {
  await play("asked to end", rounds.sigterm, async (stage, share) => {
    await stage.target.query("alter table counters disable trigger all; update counters set n = 0")
    await stage.target.query("alter table counters enable trigger all")
    const taken = await stage.begin("slow")
    const asked = performance.now()
    const after = share * slowSteps.length * 100
    const late = new Promise((resolve) => setTimeout(resolve, after + 10_000, "later than 10 s").unref())
    // The contract of a shutdown, not a measurement: whoever orchestrates kills after this.
    expect(await Promise.race([stage.strike(taken, "SIGTERM", after), late])).toBe(0)
    slowest = Math.max(slowest, performance.now() - asked - after)
    const outcome = await stage.outcome(taken.id)
    const { rows } = await stage.target.query<{ n: number }>("select n from counters order by id")
    expect(outcome.state).toBe("succeeded")
    expect(rows.map((row) => row.n)).toEqual(slowSteps.map(() => 1))
    const told = slowSteps.map((id) => `${id}/1`)
    expect(outcome.messages.filter((key) => told.includes(key))).toEqual(told)
    expect(outcome.messages.filter((key) => !told.includes(key)).sort()).toEqual(["analysis", "audit", "card"])
    return outcome.takenBy > 2 ? "went on elsewhere" : "were over first"
  })
  console.log(`asked to end: the slowest took ${Math.round(slowest)} ms`)
})

let slowest = 0
