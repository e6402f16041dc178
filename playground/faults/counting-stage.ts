import { once } from "node:events"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import pg from "pg"
import { startPostgres, unsynced, type Postgres } from "../postgres.ts"
import { findRedis, startRedis, type Redis } from "../redis.ts"
import { startLocalSlack, type LocalSlack } from "../slack/local-slack.ts"
import { startStepback, type StepbackProcess } from "../stepback-process.ts"
import { allSaid, endOf, keysOf, rollBack } from "./following.ts"
import { until } from "./until.ts"

const half = 10
const names = (from: number) => Array.from({ length: half }, (_, n) => `c${from + n}`)
/** The steps of the plan, in order: each counts once, and one calls out. */
export const countingSteps = [...names(1), "call", ...names(half + 1)]

/** A plan that takes a few seconds, of steps whose repetition would be seen. */
const plan = `version: 1
environment: counting
title: Count each once
target: { postgres: "\${COUNTING_DATABASE_URL}", http: "\${COUNTING_URL}" }
approve:
  low: { count: 1, from: anyone }
  medium: { count: 1, from: anyone }
  high: { count: 1, from: anyone }
  expires: 60m
components:
  all:
    title: All
    risk: low
    steps:
${countingSteps.map(stepYaml).join("\n")}
`

function stepYaml(id: string): string {
  if (id === "call")
    return `      - { id: call, http: { method: POST, path: /call, attempts: 20, every: 200ms }, effect: keyed, irreversible: it only counts, timeout: 30s }`
  return `      - { id: ${id}, sql: "update counters set n = n + 1 where id = ${id.slice(1)}", expect: { rows: 1 } }`
}

export type CountingStage = {
  state: Postgres
  target: Postgres
  redis: Redis | null
  slack: LocalSlack
  startWorker(): Promise<StepbackProcess>
  /** Requests and approves; resolves with the rollback's id. */
  rollBack(): Promise<string>
  /** Until all is done and said: the end's state, how often each step took effect, the keys of the messages. */
  outcome(id: string): Promise<{ state: string; counts: Record<string, number>; messages: string[] }>
  /** Resolves when a call has come in and waits for its answer; then `answerCalls` lets it and later ones go. */
  callArrived(): Promise<void>
  holdCalls(): void
  answerCalls(): void
  stop(): Promise<void>
}

/** State and target on servers of their own, so that each can fail alone. */
export async function startCountingStage(): Promise<CountingStage> {
  const [state, target, redis, slack, folder] = await Promise.all([
    startPostgres({ flags: unsynced }),
    startPostgres({ flags: unsynced }),
    findRedis() === null ? null : startRedis(),
    startLocalSlack(),
    mkdtemp(join(tmpdir(), "stepback-counting-")),
  ])
  await writeFile(join(folder, "counting.yaml"), plan)
  const [stateUrl, targetUrl] = await Promise.all([state.createDatabase("state"), target.createDatabase("counting")])
  const statePool = quietPool(stateUrl)
  const targetPool = quietPool(targetUrl)
  await targetPool.query(`create table counters (id integer primary key, n integer not null default 0);
    insert into counters select generate_series(1, ${2 * half});
    create function take_time() returns trigger language plpgsql as 'begin perform pg_sleep(0.08); return new; end';
    create trigger take_time before update on counters for each row execute function take_time()`)
  const calls = await startCalls()
  const environment = {
    SLACK_BOT_TOKEN: slack.botToken,
    SLACK_API_URL: slack.apiUrl,
    SLACK_SIGNING_SECRET: slack.signingSecret,
    DATABASE_URL: stateUrl,
    ...(redis === null ? {} : { REDIS_URL: redis.url }),
    STEPBACK_PLANS: folder,
    COUNTING_DATABASE_URL: targetUrl,
    COUNTING_URL: calls.url,
  }
  const processes: StepbackProcess[] = []
  const start = async (role: "bot" | "worker") => {
    const started = await startStepback({ ...environment, STEPBACK_ROLE: role })
    processes.push(started)
    return started
  }
  slack.setRequestUrl(`http://127.0.0.1:${(await start("bot")).port}/slack/events`)
  return {
    state,
    target,
    redis,
    slack,
    startWorker: () => start("worker"),
    async rollBack() {
      await targetPool.query(
        "alter table counters disable trigger all; update counters set n = 0; alter table counters enable trigger all",
      )
      calls.forget()
      return (await rollBack({ slack, state: statePool }, "counting again")).id
    },
    async outcome(id) {
      const ended = await until("the end of the run", () => endOf(statePool, id), 120_000)
      await until("the last message", () => allSaid(statePool, id), 120_000)
      const { rows } = await targetPool.query<{ id: number; n: number }>("select id, n from counters order by id")
      const counts = Object.fromEntries([
        ...rows.map((row) => [`c${row.id}`, row.n]),
        ["call", calls.effects()],
      ]) as Record<string, number>
      return { state: ended, counts, messages: keysOf(slack, id).map((key) => key.slice(id.length + 1)) }
    },
    callArrived: () => calls.arrived(),
    holdCalls: () => calls.hold(),
    answerCalls: () => calls.release(),
    async stop() {
      calls.release()
      await Promise.all(processes.map((each) => each.stop()))
      await Promise.all([statePool.end(), targetPool.end(), slack.stop(), calls.stop(), redis?.stop()])
      await Promise.all([state.stop(), target.stop(), rm(folder, { recursive: true, force: true })])
    },
  }
}

function quietPool(connectionString: string): pg.Pool {
  const pool = new pg.Pool({ connectionString, max: 2 })
  pool.on("error", () => {})
  return pool
}

/** A server that conforms: what carries the same idempotency key takes effect once. */
async function startCalls() {
  const keys = new Set<string>()
  let held: (() => void)[] | null = null
  let tellArrival: () => void = () => undefined
  const server: Server = createServer((request, response) => {
    keys.add(String(request.headers["idempotency-key"]))
    request.resume()
    const answer = () => void response.writeHead(200).end("{}")
    if (held === null) answer()
    else held.push(answer)
    tellArrival()
  }).listen(0, "127.0.0.1")
  await once(server, "listening")
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    effects: () => keys.size,
    forget: () => keys.clear(),
    hold: () => void (held = []),
    arrived: () =>
      held !== null && held.length > 0 ? Promise.resolve() : new Promise<void>((resolve) => (tellArrival = resolve)),
    release: () => {
      const answers = held ?? []
      held = null
      for (const answer of answers) answer()
    },
    stop: async () => {
      server.close()
      server.closeAllConnections()
      await once(server, "close")
    },
  }
}
