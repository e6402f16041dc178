import { createPostgresBackend, Queue, runMigrations, withBackend, Worker, type Job } from "bullmq"
import { Client } from "pg"
import { errorMessage } from "../errors.ts"
import type { Logger } from "../log.ts"
import { keyPrefix, openRedis, type RedisConnection } from "./redis.ts"
import { within } from "./within.ts"

/** The doorbell: it wakes a worker for a rollback. What is lost here is rung again by the sweep. */
export type Bell = {
  ring(kind: "rehearse" | "run", rollbackId: string): void
  /** Null when the queue answers, else why not. */
  trouble(): Promise<string | null>
  waiting(): Promise<number>
  close(): Promise<void>
}

export type BellOptions = {
  /** As `REDIS_URL` spells it: one address, a Cluster's or Sentinel's. Null: the queue lives in Postgres. */
  redisUrl: string | null
  databaseUrl: string
  log: Logger
  prefix?: string
  migrate?: boolean
}

const queueName = "stepback"
/** Where the queue lives in Postgres, beside our own state. */
export const queueSchema = "stepback_queue"
/** Takeover of a job whose worker died: lock plus stalled interval. BullMQ's defaults make it a minute. */
const lockMs = 5_000
const stalledMs = 2_500
/** A ring that was refused is told for this long; whether the next one would be is not known before it comes. */
const refusedMs = 60_000
/** A worker dies more than once; attempts are counted in Postgres. */
const maxStalledCount = 1_000

/** Creates the queue's tables in the state database, for processes whose role may not. */
export async function prepareQueue(databaseUrl: string): Promise<void> {
  const client = new Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    await runMigrations(client, queueSchema)
  } finally {
    await client.end()
  }
}

type Data = { rollbackId: string }

function openQueue({ redisUrl, databaseUrl, log, prefix, migrate = true }: BellOptions): {
  queue: Queue<Data>
  connection: RedisConnection | null
} {
  const defaults = { removeOnComplete: true, removeOnFail: true, attempts: 1 }
  if (redisUrl !== null) {
    const connection = openRedis(redisUrl, log)
    const queue = new Queue<Data>(queueName, {
      connection: connection,
      defaultJobOptions: defaults,
      skipWaitingForReady: true,
      ...(prefix === undefined ? keyPrefix(connection) : { prefix }),
    })
    return { queue, connection }
  }
  const { Queue: PostgresQueue } = withBackend(createPostgresBackend)
  const queue = new PostgresQueue(queueName, {
    connection: { connectionString: databaseUrl, max: 3, schema: queueSchema, migrate },
    defaultJobOptions: defaults,
  }) as unknown as Queue<Data>
  return { queue, connection: null }
}

export function createBell(options: BellOptions): Bell {
  const { queue, connection } = openQueue(options)
  queue.on("error", (error) => options.log.debug({ err: error }, "queue unreachable"))
  let refused: { at: number; why: string } | null = null
  /** Asked while Redis is away, the client would keep each question until it is back. */
  const away = () =>
    connection === null || connection.status === "ready" ? null : `Redis is not connected (${connection.status})`
  async function waiting(): Promise<number> {
    const trouble = away()
    if (trouble !== null) throw new Error(trouble)
    return within(1_000, queue.getWaitingCount())
  }
  return {
    ring(kind, rollbackId) {
      // The sweep rings later.
      if (away() !== null) return
      // Not awaited: it hangs while Redis is gone.
      queue.add(kind, { rollbackId }).then(
        () => (refused = null),
        (err: unknown) => {
          refused = { at: performance.now(), why: errorMessage(err) }
          options.log.warn({ err, rollbackId }, "bell not heard, the sweep will ring")
        },
      )
    },
    async trouble() {
      try {
        await waiting()
        // One that is full, or has become a replica, answers questions all the same.
        return refused !== null && performance.now() - refused.at < refusedMs
          ? `it takes no jobs: ${refused.why}`
          : null
      } catch (error) {
        return errorMessage(error)
      }
    },
    waiting,
    async close() {
      await within(2_000, queue.close()).catch(() => undefined)
      connection?.disconnect()
    },
  }
}

/** Calls `work` for each ring. */
export function answerBell(
  options: BellOptions & { concurrency: number },
  work: (rollbackId: string) => Promise<void>,
): { close(): Promise<void> } {
  const settings = {
    concurrency: options.concurrency,
    lockDuration: lockMs,
    stalledInterval: stalledMs,
    maxStalledCount,
  }
  const answer = async (job: Job<Data>) => work(job.data.rollbackId)
  const { redisUrl, databaseUrl, log, prefix, migrate = true } = options
  const connection = redisUrl === null ? null : openRedis(redisUrl, log)
  const worker =
    connection === null
      ? new (withBackend(createPostgresBackend).Worker)<Data>(queueName, answer as never, {
          connection: { connectionString: databaseUrl, max: 4, schema: queueSchema, migrate },
          ...settings,
        })
      : new Worker<Data>(queueName, answer, {
          connection: connection,
          ...settings,
          ...(prefix === undefined ? keyPrefix(connection) : { prefix }),
        })
  worker.on("error", (error: Error) => log.debug({ err: error }, "queue worker lost its connection"))
  return {
    async close() {
      // Hangs when Redis is down.
      await within(3_000, worker.close(true)).catch(() => undefined)
      connection?.disconnect()
    },
  }
}
