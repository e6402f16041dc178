import { execFile } from "node:child_process"
import { randomUUID } from "node:crypto"
import { once } from "node:events"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import pg from "pg"

import { connectPostgres } from "../../playground/postgres.ts"
import type { Actor, ChannelLookup, Deps, People } from "../../src/commands/ports.ts"
import { approve } from "../../src/commands/approve.ts"
import { requestRollback } from "../../src/commands/request.ts"
import { createWorkshop, type WorkDeps } from "../../src/jobs/work.ts"
import { createLogger } from "../../src/log.ts"
import { checkPlanSource } from "../../src/plans/load.ts"
import type { Person } from "../../src/rollback/eligibility.ts"
import { createTargetPools } from "../../src/steps/target.ts"
import { createPool } from "../../src/store/database.ts"
import { migrate } from "../../src/store/migrate.ts"
import type { StoredRollback } from "../../src/store/rows.ts"
import { createStore } from "../../src/store/store.ts"
import { mayAct } from "../../src/commands/ports.ts"

const run = promisify(execFile)

export const plan = `
version: 1
environment: shop
title: Prices back to 1
target: { postgres: "\${SHOP_DATABASE_URL}", http: "\${SHOP_URL}" }
params:
  good: { type: string, default: "1" }
  ref: { type: git_ref, default: good }
approve:
  low: { count: 1, from: anyone }
  medium: { count: 2, from: [S0ONCALL, U0LEAD] }
  high: { count: 2, from: [S0ONCALL, U0LEAD] }
components:
  prices:
    risk: low
    steps:
      - id: set
        sql: update config set value = $1 where key = 'version'
        params: [good]
        expect: { rows: 1 }
  data:
    risk: medium
    optional: true
    steps:
      - id: remove
        sql: delete from quotes where version = $1
        params: [good]
        expect: { rows: 0..10 }
  service:
    risk: low
    optional: true
    steps:
      - id: deploy
        command: [./deploy.sh, $good, $ref]
        cwd: \${SHOP_REPO}
        effect: keyed
        undo: [./deploy.sh, undo, $ref]
  answer:
    risk: low
    optional: true
    steps:
      - id: ask
        http: { path: /$good, headers: { Authorization: "Bearer \${SHOP_KEY}", X-Label: $good } }
        expect: { json: { /label: "1" } }
`

/** A workspace, a state database, a target and a worker, all of which a test may lie about. */
export type Town = Awaited<ReturnType<typeof startTown>>

export async function startTown(postgresUrl: string) {
  const server = connectPostgres(postgresUrl)
  const suffix = randomUUID().slice(0, 8)
  const [stateUrl, targetUrl, otherUrl] = await Promise.all(
    ["state", "target", "other"].map((name) => server.createDatabase(`town_${name}_${suffix}`)),
  )
  const log = createLogger({ level: "silent", role: "all" })
  const state = createPool(stateUrl as string, { log, max: 12 })
  await migrate(state)
  const target = new pg.Pool({ connectionString: targetUrl, max: 2 })
  const makeShop =
    "create table config (key text primary key, value text); create table quotes (id int primary key, version text)"
  await target.query(`${makeShop}; insert into config values ('version', '2')`)
  const other = new pg.Client({ connectionString: otherUrl })
  await other.connect()
  await other.query(`${makeShop}; insert into config values ('version', '2')`)
  await other.end()
  const repo = await makeRepository()
  const site = await startSite()
  const environment: Record<string, string | undefined> = {
    PATH: process.env["PATH"],
    SHOP_DATABASE_URL: targetUrl,
    SHOP_URL: site.url,
    SHOP_REPO: repo,
    SHOP_KEY: "key-that-nobody-may-see",
    SHOP_OTHER_SECRET: "another-team's-secret",
  }
  const written = { source: plan }
  const workspace = startWorkspace()
  const store = createStore(state)
  const deps: Deps = {
    store,
    people: workspace.people,
    plans: {
      load: async () => {
        const checked = await checkPlanSource("plans/shop.yaml", written.source)
        if (!checked.plan)
          return {
            plans: new Map(),
            invalid: [{ file: "plans/shop.yaml", environment: "shop", problems: checked.problems }],
          }
        return { plans: new Map([["shop", checked.plan]]), invalid: [] }
      },
    },
    ring: () => undefined,
    wakeOutbox: () => undefined,
    newId: randomUUID,
  }
  const targets = createTargetPools(log)
  const stillAllowed = async (userIds: string[], from: "anyone" | string[]) => {
    const answers = await Promise.all(userIds.map((userId) => mayAct(deps.people, userId, from)))
    return answers.every((answer) => answer === null)
  }
  const workDeps: WorkDeps = { ...deps, targets, environment, log, stillAllowed }
  const workshop = createWorkshop(workDeps, "worker")
  /** A rollback with its card: asked for, rehearsed, waiting. */
  async function card(
    words: { with?: string[]; parameters?: Record<string, string>; reason?: string; by?: string } = {},
  ): Promise<StoredRollback> {
    const asked = await requestRollback(
      {
        environment: "shop",
        selection: { only: null, with: words.with ?? [], parameters: words.parameters ?? {} },
        reason: words.reason ?? "prices are off",
        channelId: "C0SHOP",
        actor: as(words.by ?? "U0ALICE"),
        rehearsalOnly: false,
      },
      deps,
    )
    if (asked.kind !== "requested") throw new Error(JSON.stringify(asked))
    await workshop.work(asked.rollback.id)
    return store.rollbacks.get(asked.rollback.id)
  }
  async function press(waiting: StoredRollback): Promise<void> {
    const outcome = await approve({ token: waiting.token ?? "", actor: as("U0BOB") }, deps)
    if (outcome.kind !== "approved") throw new Error(JSON.stringify(outcome))
  }
  return {
    state,
    stateUrl: stateUrl as string,
    target,
    store,
    deps,
    workspace,
    written,
    environment,
    site,
    repo,
    otherUrl: otherUrl as string,
    workDeps,
    work: (id: string) => workshop.work(id),
    git: (...parts: string[]) => git(repo, parts),
    /** What the target's configuration says: "2" until a rollback ran. */
    version: async () => (await target.query<{ value: string }>("select value from config")).rows[0]?.value,
    /** The step that sets the version finds no row, or finds it again. */
    breakTarget: () => target.query("delete from config"),
    mendTarget: () => target.query("insert into config values ('version', '2')"),
    reset: async () => {
      written.source = plan
      Object.assign(environment, { SHOP_DATABASE_URL: targetUrl, SHOP_KEY: "key-that-nobody-may-see" })
      workspace.reset()
      site.reset()
      await writeDeploy(repo)
      await git(repo, ["tag", "--force", "good", "HEAD~1"])
      await target.query("truncate config, quotes; insert into config values ('version', '2')")
      await state.query(
        "update stepback.rollbacks set state = 'expired' where state in ('preparing', 'awaiting_approval', 'approved', 'running')",
      )
    },
    card,
    /** Bob presses Approve, and one approval is enough. */
    press,
    get: ({ id }: { id: string }) => store.rollbacks.get(id),
    /** Asked for, approved, worked on to its end. */
    async ran(): Promise<StoredRollback> {
      const waiting = await card()
      await press(waiting)
      await workshop.work(waiting.id)
      return store.rollbacks.get(waiting.id)
    },
    async stop() {
      await workshop.close(0)
      await Promise.all([
        targets.close(),
        target.end(),
        state.end(),
        site.close(),
        rm(repo, { recursive: true, force: true }),
      ])
    },
  }
}

