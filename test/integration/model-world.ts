import { randomUUID } from "node:crypto"
import { once } from "node:events"
import { createServer, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import pg from "pg"
import { inject } from "vitest"
import { createIncarnation, type Incarnation } from "../../playground/faults/incarnation.ts"
import { connectPostgres } from "../../playground/postgres.ts"
import type { Deps, People } from "../../src/commands/ports.ts"
import { createWorkshop, type Workshop } from "../../src/jobs/work.ts"
import { checkPlanSource } from "../../src/plans/load.ts"
import type { LoadedPlan } from "../../src/plans/plan.ts"
import { liveStates } from "../../src/rollback/states.ts"
import { initLedger } from "../../src/steps/ledger.ts"
import { createTargetPools } from "../../src/steps/target.ts"
import { createPool } from "../../src/store/database.ts"
import { createStore, type Store } from "../../src/store/store.ts"
import { freshState, log } from "./store-fixture.ts"

/** `twin` names the same variable as `one`, `alias` another variable for the same database; `pair` has its own. */
export const environments = {
  one: { variable: "ONE", count: 1, from: "anyone" },
  twin: { variable: "ONE", count: 2, from: "[S0ONCALL]" },
  alias: { variable: "ALIAS", count: 1, from: "[S0ONCALL]" },
  pair: { variable: "TWO", count: 2, from: "anyone" },
} as const
export type Environment = keyof typeof environments
export const environmentNames = Object.keys(environments) as Environment[]

/** Who there is. ROBOT and GUEST may nothing; BOB and CAROL are on call until a test takes them off. */
export const members = ["U0ALICE", "U0BOB", "U0CAROL", "U0DAVE"]
export const everybody = [...members, "U0GUEST", "U0ROBOT"]

/** Two requests that the model answers, and two effects in the database whose repetition would be seen. */
const planOf = (environment: Environment) => {
  const { variable, count, from } = environments[environment]
  const policy = `{ count: ${count}, from: ${from} }`
  return `version: 1
environment: ${environment}
title: Each once
target: { postgres: "\${${variable}}", http: "\${SITE}" }
approve: { low: ${policy}, medium: ${policy}, high: ${policy}, expires: 60m }
components:
  all:
    risk: low
    steps:
      - { id: gate1, http: { method: POST, path: /${environment}/gate1 }, effect: keyed, irreversible: it counts }
      - { id: count1, sql: "update counters set n = n + 1 where id = '${environment}1'", expect: { rows: 1 } }
      - { id: gate2, http: { method: POST, path: /${environment}/gate2 }, effect: keyed, irreversible: it counts }
      - { id: count2, sql: "update counters set n = n + 1 where id = '${environment}2'", expect: { rows: 1 } }
`
}

const targetSchema = `create table counters (id text primary key, n integer not null);
  create table seen (id text not null, by integer not null);
  create function see() returns trigger language plpgsql as $$
    begin insert into seen values (new.id, new.n - old.n); return null; end $$;
  create trigger see after update on counters for each row execute function see();
  ${environmentNames.map((name) => `insert into counters values ('${name}1', 0), ('${name}2', 0);`).join(" ")}`

/** Looks over the shoulder of whoever writes: each change of state, and how many approvals it had at that instant. */
const observer = `create schema watch;
  create table watch.moves (rollback_id uuid, from_state text, to_state text, have integer, need integer);
  create function watch.move() returns trigger language plpgsql as $$ begin
    insert into watch.moves values (new.id, old.state, new.state, (select count(distinct a.user_id) from stepback.approvals a
      where a.rollback_id = new.id and a.round = new.round and a.digest = new.digest and a.voided_at is null
        and a.user_id <> new.requester_id and not exists (
          select from jsonb_each(new.frozen::jsonb -> 'skip') s where s.value ->> 'by' = a.user_id)),
      (new.frozen::jsonb -> 'policy' ->> 'count')::integer);
    return null; end $$;
  create trigger watch_moves after update on stepback.rollbacks for each row
    when (old.state is distinct from new.state) execute function watch.move()`

/** A request that has come in and waits for its answer. */
export type Gate = { worker: number; rollbackId: string; environment: string; respond(holds: boolean): void }

/** A process: dies as one does under `kill -9`, its connections cut, nothing of it running on. */
type Worker = {
  n: number
  life: Incarnation
  workshop: Workshop
  /** `done` when it is over. */
  inHand: { rollbackId: string; done: Promise<unknown> } | null
}

/** Of a request that came in when its worker was dead already. */
export const nobodys = "nobody's"

export type World = Awaited<ReturnType<typeof startModelWorld>>

export async function startModelWorld() {
  const { url: stateUrl, pool: state, store } = await freshState()
  await state.query(observer)
  const server = connectPostgres(inject("postgresUrl"))
  const [one, two] = await Promise.all(
    ["one", "two"].map((name) => server.createDatabase(`model_${name}_${randomUUID().slice(0, 8)}`)),
  )
  const targets = [one, two].map((url) => new pg.Pool({ connectionString: url, max: 2 }))
  for (const target of targets) await target.query(targetSchema)
  const plans = new Map<string, LoadedPlan>()
  for (const name of environmentNames) {
    const { plan, problems } = await checkPlanSource(`${name}.yaml`, planOf(name))
    if (!plan) throw new Error(JSON.stringify(problems))
    plans.set(name, plan)
  }
  const town = { onCall: new Set<string>() }
  const depsOn = (on: Store): Deps => ({
    store: on,
    people: peopleOf(town),
    plans: { load: () => Promise.resolve({ plans, invalid: [] }) },
    ring: () => undefined,
    wakeOutbox: () => undefined,
    newId: randomUUID,
  })
  for (const target of targets) await initLedger(target)
  const site = await startSite((n) => workers.find((worker) => worker.n === n)?.inHand?.rollbackId ?? nobodys)
  let workers: Worker[] = []
  let born = 0
  const bear = async (): Promise<Worker> => {
    const [n, life] = [born++, createIncarnation()]
    const workshop = await life.live(async () => {
      const environment = { ONE: one, ALIAS: one, TWO: two, SITE: `${site.url}/${n}` }
      const pools = createTargetPools(log)
      const stillAllowed = () => Promise.resolve(true)
      const deps = depsOn(createStore(createPool(stateUrl, { log, max: 3 })))
      return createWorkshop({ ...deps, targets: pools, environment, log, stillAllowed }, `worker-${n}`)
    })
    if (workshop === "died") throw new Error("died at birth")
    const worker: Worker = { n, life, workshop, inHand: null }
    workers.push(worker)
    return worker
  }
  const expireLease = (id: string) =>
    state.query(
      "update stepback.rollbacks set lease_until = now() - interval '1 second' where id = $1 and lease_until is not null",
      [id],
    )
  const kill = (worker: Worker) => {
    worker.life.end()
    workers = workers.filter((each) => each !== worker)
  }
  const world = {
    state,
    store,
    targets,
    site,
    town,
    deps: depsOn(store),
    busy: () => workers.filter((worker) => worker.inHand !== null),
    /** A worker that is free takes this in hand; gives its number. */
    async work(rollbackId: string): Promise<number> {
      const worker = workers.find((each) => each.inHand === null) ?? (await bear())
      const inHand = { rollbackId, done: Promise.resolve() as Promise<unknown> }
      worker.inHand = inHand
      inHand.done = worker.life
        .live(() => worker.workshop.work(rollbackId))
        .finally(() => {
          worker.inHand = null
          site.changed()
        })
      return worker.n
    },
    /** Whoever has it dies; the lease's time is over. */
    async crash(rollbackId: string): Promise<void> {
      for (const worker of workers.filter((each) => each.inHand?.rollbackId === rollbackId)) kill(worker)
      await expireLease(rollbackId)
    },
    expireLease,
    /** Until each worker is done with what it has in hand or waits for an answer. */
    async settled(): Promise<void> {
      for (;;) {
        const open = world.busy().filter(({ n }) => !site.waiting.some((gate) => gate.worker === n))
        if (open.length === 0) return
        await Promise.race([...open.map(({ inHand }) => inHand?.done), site.change()])
      }
    },
    /** Nobody works, nothing is live. Numbers, audit and effects stay and go on. */
    async reset(): Promise<void> {
      for (const worker of world.busy()) kill(worker)
      for (const gate of site.waiting.splice(0)) gate.respond(false)
      town.onCall = new Set(["U0BOB", "U0CAROL"])
      await state.query("update stepback.rollbacks set state = 'expired' where state = any($1)", [liveStates])
      await state.query("update stepback.rollbacks set left_at = now(), left_by = 'U0ALICE' where left_at is null")
      await state.query("truncate watch.moves")
    },
    async stop(): Promise<void> {
      for (const worker of workers) kill(worker)
      await Promise.all([state.end(), ...targets.map((target) => target.end()), site.stop()])
    },
  }
  return world
}

/** The port to Slack, which is all that is replaced. */
function peopleOf(town: { onCall: ReadonlySet<string> }): People {
  return {
    homeTeams: () => Promise.resolve(["T0HOME"]),
    find: (id) => {
      const facts = { isBot: id === "U0ROBOT", isGuest: id === "U0GUEST", isStranger: false, isDeactivated: false }
      return Promise.resolve({ kind: "person", person: { id, teamId: "T0HOME", ...facts } })
    },
    members: () => Promise.resolve([...town.onCall]),
    channel: () => Promise.resolve({ kind: "ok" }),
  }
}

/** The target's site: it answers when the model says so. */
async function startSite(rollbackOf: (worker: number) => string) {
  const waiting: Gate[] = []
  const arrivals: { rollbackId: string; worker: number }[] = []
  let change = Promise.withResolvers<void>()
  const changed = () => {
    change.resolve()
    change = Promise.withResolvers<void>()
  }
  const server = createServer((request, response: ServerResponse) => {
    request.resume()
    const [, worker, environment] = (request.url ?? "").split("/")
    const gate: Gate = {
      worker: Number(worker),
      rollbackId: rollbackOf(Number(worker)),
      environment: environment ?? "",
      respond(holds) {
        if (waiting.includes(gate)) waiting.splice(waiting.indexOf(gate), 1)
        response.writeHead(holds ? 200 : 500).end("{}")
      },
    }
    arrivals.push(gate)
    waiting.push(gate)
    changed()
  }).listen(0, "127.0.0.1")
  await once(server, "listening")
  server.keepAliveTimeout = 600_000
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    waiting,
    arrivals,
    change: () => change.promise,
    changed,
    async stop() {
      server.close()
      server.closeAllConnections()
      await once(server, "close")
    },
  }
}
