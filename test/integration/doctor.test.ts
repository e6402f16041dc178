import { execFile, spawnSync } from "node:child_process"
import { randomUUID } from "node:crypto"
import { once } from "node:events"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { createServer, type AddressInfo, type Server, type Socket } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import pg from "pg"
import { afterAll, beforeAll, expect, it, inject, vi } from "vitest"
import { startLocalGitHub } from "../../playground/github/local-github.ts"
import { connectPostgres, startPostgres } from "../../playground/postgres.ts"
import { startRedisCluster } from "../../playground/redis-group.ts"
import { ask, findRedis, startRedis } from "../../playground/redis.ts"
import { startLocalSlack, type LocalSlack } from "../../playground/slack/local-slack.ts"
import { startStagingWorld, type StagingWorld } from "../../playground/staging-world/staging-world.ts"
import { compileCache } from "../../playground/stepback-process.ts"
import { initLedger } from "../../src/steps/ledger.ts"
import { freshState } from "./store-fixture.ts"

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 })

const root = fileURLToPath(new URL("../..", import.meta.url))
const node = join(root, "node_modules", ".bin", "node")
const secret = "hunter2-sekrit"
const away = `postgres://u:${secret}@127.0.0.1:1/x`

type Ended = { code: number; out: string }
type Environment = Record<string, string>

let slack: LocalSlack
let world: StagingWorld
let database: pg.Pool
let folder: string
let healthy: Environment

beforeAll(async () => {
  const name = `doctor_${randomUUID().slice(0, 8)}`
  slack = await startLocalSlack()
  world = await startStagingWorld({ postgres: connectPostgres(inject("postgresUrl")), database: name })
  database = new pg.Pool({ connectionString: world.databaseUrl, max: 1 })
  folder = await mkdtemp(join(tmpdir(), "stepback-doctor-"))
  const { url, pool } = await freshState()
  await pool.end()
  healthy = {
    ...world.env,
    DATABASE_URL: url,
    SLACK_BOT_TOKEN: slack.botToken,
    SLACK_SIGNING_SECRET: slack.signingSecret,
    SLACK_API_URL: slack.apiUrl,
  }
})
afterAll(async () => {
  await database.end()
  await Promise.all([slack.stop(), world.stop(), rm(folder, { recursive: true, force: true })])
})

/** Runs doctor as a person does. Whatever it finds, it tells no secret. */
async function doctor(changes: Environment = {}): Promise<Ended> {
  const env = { PATH: process.env["PATH"], HOME: tmpdir(), NODE_COMPILE_CACHE: compileCache, ...healthy, ...changes }
  const ended = await new Promise<Ended & { err: string }>((resolve) => {
    const child = execFile(node, ["src/cli.ts", "doctor"], { cwd: root, env }, (_error, out, err) =>
      resolve({ code: child.exitCode ?? -1, out, err }),
    )
  })
  for (const hidden of [secret, slack.botToken, slack.signingSecret])
    expect(ended.out + ended.err).not.toContain(hidden)
  expect(ended.err).toBe("")
  return ended
}

/** One finding, which ends it with 1 and says the way out. */
function finds({ code, out }: Ended, finding: string, wayOut: string): void {
  expect(out).toMatch(new RegExp(`^✗ ${finding}.* → .*${wayOut}`, "m"))
  expect(out).toMatch(/things? (?:is|are) wrong\.$/m)
  expect(code).toBe(1)
}

it("finds nothing where nothing is wrong", async () => {
  const { code, out } = await doctor()
  expect(out).not.toContain("✗")
  expect(out).toContain("✓ Slack: the token has every scope of manifest.json")
  expect(out).toContain("✓ state database: migrations are current")
  expect(out).toMatch(/Nothing is wrong\.$/m)
  expect(code).toBe(0)
})

it("a wrong token", async () => {
  finds(await doctor({ SLACK_BOT_TOKEN: `xoxb-${secret}` }), "Slack: auth.test: invalid_auth", "Install App")
})

it("a folder of plans that is not there", async () => {
  finds(await doctor({ STEPBACK_PLANS: "/not/there" }), "/not/there:1:1: the folder of plans", "check STEPBACK_PLANS")
})

it("a missing scope", async () => {
  const few = await startLocalSlack({ scopes: ["commands"] })
  const ended = await doctor({ SLACK_BOT_TOKEN: few.botToken, SLACK_API_URL: few.apiUrl })
  await few.stop()
  finds(ended, "Slack: the token lacks channels:history", "manifest.json")
  expect(ended.out).not.toContain(few.botToken)
})

