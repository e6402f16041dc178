import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as pause } from "node:timers/promises"
import pg from "pg"
import { startLocalGitHub, type LocalGitHub } from "../github/local-github.ts"
import type { Postgres } from "../postgres.ts"
import { startLocalSlack } from "../slack/local-slack.ts"
import { startStepback, type StepbackProcess } from "../stepback-process.ts"
import { allSaid, endOf, keysOf, rollBack } from "./following.ts"
import { until } from "./until.ts"

const workflow = `name: Deploy
run-name: deploy \${{ inputs.stepback_id }}
on: { workflow_dispatch: { inputs: { stepback_id: { required: true } } } }
jobs: {}
`
const head = (environment: string) => `version: 1
environment: ${environment}
title: Through a kill
target: { postgres: "\${KILLS_DATABASE_URL}" }
approve:
  low: { count: 1, from: anyone }
  medium: { count: 1, from: anyone }
  high: { count: 1, from: anyone }
  expires: 60m
components:
  all:
    risk: low
    steps:
`
/** Steps of the plan that a worker is asked to end in: each counts once and takes a moment. */
export const slowSteps = ["s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8"]

const plans = (api: string): Record<string, string> => ({
  mill: `${head("mill")}      - { id: remove, purge: { table: orders, where: "bad", cascade: [lines], at_most: 1000000, max_share: 100% }, expect: { rows: rehearsed } }
`,
  flat: `${head("flat")}      - { id: remove, purge: { table: events, where: "bad", at_most: 1000000, max_share: 100% }, expect: { rows: rehearsed } }
`,
  shop: `${head("shop")}      - id: deploy
        workflow: { repo: acme/shop, file: deploy.yml, ref: main, token: "\${GH_TOKEN}", api: "${api}" }
        irreversible: it counts
`,
  slow: `${head("slow")}${slowSteps
    .map(
      (id) =>
        `      - { id: ${id}, sql: "update counters set n = n + 1 where id = ${id.slice(1)}", expect: { rows: 1 } }`,
    )
    .join("\n")}
`,
})

const schema = `create table orders (id integer primary key, bad boolean not null, pad text not null);
  create table lines (id integer primary key, order_id integer not null references orders on delete cascade);
  create index on lines (order_id);
  create table events (id integer primary key, bad boolean not null, pad text not null);
  create table counters (id integer primary key, n integer not null default 0);
  insert into counters select generate_series(1, ${slowSteps.length});
  create function take_time() returns trigger language plpgsql as 'begin perform pg_sleep(0.1); return new; end';
  create trigger take_time before update on counters for each row execute function take_time()`

export type Taken = { id: string; victim: StepbackProcess }

export type Outcome = {
  state: string
  /** Its epoch: how many workers have had it in hand. */
  takenBy: number
  messages: string[]
  /** What the steps say that they did, by table, and how long they took. */
  rows: Record<string, number>
  ms: number
}

export type KillStage = {
  target: pg.Pool
  github: LocalGitHub
  /** Asks for a rollback and approves it; resolves when one of two workers has taken it. */
  begin(environment: "mill" | "flat" | "shop" | "slow"): Promise<Taken>
  /** Ends the worker after a while, and has another one started. Resolves with its exit code, or the signal's name. */
  strike(taken: Taken, signal: "SIGKILL" | "SIGTERM", afterMs: number): Promise<number | string>
  /** Until all is done and said. */
  outcome(id: string): Promise<Outcome>
  stop(): Promise<void>
}

/** A Slack, a GitHub, a state database, a target and a bot of its own, and two warm workers, one of which is struck. */
export async function startKillStage(postgres: Postgres, n: number): Promise<KillStage> {
  const [slack, github, stateUrl, targetUrl, folder] = await Promise.all([
    startLocalSlack(),
    startLocalGitHub({ repo: "acme/shop", refs: { main: "9".repeat(40) }, workflows: { "deploy.yml": workflow } }),
    postgres.createDatabase(`kills_state_${n}`),
    postgres.createDatabase(`kills_${n}`),
    mkdtemp(join(tmpdir(), "stepback-kills-")),
  ])
  for (const [name, plan] of Object.entries(plans(github.url))) await writeFile(join(folder, `${name}.yaml`), plan)
  const [state, target] = [stateUrl, targetUrl].map((url) => new pg.Pool({ connectionString: url, max: 2 })) as [
    pg.Pool,
    pg.Pool,
  ]
  for (const pool of [state, target]) pool.on("error", () => {})
  await target.query(schema)
  const environment = {
    SLACK_BOT_TOKEN: slack.botToken,
    SLACK_API_URL: slack.apiUrl,
    SLACK_SIGNING_SECRET: slack.signingSecret,
    DATABASE_URL: stateUrl,
    STEPBACK_PLANS: folder,
    KILLS_DATABASE_URL: targetUrl,
    GH_TOKEN: github.token,
  }
  const start = (role: "bot" | "worker") => startStepback({ ...environment, STEPBACK_ROLE: role })
  const bot = await start("bot")
  slack.setRequestUrl(`http://127.0.0.1:${bot.port}/slack/events`)
  let workers: StepbackProcess[] = await Promise.all([start("worker"), start("worker")])
  // More than one when a strike is still going on while the next round begins: none may be forgotten, it would take runs.
  const spares: Promise<StepbackProcess>[] = []

  return {
    target,
    github,
    async begin(environment) {
      workers.push(...(await Promise.all(spares.splice(0))))
      const { id } = await rollBack({ slack, state }, `${environment} again`)
      const taken = (line: Record<string, unknown>) => line["rollbackId"] === id && line["msg"] === "run taken"
      const victim = await Promise.race(workers.map((worker) => worker.logged(taken).then(() => worker)))
      return { id, victim }
    },
    async strike({ id, victim }, signal, afterMs) {
      // The moment is what is tried.
      await pause(afterMs)
      victim.kill(signal)
      const how = await victim.ended
      // What the lease's time would bring.
      if (signal === "SIGKILL")
        await state.query(
          "update stepback.rollbacks set lease_until = now() - interval '1 second' where id = $1 and lease_until is not null",
          [id],
        )
      workers = workers.filter((worker) => worker !== victim)
      const spare = start("worker")
      spare.catch(() => undefined)
      spares.push(spare)
      return how
    },
    async outcome(id) {
      const ended = await until("the end of the run", () => endOf(state, id), 120_000)
      await until("the last message", () => allSaid(state, id), 120_000)
      const { rows } = await state.query<{ epoch: number }>("select epoch from stepback.rollbacks where id = $1", [id])
      const steps = await state.query<{ result: { ms: number; affected: { table: string; rows: number }[] } | null }>(
        "select result from stepback.step_runs where rollback_id = $1",
        [id],
      )
      const affected = steps.rows.flatMap(({ result }) => result?.affected ?? [])
      return {
        state: ended,
        takenBy: rows[0]?.epoch ?? 0,
        messages: keysOf(slack, id).map((key) => key.slice(id.length + 1).replace(/^audit\/\d+$/, "audit")),
        ms: steps.rows.reduce((sum, { result }) => sum + (result?.ms ?? 0), 0),
        rows: Object.fromEntries(affected.map(({ table, rows }) => [table, rows])),
      }
    },
    async stop() {
      workers.push(...(await Promise.all(spares.splice(0))))
      await Promise.all([bot, ...workers].map((each) => each.stop()))
      await Promise.all([state.end(), target.end(), slack.stop(), github.stop()])
      await rm(folder, { recursive: true, force: true })
    },
  }
}
