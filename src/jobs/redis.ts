import { Cluster, Redis, type RedisOptions } from "ioredis"
import { errorMessage } from "../errors.ts"
import type { Logger } from "../log.ts"
import { readRedisAddress, redisAddressProblem, type ClusterNode } from "../redis-address.ts"
import { within } from "./within.ts"

export type RedisConnection = Redis | Cluster

/** A half-open link raises no error by itself: without these a connection would wait for good. */
const limits = { connectTimeout: 5_000, socketTimeout: 15_000, keepAlive: 5_000, maxRetriesPerRequest: null }
const soon = (times: number) => Math.min(times * 100, 1_000)
const never = () => null

/** The queue's connection: it comes back by itself, however long its server is away. */
export function openRedis(address: string, log: Logger): RedisConnection {
  const connection = connect(address, soon)
  let away = false
  // Each attempt fails anew; that it is away is said once.
  connection.on("error", (error: Error) => {
    if (away) log.debug({ err: error }, "redis connection lost")
    else log.warn({ reason: errorMessage(error) }, "Redis does not answer, rollbacks start more slowly")
    away = true
  })
  connection.on("ready", () => {
    if (away) log.info("Redis answers again")
    away = false
  })
  return connection
}

/** BullMQ's scripts touch several keys: on a Cluster these must be in one slot. */
export function keyPrefix(connection: RedisConnection): { prefix?: string } {
  return connection instanceof Cluster ? { prefix: "{stepback}" } : {}
}

/** What INFO says, of each server that takes writes. One try: an error says why there is no answer. */
export async function redisInfos(address: string, patienceMs: number): Promise<string[]> {
  const connection = connect(address, never)
  const reasons: Error[] = []
  const heard = (error: Error & { lastNodeError?: Error }) => void reasons.push(error.lastNodeError ?? error)
  connection.on("error", heard)
  connection.on("node error", heard)
  try {
    return await within(patienceMs, infos(connection))
  } catch (error) {
    // What a server said comes first, that the link is gone only follows from it.
    throw (
      reasons.find(({ message }) => !/^(Connection is closed|Failed to refresh)/.test(message)) ?? reasons[0] ?? error
    )
  } finally {
    connection.disconnect()
  }
}

async function infos(connection: RedisConnection): Promise<string[]> {
  const any = await connection.info()
  if (!(connection instanceof Cluster)) return [any]
  return Promise.all(connection.nodes("master").map((node) => node.info()))
}

function connect(text: string, retryStrategy: (times: number) => number | null): RedisConnection {
  const address = readRedisAddress(text)
  if (address === null) throw new Error(`REDIS_URL ${redisAddressProblem}`)
  if (address.kind === "single") return new Redis(address.url, { ...limits, retryStrategy })
  if (address.kind === "sentinel") {
    const options = address.options as Omit<RedisOptions, "replyMapping">
    return new Redis({ ...options, ...limits, retryStrategy, sentinelRetryStrategy: retryStrategy })
  }
  return new Cluster(address.nodes, {
    clusterRetryStrategy: retryStrategy,
    redisOptions: { ...limits, ...access(address.nodes[0] as string | ClusterNode) },
  })
}

/** Nodes that the Cluster names by itself are entered as its first one is: the library takes only their addresses. */
function access(node: string | ClusterNode): Record<string, unknown> {
  if (typeof node !== "string") {
    const { host: _host, port: _port, ...rest } = node
    return rest
  }
  const url = new URL(node)
  return {
    ...(url.username === "" ? {} : { username: decodeURIComponent(url.username) }),
    ...(url.password === "" ? {} : { password: decodeURIComponent(url.password) }),
    ...(url.protocol === "rediss:" ? { tls: {} } : {}),
  }
}