it("unreachable databases and Redis, and a missing variable, all at once", async () => {
  const ended = await doctor({
    DATABASE_URL: away,
    REDIS_URL: `redis://:${secret}@127.0.0.1:1`,
    STAGING_DATABASE_URL: away,
    STAGING_URL: "",
  })
  finds(ended, "state database: .*ECONNREFUSED", "check DATABASE_URL")
  finds(ended, "queue: Redis: .*ECONNREFUSED", "check REDIS_URL")
  finds(ended, "staging: target database: .*ECONNREFUSED", "target.postgres")
  finds(ended, "staging: STAGING_URL is missing", "set it")
})

it("a state database that is older or newer than the code", async () => {
  const older = await freshState({ migrated: false })
  finds(
    await doctor({ DATABASE_URL: older.url }),
    "state database: not migrated yet .*001-state",
    "start Stepback once",
  )
  const newer = await freshState()
  await newer.pool.query("insert into stepback.migrations (name) values ('999-later.sql')")
  await Promise.all([older.pool.end(), newer.pool.end()])
  finds(
    await doctor({ DATABASE_URL: newer.url }),
    "state database: migrated by a newer .*999-later",
    "run that version",
  )
})

it("a standby, as target and as state database", async () => {
  // The package has no pg_basebackup: a copy of a cluster that was shut down, told to stay in recovery, is the same.
  const home = await mkdtemp(join(tmpdir(), "stepback-standby-"))
  const copy = `${home}-copy`
  const primary = await startPostgres({ dataDir: home })
  await primary.stop()
  expect(spawnSync("cp", ["-a", home, copy]).status).toBe(0)
  expect(spawnSync("cp", ["-p", join(copy, "data", "PG_VERSION"), join(copy, "data", "standby.signal")]).status).toBe(0)
  const standby = await startPostgres({ dataDir: copy })
  const ended = await doctor({ STAGING_DATABASE_URL: standby.url(), DATABASE_URL: standby.url() })
  await standby.stop()
  for (const used of [home, copy]) await rm(used, { recursive: true, force: true })
  finds(ended, "staging: the target is a standby", "the primary")
  finds(ended, "state database: it is a standby", "the primary")
})

let narrow: Promise<Ended> | undefined
/** A role that may only read, on tables with a policy and a trigger. */
function asNarrowRole(): Promise<Ended> {
  const run = async () => {
    const role = `narrow_${randomUUID().slice(0, 8)}`
    await database.query(`create role ${role} login password '${secret}'; grant select on all tables in schema public to ${role};
      alter table profiles enable row level security;
      create function tell() returns trigger language plpgsql as $$ begin perform pg_notify('x', 'y'); return null; end $$;
      create trigger telling after update on scoring_config execute function tell()`)
    const url = Object.assign(new URL(world.databaseUrl), { username: role, password: secret }).href
    return doctor({ STAGING_DATABASE_URL: url })
  }
  return (narrow ??= run())
}

it("a role without a privilege", async () => {
  finds(
    await asNarrowRole(),
    String.raw`staging: table scoring_config: \w+ may not .*update`,
    'grant .*update.* on "scoring_config" to narrow_',
  )
})

it("a role that may do what the plan does and not what its undo would", async () => {
  const role = `halfway_${randomUUID().slice(0, 8)}`
  await database.query(`create role ${role} login password '${secret}';
    grant select, delete on all tables in schema public to ${role}`)
  const url = Object.assign(new URL(world.databaseUrl), { username: role, password: secret }).href
  finds(
    await doctor({ STAGING_DATABASE_URL: url }),
    String.raw`staging: table profiles: \w+ may not insert, update`,
    `grant insert, update on "profiles" to ${role}`,
  )
})

it("policies that would hide rows from the role", async () => {
  finds(await asNarrowRole(), "staging: table profiles: row-level security would hide rows from narrow_", "bypassrls")
})

it("a role whose foreign keys sleep, and which may not wake them", async () => {
  const role = `asleep_${randomUUID().slice(0, 8)}`
  await database.query(
    `create role ${role} login password '${secret}'; alter role ${role} set session_replication_role = replica`,
  )
  const url = Object.assign(new URL(world.databaseUrl), { username: role, password: secret }).href
  finds(
    await doctor({ STAGING_DATABASE_URL: url }),
    'staging: no step can begin: permission denied to set parameter "session_replication_role"',
    "alter role … reset",
  )
})

it("a ledger that is missing and that the role may not create", async () => {
  finds(await asNarrowRole(), "staging: there is no ledger, and the role may not create it", "--print")
})

