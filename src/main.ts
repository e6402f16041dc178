import { randomUUID } from "node:crypto"
import { hostname } from "node:os"
import { createBot, createSlack, type Bot } from "./bot/app.ts"
import { drawBaseline } from "./bot/blocks/baseline.ts"
import { documentOf } from "./bot/blocks/document.ts"
import { drawMessage } from "./bot/blocks/message.ts"
import { mayAct, type Deps } from "./commands/ports.ts"
import { readConfig, type Config } from "./config.ts"
import { errorCode, errorMessage, isPassing, StepbackError } from "./errors.ts"
import { startHttpServer, type Readiness } from "./http.ts"
import { callHookOnce } from "./jobs/call-hook.ts"
import { createDelivery, type DeliveryDeps } from "./jobs/deliver.ts"
import { forgetOverdue } from "./jobs/forget.ts"
import { startLoops } from "./jobs/loops.ts"
import { answerBell, createBell, type Bell } from "./jobs/queue.ts"
import { serveBaseline } from "./jobs/serve-baselines.ts"
import { watchOnce } from "./jobs/watch.ts"
import { within } from "./jobs/within.ts"
import { createWorkshop, type WorkDeps } from "./jobs/work.ts"
import { createLogger, type Logger } from "./log.ts"
import { createCounted, createMetrics } from "./metrics.ts"
import { createPlanFolder } from "./plans/plan-folder.ts"
import { createTargetPools } from "./steps/target.ts"
import { createPool } from "./store/database.ts"
import { mayCreate, migrate } from "./store/migrate.ts"
import { createStore, type Store } from "./store/store.ts"

/** What "bad configuration" exits with: EX_CONFIG. */
const badConfiguration = 78
/** SIGTERM to exit takes this long at the most; a step on its way has most of it. */
const drainMs = 7_000

/** Reads the configuration, builds the parts and starts them. */
async function main(environment: Record<string, string | undefined>): Promise<void> {
  const read = readConfig(environment)
  if (!read.ok) {
    for (const { name, problem, purpose } of read.problems) process.stderr.write(`${name} ${problem}: ${purpose}\n`)
    process.exitCode = badConfiguration
    return
  }
  const { config } = read
  const log = createLogger({ level: config.logLevel, role: config.role })
  // Node itself would write the error as it is, with the headers of a request that failed.
  process.on("uncaughtException", (err) => {
    log.fatal({ err }, "ended by an error that nothing handled")
    process.exit(1)
  })
  // Before anything begins: without it a worker could be ended in the middle of its first step.
  let started: Started | null = null
  endOnSignal(log, () => started)
  started = await start(config, environment, log)
}

type Started = Awaited<ReturnType<typeof start>>

/** Drains on SIGTERM and SIGINT; what has not started yet has nothing to drain. */
function endOnSignal(log: Logger, started: () => Started | null): void {
  let ending = false
  for (const signal of ["SIGTERM", "SIGINT"] as const)
    process.on(signal, () => {
      if (ending) return
      ending = true
      log.info({ signal }, "draining")
      // What still hangs after this is left to another process.
      setTimeout(() => {
        log.warn("drain was not over in time, what is left goes to another process")
        process.exit(0)
      }, drainMs + 2_000).unref()
      Promise.resolve(started()?.close()).then(
        () => {
          log.info("drained")
          process.exit(0)
        },
        (err: unknown) => {
          log.error({ err }, "drain failed")
          process.exit(1)
        },
      )
    })
}

async function start(config: Config, environment: Record<string, string | undefined>, log: Logger) {
  const http = await startHttpServer(config.port)
  const pool = createPool(config.databaseUrl, { log })
  const mayMigrate = await migratePatiently(pool, log)
  const store = createStore(pool)
  const counted = createCounted()
  const slack = createSlack(config, log, counted.slackFailed)
  const concurrency = config.workerConcurrency
  const bellOptions = { redisUrl: config.redisUrl, databaseUrl: config.databaseUrl, log, migrate: mayMigrate }
  const bell = createBell(bellOptions)
  const plans = createPlanFolder(config.plansFolder)
  const { invalid } = await plans.load()
  for (const { file, problems } of invalid) log.warn({ file, problem: problems[0]?.message }, "a plan cannot be used")
  // From here on nothing is awaited: a signal finds a process that has begun nothing, or one that can drain.
  const targets = createTargetPools(log)
  const worker = `${hostname()}-${process.pid}-${randomUUID().slice(0, 8)}`
  let wakeOutbox: () => void = () => undefined
  const deps: Deps = {
    store,
    people: slack.people,
    plans,
    ring: (kind, rollbackId) => bell.ring(kind, rollbackId),
    wakeOutbox: () => wakeOutbox(),
    newId: randomUUID,
  }
  const allowed: WorkDeps["stillAllowed"] = (userIds, from) => stillAllowed(deps, userIds, from)
  const workDeps: WorkDeps = { ...deps, targets, environment, log, stillAllowed: allowed, stepEnded: counted.stepEnded }
  const workshop = config.role === "bot" ? null : createWorkshop(workDeps, worker)
  const turns = workshop ? workerTurns(workDeps, slack.sender) : noTurns
  const draw: DeliveryDeps["draw"] = (message, view, extras) => drawMessage(message, view, extras, new Date())
  const delivery = createDelivery({ store, sender: slack.sender, draw, document: documentOf, newId: randomUUID, log })
  const loops = startLoops({ ...deps, ...turns, workshop, concurrency, delivery, worker, role: config.role, log })
  wakeOutbox = loops.wakeOutbox
  const answering = workshop && answerBell({ ...bellOptions, concurrency }, (id) => workshop.work(id))
  const bot = config.role === "worker" ? null : createBot({ config, deps, slack, log })
  http.serve({
    slack: bot?.requestListener ?? null,
    metrics: createMetrics(store, counted, () => bell.waiting()),
    readiness: () => readiness({ store, bell, bot, slack: slack.trouble }),
  })
  void bot?.start()
  log.info({ port: http.port, worker }, "started")
  void slack.tellRefusal()
  return {
    close: async () => {
      // Side by side: while a connection or the queue is waited for, no step may begin.
      await Promise.all([http.close().then(() => bot?.close()), answering?.close(), workshop?.close(drainMs - 2_000)])
      await loops.close()
      await bell.close()
      await Promise.all([targets.close(), pool.end()])
    },
  }
}