export function as(userId: string, teamId: string | null = "T0HOME"): Actor {
  return { userId, teamId, requestKey: randomUUID() }
}

const person = (id: string, facts: Partial<Person> = {}): Person => ({
  id,
  teamId: "T0HOME",
  isBot: false,
  isGuest: false,
  isStranger: false,
  isDeactivated: false,
  ...facts,
})

function startWorkspace() {
  const known = new Map<string, Person | "silent">()
  const groups = new Map<string, string[] | null>()
  const channels = new Map<string, ChannelLookup>()
  let home: string[] = []
  const reset = () => {
    home = ["T0HOME"]
    channels.clear()
    known.clear()
    for (const id of ["U0ALICE", "U0BOB", "U0CAROL", "U0LEAD", "U0DAVE"]) known.set(id, person(id))
    known.set("U0GUEST", person("U0GUEST", { isGuest: true }))
    known.set("U0ROBOT", person("U0ROBOT", { isBot: true }))
    known.set("U0GONE", person("U0GONE", { isDeactivated: true }))
    known.set("U0STRANGER", person("U0STRANGER", { isStranger: true }))
    known.set("U0ELSEWHERE", person("U0ELSEWHERE", { teamId: "T0ELSEWHERE" }))
    known.set("U0NOWHERE", person("U0NOWHERE", { teamId: null }))
    known.set("U0SILENT", "silent")
    groups.set("S0ONCALL", ["U0BOB", "U0CAROL"])
  }
  reset()
  const people: People = {
    homeTeams: async () => home,
    find: async (userId) => {
      const found = known.get(userId)
      if (found === "silent") return { kind: "unreachable" }
      return found ? { kind: "person", person: found } : { kind: "unknown" }
    },
    members: async (group) => groups.get(group) ?? null,
    channel: async (id) => channels.get(id) ?? { kind: "ok" },
  }
  return { people, reset, known, groups, channels, person, forgetHome: () => (home = []) }
}

const fine = JSON.stringify({ label: "1" })

async function startSite() {
  const answer = { status: 200, body: fine, headers: {} as Record<string, string> }
  const seen: { url: string; headers: Record<string, unknown> }[] = []
  let failing = 0
  const server = createServer((request, response) => {
    seen.push({ url: request.url ?? "", headers: request.headers })
    response.writeHead(failing-- > 0 ? 500 : answer.status, answer.headers).end(answer.body)
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    answer,
    seen,
    failNext: (times: number) => void (failing = times),
    reset: () => {
      failing = 0
      Object.assign(answer, { status: 200, body: fine, headers: {} })
      seen.length = 0
    },
    close: async () => {
      server.close()
      server.closeAllConnections()
      await once(server, "close")
    },
  }
}

const writeDeploy = (repo: string, text = 'echo "$@" > deployed.txt') =>
  writeFile(join(repo, "deploy.sh"), `#!/bin/sh\n${text}\n`, { mode: 0o755 })

async function git(repo: string, parts: string[]): Promise<string> {
  const identity = ["-c", "user.name=Town", "-c", "user.email=town@localhost", "-c", "commit.gpgsign=false"]
  return (await run("git", [...identity, ...parts], { cwd: repo })).stdout.trim()
}

async function makeRepository(): Promise<string> {
  const repo = await mkdtemp(join(tmpdir(), "stepback-town-"))
  await git(repo, ["init", "--quiet", "--initial-branch=main"])
  await writeDeploy(repo)
  for (const subject of ["good", "bad"]) await git(repo, ["commit", "--quiet", "--allow-empty", "--message", subject])
  await git(repo, ["tag", "good", "HEAD~1"])
  return repo
}