it("a ledger that the role may read and not work with", async () => {
  const url = await connectPostgres(inject("postgresUrl")).createDatabase(`ledger_${randomUUID().slice(0, 8)}`)
  const role = `worker_${randomUUID().slice(0, 8)}`
  const owner = new pg.Pool({ connectionString: url, max: 1 })
  await initLedger(owner)
  await owner.query(`create role ${role} login password '${secret}'; grant usage, create on schema stepback_ledger to ${role};
    grant select, insert, update, delete on all tables in schema stepback_ledger to ${role}`)
  const checked = () =>
    doctor({ STAGING_DATABASE_URL: Object.assign(new URL(url), { username: role, password: secret }).href })
  const there = "✓ staging: ledger and archive are there"
  expect((await checked()).out).toContain(there)
  await owner.query(`revoke create on schema stepback_ledger from ${role};
    revoke update on stepback_ledger.fence, stepback_ledger.before_images from ${role}`)
  finds(
    await checked(),
    "staging: the role may not write to the ledger: it lacks create on its schema, update on fence, update on before_images",
    "--print",
  )
  await owner.query(`grant create on schema stepback_ledger to ${role};
    grant update (epoch) on stepback_ledger.fence to ${role}; grant update (after_text) on stepback_ledger.before_images to ${role}`)
  expect((await checked()).out).toContain(there)
  await owner.end()
})

it("archives of a role that ran before", async () => {
  const url = await connectPostgres(inject("postgresUrl")).createDatabase(`kept_${randomUUID().slice(0, 8)}`)
  const archive = `stepback_ledger.archive_${randomUUID().replaceAll("-", "")}`
  const role = `worker_${randomUUID().slice(0, 8)}`
  const owner = new pg.Pool({ connectionString: url, max: 1 })
  await initLedger(owner)
  await owner.query(`create role ${role} login password '${secret}'; grant usage, create on schema stepback_ledger to ${role};
    grant select, insert, update, delete on all tables in schema stepback_ledger to ${role};
    create table ${archive} (id integer);
    insert into stepback_ledger.archives (name, rollback_id, step_id, relation, columns, depth)
    values ('${archive}', gen_random_uuid(), 'remove', 'public.profiles', '[]', 0)`)
  const checked = () =>
    doctor({ STAGING_DATABASE_URL: Object.assign(new URL(url), { username: role, password: secret }).href })
  const cure = `alter table ${archive} owner to "${role}";`
  const ended = await checked()
  finds(ended, "staging: 1 of the archive's tables belong to another role", cure)
  await owner.query(cure)
  expect((await checked()).out).not.toContain("another role")
  await owner.end()
})

it("a trigger that calls out", async () => {
  // Worth knowing, not wrong: the card lists it and the risk goes up.
  expect((await asNarrowRole()).out).toMatch(
    /^! staging: table scoring_config: trigger telling runs tell, which seems to call out of the database → .*disable it/m,
  )
})

it.skipIf(findRedis() === null)("a Redis that throws keys away when it is full", async () => {
  const redis = await startRedis()
  expect((await doctor({ REDIS_URL: redis.url })).out).toContain("✓ queue: maxmemory-policy is noeviction")
  await ask(redis.port, "CONFIG SET maxmemory-policy allkeys-lru")
  const ended = await doctor({ REDIS_URL: redis.url })
  await redis.stop()
  finds(ended, "queue: maxmemory-policy is allkeys-lru", "set maxmemory-policy noeviction")
})

it.skipIf(findRedis() === null)("a Cluster of which one server throws keys away", async () => {
  const { servers, stop } = await startRedisCluster()
  await ask(servers[2]?.port ?? 0, "CONFIG SET maxmemory-policy allkeys-lru")
  const ended = await doctor({ REDIS_URL: `${servers[0]?.url},${servers[1]?.url}` })
  await stop()
  expect(ended.out).toContain("✓ queue: maxmemory-policy is noeviction")
  finds(ended, "queue: maxmemory-policy is allkeys-lru", "set maxmemory-policy noeviction")
})

let strangers: Promise<Ended> | undefined
/** A plan that names groups, people and a channel that are not there. */
function withStrangers(): Promise<Ended> {
  const run = async () => {
    slack.addChannel({ id: "C0NOBOT", name: "no-bot", botIsMember: false })
    const plan = `version: 1
environment: shop
title: Shop
channel: C0NOBOT
target: { http: "\${STAGING_URL}" }
approve:
  low: { count: 1, from: [U0BOB, U0NOBODY] }
  medium: { count: 1, from: [S0NOGROUP, S0ONCALL] }
  high: { count: 1, from: [U0GONE, U0GUEST, U0ROBOT] }
components:
  all:
    title: All
    risk: low
    steps: [{ id: look, http: { method: GET, path: / }, effect: none, expect: { status: 200 } }]
`
    await writeFile(join(folder, "shop.yaml"), plan)
    return doctor({ STEPBACK_PLANS: folder })
  }
  return (strangers ??= run())
}