/** What only workers turn, since only they have the secrets of plans. */
function workerTurns(deps: WorkDeps, sender: DeliveryDeps["sender"]) {
  return {
    watch: () => watchOnce(deps),
    baselines: () => serveBaseline({ ...deps, sender, drawBaseline }),
    forget: () => forgetOverdue(deps),
    callHook: () => callHookOnce(deps),
  }
}
const noTurns = { watch: null, baselines: null, forget: null, callHook: null }

/** A state database that says nothing is none: who asks whether a process is ready does not wait for a driver's patience. */
const stateSaysMs = 2_000

type Looked = { store: Store; bell: Bell; bot: Bot | null; slack(): Promise<string | null> }

/** Without the state database nothing can be decided; without queue or Slack it is slower, and said. */
async function readiness({ store, bell, bot, slack }: Looked): Promise<Readiness> {
  const answer = slack()
  const state = await within(stateSaysMs, store.ping()).then(
    () => null,
    (error: unknown) => `state database: ${errorMessage(error)}`,
  )
  const queue = await bell.trouble()
  const closed = state === null && !(await within(stateSaysMs, store.takesWrites()))
  // Where nobody can write that they live, who does is not known.
  const worked = state !== null || closed || (await within(stateSaysMs, store.figures.workersAlive())) > 0
  const reasons = [
    state,
    closed
      ? "state database: it takes no writes (read-only, or a standby): nothing can be asked for, approved or run"
      : null,
    worked ? null : "no worker is running: nothing would be rehearsed or run",
    queue === null ? null : `queue: ${queue}`,
    bot?.trouble() ?? null,
    await answer,
  ]
  return { ready: state === null, degraded: reasons.filter((reason) => reason !== null) }
}

/** Null when Slack gave no answer about one of them and nobody is known to have left. */
async function stillAllowed(deps: Deps, userIds: string[], from: "anyone" | string[]): Promise<boolean | null> {
  const answers = await Promise.all(userIds.map((userId) => mayAct(deps.people, userId, from)))
  const silent = ["could_not_check_person", "could_not_check_group"]
  if (answers.some((refusal) => refusal !== null && !silent.includes(refusal.reason))) return false
  return answers.every((refusal) => refusal === null) ? true : null
}

/** Attempts at the state database, a second apart, before the process ends. */
const patience = 30

/** Processes start together with their database; a while of waiting is not a failure. Gives whether the role may create schemas. */
async function migratePatiently(pool: Parameters<typeof migrate>[0], log: Logger): Promise<boolean> {
  for (let attempt = 1; ; attempt++) {
    try {
      const applied = await migrate(pool)
      if (applied.length > 0) log.info({ applied }, "state database migrated")
      return await mayCreate(pool)
    } catch (error) {
      // Our own words say what to do; a driver's do not even say which variable it is about.
      if (!isPassing(error) && !(error instanceof StepbackError))
        throw new Error(`DATABASE_URL: the state database cannot be used: ${errorMessage(error)}`, { cause: error })
      if (!isPassing(error) || attempt >= patience) throw error
      log.warn({ reason: errorMessage(error), attempt, of: patience }, "state database not reachable yet, trying on")
      await new Promise((resolve) => setTimeout(resolve, 1_000))
    }
  }
}

/** Which of the things that a person set is at fault. */
function inWords(error: unknown): string {
  if (errorCode(error) === "EADDRINUSE") return `PORT is taken by another process: ${errorMessage(error)}`
  return isPassing(error)
    ? `DATABASE_URL: the state database does not answer: ${errorMessage(error)}`
    : errorMessage(error)
}

main(process.env).catch((error: unknown) => {
  process.stderr.write(`${inWords(error)}\n`)
  process.exit(1)
})
