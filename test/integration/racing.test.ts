import { fork, type ChildProcess } from "node:child_process"
import { randomUUID } from "node:crypto"
import { once } from "node:events"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Pool } from "pg"
import { afterAll, beforeAll, expect, it } from "vitest"
import { createWorkshop, type Workshop } from "../../src/jobs/work.ts"
import { createPlanFolder } from "../../src/plans/plan-folder.ts"
import { createTargetPools } from "../../src/steps/target.ts"
import type { Store } from "../../src/store/store.ts"
import { created, freshState, log } from "./store-fixture.ts"

/** STORM=1: a thousand rounds. */
const rounds = process.env["STORM"] === "1" ? 1_000 : 15
const timeout = process.env["STORM"] === "1" ? 60 * 60_000 : 120_000
const [processes, crowd] = [3, 100]

const planOf = (environment: string, count: number) => `version: 1
environment: ${environment}
title: Whoever is first
target: { http: "\${RACE_URL}" }
approve: { low: { count: ${count}, from: anyone }, medium: { count: ${count}, from: anyone }, high: { count: ${count}, from: anyone } }
components:
  all: { risk: low, steps: [{ id: call, http: { method: POST, path: / }, effect: keyed, irreversible: it counts }] }
`

let pool: Pool
let store: Store
let folder: string
let workshop: Workshop
let racers: ChildProcess[]

beforeAll(async () => {
  const state = await freshState()
  ;({ pool, store } = state)
  folder = await mkdtemp(join(tmpdir(), "stepback-racing-"))
  for (const count of [1, 2]) await writeFile(join(folder, `race${count}.yaml`), planOf(`race${count}`, count))
  workshop = createWorkshop(
    {
      store,
      plans: createPlanFolder(folder),
      targets: createTargetPools(log),
      environment: { RACE_URL: "http://127.0.0.1:1" },
      ring: () => undefined,
      wakeOutbox: () => undefined,
      newId: randomUUID,
      stillAllowed: () => Promise.resolve(true),
      log,
    },
    "rehearser",
  )
  const program = new URL("racing-approver.ts", import.meta.url).pathname
  const people = Array.from({ length: crowd }, (_, n) => `U0RACER${n}`)
  racers = Array.from({ length: processes }, (_, n) =>
    fork(program, [state.url, folder, ...people.filter((_person, at) => at % processes === n)], { execArgv: [] }),
  )
  await Promise.all(racers.map((racer) => once(racer, "message")))
}, 120_000)
afterAll(async () => {
  for (const racer of racers) racer.disconnect()
  await Promise.all(racers.map((racer) => once(racer, "exit")))
  await pool.end()
  await rm(folder, { recursive: true, force: true })
})

/** One card, everybody at once; gives what each was told. */
async function race(environment: string): Promise<{ id: string; told: string[] }> {
  const { id } = await created(store, { environment, targetReference: null })
  await workshop.work(id)
  const { token } = await store.rollbacks.get(id)
  const answers = racers.map((racer) => once(racer, "message") as Promise<[string[]]>)
  for (const racer of racers) racer.send(token ?? "")
  return { id, told: (await Promise.all(answers)).flatMap(([told]) => told) }
}

/** Approvals that stand, decisions in the record, and the state. */
async function decided(id: string): Promise<unknown> {
  const { rows } = await pool.query(
    `select state, (select count(*)::int from stepback.approvals where rollback_id = r.id and voided_at is null) as approvals,
       (select count(*)::int from stepback.audit where rollback_id = r.id and kind = 'approval') as decisions
     from stepback.rollbacks r where id = $1`,
    [id],
  )
  return rows[0]
}

it.each([
  { environment: "race1", needed: 1, rounds },
  { environment: "race2", needed: 2, rounds: Math.ceil(rounds / 5) },
])(
  `$rounds rounds of ${crowd} people over ${processes} processes: each is $needed approvals, no more and no less`,
  async ({ environment, needed, rounds }) => {
    const started = performance.now()
    for (let round = 1; round <= rounds; round++) {
      const { id, told } = await race(environment)
      const [accepted, refused] = [["approved", "counted"], ["already_decided"]]
      expect(told).toHaveLength(crowd)
      expect(told.filter((word) => !accepted.includes(word) && !refused.includes(word))).toEqual([])
      expect(told.filter((word) => accepted.includes(word)).sort()).toEqual(
        needed === 1 ? ["approved"] : ["approved", "counted"],
      )
      expect(await decided(id)).toEqual({ state: "approved", approvals: needed, decisions: needed })
      // The next one's turn.
      await pool.query("update stepback.rollbacks set state = 'stopped' where id = $1", [id])
    }
    const { rows } = await pool.query<{ n: number }>(
      "select count(*)::int as n from stepback.approvals a join stepback.rollbacks r on r.id = a.rollback_id where environment = $1",
      [environment],
    )
    expect(rows).toEqual([{ n: rounds * needed }])
    const seconds = ((performance.now() - started) / 1000).toFixed(0)
    console.log(
      `racing: ${rounds} rounds of ${crowd} in ${processes} processes: ${rows[0]?.n} approvals in ${seconds} s`,
    )
  },
  timeout,
)