it("an unknown user group in a plan", async () => {
  const ended = await withStrangers()
  finds(ended, "Slack: there is no user group S0NOGROUP .*shop.yaml", "copy the id")
  expect(ended.out).toContain("✓ Slack: user group S0ONCALL is @oncall")
})

it("unknown people in a plan, and those who could never decide", async () => {
  const ended = await withStrangers()
  finds(ended, "Slack: there is no user U0NOBODY .*shop.yaml", "copy the member id")
  for (const [id, why] of [
    ["U0GONE", "is deactivated"],
    ["U0GUEST", "is a guest"],
    ["U0ROBOT", "is a bot"],
  ])
    finds(ended, `Slack: user ${id} ${why}`, "name somebody else")
  expect(ended.out).toContain("✓ Slack: user U0BOB is @bob")
})

it("a channel in a plan that the bot is not in", async () => {
  finds(await withStrangers(), "Slack: the bot is not in channel C0NOBOT .*shop.yaml", "/invite")
})

it("a workflow that cannot be started, or not be found again", async () => {
  const source = "on: { workflow_dispatch: { inputs: { stepback_id: { required: true } } } }"
  const github = await startLocalGitHub({
    repo: "acme/shop",
    refs: { main: "9f8e7d6c5b4a39281706f5e4d3c2b1a098765432" },
    workflows: { "named.yml": `run-name: deploy \${{ inputs.stepback_id }}\n${source}`, "plain.yml": source },
  })
  const plans = await mkdtemp(join(tmpdir(), "stepback-plans-"))
  const step = (id: string, file: string, ref: string) =>
    `      - { id: ${id}, workflow: { repo: acme/shop, file: ${file}, ref: ${ref}, token: "\${GH_TOKEN}", api: "${github.url}" }, irreversible: a test }`
  const plan = `version: 1
environment: shop
title: A shop
target: { http: "\${STAGING_URL}" }
approve: { low: { count: 1, from: anyone }, medium: { count: 1, from: anyone }, high: { count: 1, from: anyone } }
components:
  all:
    risk: low
    steps:
${[step("named", "named.yml", "main"), step("plain", "plain.yml", "main"), step("none", "none.yml", "main"), step("branch", "named.yml", "gone")].join("\n")}
`
  await writeFile(join(plans, "shop.yaml"), plan)
  try {
    const ended = await doctor({ STEPBACK_PLANS: plans, GH_TOKEN: github.token })
    expect(ended.out).toContain("✓ shop: named: named.yml of acme/shop at main (9f8e7d6) (not started)")
    finds(ended, 'shop: Plain: plain.yml does not name its runs.*write "run-name', "change the workflow's file")
    finds(ended, "shop: none: GitHub does not find it", "file")
    finds(ended, "shop: branch: .*gone", "ref")
    expect(github.runs()).toEqual([])
    const wrong = await doctor({ STEPBACK_PLANS: plans, GH_TOKEN: "ghp_wrong" })
    finds(wrong, "shop: named: .*GH_TOKEN", "token")
    expect(wrong.out).not.toContain("ghp_wrong")
  } finally {
    await github.stop()
    await rm(plans, { recursive: true, force: true })
  }
})

it("ends in time when every host takes the connection and says nothing", async () => {
  const sockets = new Set<Socket>()
  const silent: Server = createServer((socket) => sockets.add(socket.on("error", () => {})))
  await once(silent.listen(0, "127.0.0.1"), "listening")
  const { port } = silent.address() as AddressInfo
  const ended = await doctor({
    DATABASE_URL: `postgres://u:${secret}@127.0.0.1:${port}/x`,
    REDIS_URL: `redis://:${secret}@127.0.0.1:${port}`,
    STAGING_DATABASE_URL: `postgres://u:${secret}@127.0.0.1:${port}/x`,
    STAGING_URL: `http://127.0.0.1:${port}`,
    SLACK_API_URL: `http://127.0.0.1:${port}/api/`,
  })
  for (const socket of sockets) socket.destroy()
  silent.close()
  finds(ended, "state database: ", "check DATABASE_URL")
  finds(ended, "queue: Redis: no answer", "check REDIS_URL")
  finds(ended, "Slack: auth.test: ", "check the network")
  finds(ended, "staging: target database: ", "target.postgres")
})
