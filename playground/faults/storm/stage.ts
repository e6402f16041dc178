import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import pg from "pg"
import { startPostgres, unsynced, type Postgres } from "../../postgres.ts"
import { findRedis, startRedis, type Redis } from "../../redis.ts"
import { startLocalSlack, type LocalSlack } from "../../slack/local-slack.ts"
import { startStepback } from "../../stepback-process.ts"
import { startPostgresProxy, type PostgresProxy } from "../proxy.ts"
import { startCrew, type Crew } from "./crew.ts"
import { mountSmallDisk, type SmallDisk } from "./disk.ts"
import { createWorld, environments, targetSchema, type World } from "./world.ts"

/** A server that can crash, be cut off and run out of room, one of them at a time. */
export type Server = {
  name: "state" | "target"
  postgres: Postgres
  /** By which all of Stepback reaches it. */
  proxy: PostgresProxy
  /** Or why there is none. */
  disk: SmallDisk | { why: string }
  /** One after the other: a server whose disk is full cannot recover, and that is not what is tried. */
  alone<T>(work: () => Promise<T>): Promise<T>
}

export type StormStage = {
  state: Server
  target: Server
  redis: Redis | null
  slack: LocalSlack
  world: World
  crew: Crew
  /** Straight to the servers, for who looks on. */
  look: { state: pg.Pool; targets: Map<string, pg.Pool> }
  stop(): Promise<void>
}

/** Room for what a long storm leaves. */
const megabytes = { state: 640, target: 256 }

export async function startStormStage(): Promise<StormStage> {
  const home = await mkdtemp(join(tmpdir(), "stepback-storm-"))
  const undo: (() => Promise<unknown>)[] = [() => rm(home, { recursive: true, force: true })]
  try {
    return await build(home, undo)
  } catch (error) {
    for (const step of undo.reverse()) await step().catch(() => undefined)
    throw error
  }
}

async function build(home: string, undo: (() => Promise<unknown>)[]): Promise<StormStage> {
  const keep = <T>(made: T, end: (made: T) => Promise<unknown>): T => {
    undo.push(() => end(made))
    return made
  }
  const [state, target] = await Promise.all([startServer("state", undo), startServer("target", undo)])
  const redis = findRedis() === null ? null : keep(await startRedis(), (server) => server.stop())
  const slack = keep(await startLocalSlack(), (server) => server.stop())
  const world = keep(await createWorld(home), (made) => made.stop())
  for (const environment of environments) slack.addChannel({ id: `C0${environment.toUpperCase()}`, name: environment })
  const look = {
    state: quietPool(await createDatabase(state, "stepback")),
    targets: new Map<string, pg.Pool>(),
  }
  const urls: Record<string, string> = {}
  for (const environment of environments) {
    const url = await createDatabase(target, environment)
    const pool = quietPool(url)
    await pool.query(targetSchema)
    look.targets.set(environment, pool)
    urls[`${environment.toUpperCase()}_DATABASE_URL`] = target.proxy.url(url)
  }
  undo.push(() => Promise.all([look.state, ...look.targets.values()].map((pool) => pool.end())))
  const variables = {
    SLACK_BOT_TOKEN: slack.botToken,
    SLACK_API_URL: slack.apiUrl,
    SLACK_SIGNING_SECRET: slack.signingSecret,
    DATABASE_URL: state.proxy.url(state.postgres.url("stepback")),
    ...(redis === null ? {} : { REDIS_URL: redis.url }),
    STEPBACK_PLANS: world.plans,
    // A process that is killed a moment after its start should have spent little on it.
    NODE_COMPILE_CACHE: join(home, "compiled"),
    ...world.env,
    ...urls,
  }
  // Who is killed writes no cache: this one is not, and creates the tables.
  await (await startStepback({ ...variables, STEPBACK_ROLE: "all" })).stop()
  const crew = keep(await startCrew(variables), (made) => made.stop())
  const stop = async () => {
    for (const step of undo.reverse()) await step()
  }
  return { state, target, redis, slack, world, crew, look, stop }
}

async function startServer(name: Server["name"], undo: (() => Promise<unknown>)[]): Promise<Server> {
  // Processes crash here and machines do not, so that waiting for the disk would only slow the storm.
  const flags = [...unsynced, "-c", "max_connections=400", "-c", "max_wal_size=256MB"]
  const postgres = await startPostgres({ flags })
  let disk: Server["disk"] = { why: "it was not mounted yet" }
  undo.push(async () => {
    await postgres.stop()
    // After the server, which keeps its tables there.
    if ("stop" in disk) await disk.stop()
  })
  disk = await mountSmallDisk(megabytes[name], postgres.pid)
  const proxy = await startPostgresProxy(postgres.port)
  undo.push(() => proxy.stop())
  let last: Promise<unknown> = Promise.resolve()
  return {
    name,
    postgres,
    proxy,
    disk,
    alone(work) {
      const next = last.then(work)
      last = next.catch(() => undefined)
      return next
    },
  }
}

/** On the small disk, when there is one. */
async function createDatabase({ postgres, disk }: Server, name: string): Promise<string> {
  const admin = new pg.Client({ connectionString: postgres.url() })
  await admin.connect()
  try {
    const { rows } = await admin.query("select 1 from pg_tablespace where spcname = 'small'")
    if ("folder" in disk && rows.length === 0)
      await admin.query(`create tablespace small location ${pg.escapeLiteral(disk.folder)}`)
    await admin.query(`create database ${name}${"folder" in disk ? " tablespace small" : ""}`)
  } finally {
    await admin.end()
  }
  return postgres.url(name)
}

function quietPool(connectionString: string): pg.Pool {
  const pool = new pg.Pool({ connectionString, max: 3, connectionTimeoutMillis: 5_000, query_timeout: 20_000 })
  pool.on("error", () => {})
  pool.on("connect", (client) => client.on("error", () => {}))
  return pool
}
