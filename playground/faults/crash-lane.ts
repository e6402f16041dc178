import { mkdtemp, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import pg from "pg"
import type { Postgres } from "../postgres.ts"
import type { Redis } from "../redis.ts"
import { startLocalSlack, type LocalSlack } from "../slack/local-slack.ts"
import { functionNames } from "../staging-world/functions-server.ts"
import { deploy } from "../staging-world/repository.ts"
import { startStagingWorld, type StagingState, type StagingWorld } from "../staging-world/staging-world.ts"
import { startStepback, type StepbackProcess } from "../stepback-process.ts"
import { countEffects, watchEffects } from "./effects.ts"
import { allSaid, endOf, keysOf, rollBack } from "./following.ts"
import { until } from "./until.ts"

const preload = new URL("./crash-preload.ts", import.meta.url).pathname
const plans = new URL("../../plans", import.meta.url).pathname

/** What became of one rollback whose worker was killed at one boundary. */
export type CrashOutcome = {
  at: number
  /** The boundary's name; null when the run had fewer. */
  boundary: string | null
  boundaries: number
  state: string
  /** From the kill to the end of the run, and to its last message. */
  takeoverMs: number | null
  caughtUpMs: number | null
  effects: Record<string, number>
  world: StagingState
  /** Keys that messages carry, once per message. */
  messageKeys: string[]
  /** step -> what was deployed before, as the run wrote it down. */
  deployedBefore: Record<string, string | null>
  badCommit: string
  steps: string[]
}

export type CrashLane = { run(at: number): Promise<CrashOutcome>; stop(): Promise<void> }

type Parts = {
  slack: LocalSlack
  world: StagingWorld
  state: pg.Pool
  target: pg.Pool
  environment: Record<string, string>
  folder: string
  started: Promise<StepbackProcess | null>[]
}

/** A world, a Slack, a state database and a bot of its own, in which one rollback after the other is disturbed. */
export async function startCrashLane(postgres: Postgres, redis: Redis | null, n: number): Promise<CrashLane> {
  const [slack, world, stateUrl, folder] = await Promise.all([
    startLocalSlack(),
    startStagingWorld({ postgres, database: `staging_${n}` }),
    postgres.createDatabase(`state_${n}`),
    mkdtemp(join(tmpdir(), "stepback-crash-")),
  ])
  const state = new pg.Pool({ connectionString: stateUrl, max: 2 })
  const target = new pg.Pool({ connectionString: world.databaseUrl, max: 2 })
  for (const pool of [state, target]) pool.on("error", () => {})
  await watchEffects(target)
  const environment = {
    SLACK_BOT_TOKEN: slack.botToken,
    SLACK_API_URL: slack.apiUrl,
    SLACK_SIGNING_SECRET: slack.signingSecret,
    DATABASE_URL: stateUrl,
    // One Redis for all lanes, a database of it for each.
    ...(redis === null ? {} : { REDIS_URL: `${redis.url}/${n % 16}` }),
    STEPBACK_PLANS: plans,
    ...world.env,
  }
  const bot = await startStepback({ ...environment, STEPBACK_ROLE: "bot" })
  slack.setRequestUrl(`http://127.0.0.1:${bot.port}/slack/events`)
  const parts: Parts = { slack, world, state, target, environment, folder, started: [] }
  return {
    run: (at) => crashOnce(parts, at),
    async stop() {
      const started = (await Promise.all(parts.started)).filter((each) => each !== null)
      await Promise.all([bot, ...started].map((each) => each.stop()))
      await Promise.all([slack.stop(), world.stop(), state.end(), target.end()])
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** The world back at the bad version, by direct calls: quicker than a new one. */
async function spoil({ world, target }: Parts): Promise<void> {
  await Promise.all(functionNames.map((name) => deploy(world.repo, name, "v1.2.1")))
  await target.query("update scoring_config set value = '\"v1.2.1\"' where key = 'results_version'")
  await target.query("truncate seen_effects")
}

async function crashOnce(parts: Parts, at: number): Promise<CrashOutcome> {
  const { slack, state, environment } = parts
  await spoil(parts)
  const badCommit = (await parts.world.state()).functions.score_prism.commit
  const log = join(parts.folder, `boundaries-${at}`)
  const watched = { CRASH_AT: String(at), CRASH_LOG: log, CRASH_HOST: parts.world.httpUrl, STEPBACK_ROLE: "worker" }
  let killedAt: number | null = null
  const heirs: Promise<StepbackProcess>[] = []
  const inherit = () => {
    killedAt ??= performance.now()
    const heir = startStepback({ ...environment, STEPBACK_ROLE: "worker" })
    // It is awaited at the end; until then its failure shows in a run that does not end.
    parts.started.push(heir.catch(() => null))
    heirs.push(heir)
  }
  // Killed on its start already, it never says that it has started.
  const worker = await startStepback({ ...environment, ...watched }, ["--import", preload]).catch(() => null)
  parts.started.push(Promise.resolve(worker))
  if (worker === null) inherit()
  else void worker.ended.then((how) => how === "SIGKILL" && inherit())

  const awaitEnd = async () => {
    const { id } = await rollBack(parts)
    const ended = await until("the end of the run", () => endOf(state, id), 120_000)
    const endedAt = performance.now()
    await until("the last message", () => allSaid(state, id), 120_000)
    return { id, ended, endedAt, saidAt: performance.now() }
  }
  const { id, ended, endedAt, saidAt } = await awaitEnd().catch(async (error: unknown) => {
    const workers = [worker, ...(await Promise.all(heirs))].filter((each) => each !== null)
    throw new Error(`crash point ${at}: ${await describeTrouble(parts, log, workers)}`, { cause: error })
  })
  await worker?.stop()
  await Promise.all(heirs.map(async (heir) => (await heir).stop()))
  const boundaries = await namesIn(log)
  return {
    at,
    boundary: boundaries[at - 1] ?? null,
    boundaries: boundaries.length,
    state: ended,
    takeoverMs: killedAt === null ? null : Math.round(endedAt - killedAt),
    caughtUpMs: killedAt === null ? null : Math.round(saidAt - killedAt),
    effects: await countEffects(parts.target),
    world: await parts.world.state(),
    messageKeys: keysOf(slack, id),
    ...(await recorded(state, id)),
    badCommit,
  }
}

/** What there is to see when a run does not end: where it stands, what people were told, what its workers logged. */
async function describeTrouble(parts: Parts, log: string, workers: StepbackProcess[]): Promise<string> {
  const { rows } = await parts.state.query(
    "select number, state, epoch, worker, lease_until, due_at, now(), moved, end_reason, stop_requested_at from stepback.rollbacks order by number desc limit 1",
  )
  const lines = workers.flatMap((worker) => worker.lines.slice(-12).map((line) => JSON.stringify(line)))
  const told = [...parts.slack.ephemerals("bob"), ...parts.slack.ephemerals("alice")]
    .slice(-3)
    .map((message) => message.text)
  return [`boundary ${(await namesIn(log)).at(-1)}`, JSON.stringify(rows[0]), ...told, ...lines].join("\n")
}

async function recorded(state: pg.Pool, id: string): Promise<Pick<CrashOutcome, "deployedBefore" | "steps">> {
  const { rows } = await state.query<{ step: string; before: string | null }>(
    "select step_id as step, result ->> 'deployedBefore' as before from stepback.step_runs where rollback_id = $1 order by started_at",
    [id],
  )
  const deploys = rows.filter((row) => row.step.endsWith("-deploy"))
  return {
    steps: rows.map((row) => row.step),
    deployedBefore: Object.fromEntries(deploys.map((row) => [row.step, row.before])),
  }
}

async function namesIn(log: string): Promise<string[]> {
  const text = await readFile(log, "utf8").catch(() => "")
  return text
    .split("\n")
    .filter(Boolean)
    .map((line) => line.replace(/^\d+ /, ""))
}
