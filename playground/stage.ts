import { startPostgres, unsynced, type Postgres } from "./postgres.ts"
import { findRedis, startRedis, type Redis } from "./redis.ts"
import { startLocalSlack, type LocalSlack } from "./slack/local-slack.ts"
import { startStagingWorld, type StagingWorld } from "./staging-world/staging-world.ts"
import { startStepback, type StepbackProcess } from "./stepback-process.ts"

/** Everything that Stepback needs, private to this stage, and the processes that were started on it. */
export type Stage = {
  postgres: Postgres
  redis: Redis | null
  slack: LocalSlack
  world: StagingWorld
  /** The environment of a process on this stage. */
  environment: Record<string, string>
  start(more?: Record<string, string>): Promise<StepbackProcess>
  stop(): Promise<void>
}

export async function startStage(options: {
  mode: "http" | "socket"
  queue: "redis" | "postgres"
  port?: number
  plans?: string
  slackPort?: number
  /** The server's own, instead of `unsynced`. */
  postgresFlags?: string[]
}): Promise<Stage> {
  const postgres = await startPostgres({ flags: options.postgresFlags ?? unsynced })
  const [slack, world, stateUrl, redis] = await Promise.all([
    startLocalSlack(options.slackPort === undefined ? {} : { port: options.slackPort }),
    startStagingWorld({ postgres }),
    postgres.createDatabase("stepback_state"),
    options.queue === "redis" && findRedis() !== null ? startRedis() : null,
  ])
  const environment = {
    SLACK_BOT_TOKEN: slack.botToken,
    SLACK_API_URL: slack.apiUrl,
    ...(options.mode === "socket"
      ? { SLACK_APP_TOKEN: slack.appToken }
      : { SLACK_SIGNING_SECRET: slack.signingSecret }),
    DATABASE_URL: stateUrl,
    ...(redis ? { REDIS_URL: redis.url } : {}),
    STEPBACK_PLANS: options.plans ?? new URL("../plans", import.meta.url).pathname,
    ...world.env,
  }
  const processes: StepbackProcess[] = []
  return {
    postgres,
    redis,
    slack,
    world,
    environment,
    async start(more = {}) {
      const started = await startStepback({ ...environment, ...more })
      processes.push(started)
      if (options.mode === "http" && more["STEPBACK_ROLE"] !== "worker")
        slack.setRequestUrl(`http://127.0.0.1:${started.port}/slack/events`)
      return started
    },
    async stop() {
      await Promise.all(processes.map((started) => started.stop()))
      await Promise.all([slack.stop(), world.stop(), redis?.stop()])
      await postgres.stop()
    },
  }
}
