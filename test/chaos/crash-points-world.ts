import { randomUUID } from "node:crypto"
import { once } from "node:events"
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import pg from "pg"
import { startLocalGitHub, type LocalGitHub } from "../../playground/github/local-github.ts"
import type { Postgres } from "../../playground/postgres.ts"
import { capture } from "../../src/jobs/serve-baselines.ts"
import { createLogger } from "../../src/log.ts"
import { checkPlanSource } from "../../src/plans/load.ts"
import type { LoadedPlan } from "../../src/plans/plan.ts"
import { createSecrets } from "../../src/steps/secrets.ts"
import { createTargetPools } from "../../src/steps/target.ts"
import { createPool } from "../../src/store/database.ts"
import { migrate } from "../../src/store/migrate.ts"
import { createStore, type Store } from "../../src/store/store.ts"

export const log = createLogger({ level: "fatal", role: "all" })
export const environmentName = "lab"

/** The steps of the plan in order: one of every kind whose repetition or loss would be seen. */
export const stepIds = [
  "first",
  "remove",
  "settings",
  "look",
  "keyed",
  "program",
  "blind",
  "deploy",
  "hand",
  "last",
] as const

const planSource = (githubUrl: string) => `version: 1
environment: ${environmentName}
title: Each once
target: { postgres: "\${LAB_DATABASE_URL}", http: "\${LAB_URL}" }
approve:
  low: { count: 1, from: anyone }
  medium: { count: 1, from: anyone }
  high: { count: 1, from: anyone }
baseline: { tables: [{ table: settings, key: [name] }] }
components:
  data:
    risk: low
    steps:
      - { id: first, sql: "update counters set n = n + 1 where id = 1", expect: { rows: 1 } }
      - { id: remove, purge: { table: orders, where: "bad", cascade: [lines], at_most: 1000, max_share: 60%, batch: 1 }, expect: { rows: rehearsed } }
      - { id: settings, restore: { table: settings } }
      - { id: look, check: "select n from counters where id = 1", expect: { rows: 1 } }
  outside:
    risk: low
    steps:
      - { id: keyed, http: { method: POST, path: /keyed }, effect: keyed, irreversible: it counts }
      - { id: program, command: [./mark.sh], cwd: "\${LAB_FOLDER}", effect: keyed, irreversible: it counts }
      - { id: blind, http: { method: POST, path: /blind }, effect: blind, irreversible: it counts }
      - id: deploy
        workflow: { repo: acme/lab, file: deploy.yml, ref: main, token: "\${LAB_TOKEN}", api: "${githubUrl}" }
        irreversible: it counts
      - { id: hand, manual: look at the lamp }
      - { id: last, sql: "update counters set n = n + 1 where id = 2", expect: { rows: 1 } }
`

const workflow = `name: Deploy
run-name: deploy \${{ inputs.stepback_id }}
on: { workflow_dispatch: { inputs: { stepback_id: { required: true } } } }
jobs: {}
`

const schema = `
  create table counters (id integer primary key, n integer not null);
  create table orders (id integer primary key, bad boolean not null, pad text not null);
  create table lines (id integer primary key, order_id integer not null references orders on delete cascade);
  create index on lines (order_id);
  create table settings (name text primary key, value text not null);
  create table seen (relation text not null, operation text not null);
  create function see() returns trigger language plpgsql as $$
    begin insert into seen values (tg_table_name, lower(tg_op)); return null; end $$;
  create trigger see after insert or update or delete on counters for each row execute function see();
  create trigger see after insert or update or delete on orders for each row execute function see();
  create trigger see after insert or update or delete on lines for each row execute function see();
  create trigger see after insert or update or delete on settings for each row execute function see()`

/** Some 30 rows on four pages: the purge takes two or three batches. */
const fill = `truncate counters, orders, lines, settings, seen;
  insert into counters values (1, 0), (2, 0);
  insert into settings values ('speed', 'good'), ('depth', 'good');
  insert into orders select n, n % 2 = 0, repeat('x', 900) from generate_series(1, 32) n;
  insert into lines select n, (n - 1) % 32 + 1 from generate_series(1, 64) n`

/** A program that tells of itself: its key, and whether one of the same was still at work. */
const program = `#!/bin/sh
if [ -e busy ] && kill -0 "$(cat busy)" 2>/dev/null; then echo overlap >> marks; fi
echo $$ > busy
echo "$IDEMPOTENCY_KEY" >> marks
sleep 0.01
rm -f busy
`

export type World = {
  stateUrl: string
  /** Looks from outside, and people who outlive every worker. */
  state: pg.Pool
  store: Store
  target: pg.Pool
  plan: LoadedPlan
  github: LocalGitHub
  environment: Record<string, string | undefined>
  /** Everything as it was before the request. */
  reset(): Promise<void>
  /** Keys of the requests that took effect, in order, by path. */
  requests(path: "/keyed" | "/blind"): string[]
  marks(): Promise<string[]>
  stop(): Promise<void>
}

/** State, target, a site, a GitHub and a folder of its own. */
export async function startWorld(postgres: Postgres): Promise<World> {
  const name = randomUUID().slice(0, 8)
  const [stateUrl, targetUrl, folder, site, github] = await Promise.all([
    postgres.createDatabase(`state_${name}`),
    postgres.createDatabase(`lab_${name}`),
    mkdtemp(join(tmpdir(), "stepback-lab-")),
    startSite(),
    startLocalGitHub({ repo: "acme/lab", refs: { main: "9".repeat(40) }, workflows: { "deploy.yml": workflow } }),
  ])
  await writeFile(join(folder, "mark.sh"), program)
  await chmod(join(folder, "mark.sh"), 0o755)
  const environment = {
    PATH: process.env["PATH"],
    LAB_DATABASE_URL: targetUrl,
    LAB_URL: site.url,
    LAB_FOLDER: folder,
    LAB_TOKEN: github.token,
  }
  const { plan, problems } = await checkPlanSource("lab.yaml", planSource(github.url))
  if (plan === null) throw new Error(JSON.stringify(problems))
  const state = createPool(stateUrl, { log, max: 4 })
  await migrate(state)
  const store = createStore(state)
  const target = new pg.Pool({ connectionString: targetUrl, max: 3 })
  for (const pool of [state, target]) pool.on("error", () => {})
  await target.query(`${schema}; ${fill}`)
  const targets = createTargetPools(log)
  const { baseline } = await capture(plan.plan, "baseline", "<@U1ALICE>", createSecrets(environment), { targets })
  await store.baselines.keep(baseline)
  await targets.close()
  let over = false
  void finishRuns(github, () => over)
  const forgetMarks = () => Promise.all(["marks", "busy"].map((file) => rm(join(folder, file), { force: true })))
  return {
    stateUrl,
    state,
    store,
    target,
    plan,
    github,
    environment,
    async reset() {
      site.forget()
      github.repository.runs.length = 0
      await Promise.all([
        forgetMarks(),
        target.query(`${fill}; update settings set value = 'bad' where name = 'speed'; truncate seen`),
      ])
    },
    requests: site.requests,
    marks: async () => (await readFile(join(folder, "marks"), "utf8").catch(() => "")).split("\n").filter(Boolean),
    async stop() {
      over = true
      await Promise.all([state.end(), target.end(), site.stop(), github.stop(), rm(folder, { recursive: true })])
    },
  }
}

/** What is dispatched succeeds. */
async function finishRuns(github: LocalGitHub, over: () => boolean): Promise<void> {
  const asked = github.asked("/dispatches")
  await asked
  const timer = setInterval(() => {
    if (over()) return clearInterval(timer)
    for (const run of github.runs()) if (run.status !== "completed") github.finish(run, "success")
  }, 2)
}

/** Effects happen a moment after a request has come in, whether somebody still waits for the answer or not. */
async function startSite() {
  const done: { path: string; key: string }[] = []
  const server = createServer((request, response) => {
    request.resume()
    const { url = "", headers } = request
    setTimeout(() => {
      done.push({ path: url, key: String(headers["idempotency-key"] ?? "") })
      response.end("{}")
    }, 2)
  }).listen(0, "127.0.0.1")
  await once(server, "listening")
  // Lives share one client: a link that is closed for having rested is no matter of theirs.
  server.keepAliveTimeout = 600_000
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests: (path: string) => done.filter((one) => one.path === path).map((one) => one.key),
    forget: () => void (done.length = 0),
    stop: async () => {
      server.close()
      server.closeAllConnections()
      await once(server, "close")
    },
  }
}
