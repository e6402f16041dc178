import { until } from "./faults/until.ts"
import { findFreePort } from "./postgres.ts"
import { ask, startRedis, type Redis } from "./redis.ts"

export type RedisGroup = { servers: Redis[]; stop(): Promise<void> }

/** A Cluster of three primaries, each with a third of the slots. */
export async function startRedisCluster(): Promise<RedisGroup> {
  const servers: Redis[] = []
  const stop = async () => void (await Promise.all(servers.map((server) => server.stop())))
  try {
    for (let n = 0; n < 3; n++) {
      const bus = await findFreePort()
      servers.push(
        await startRedis({ flags: ["--save", "", "--cluster-enabled", "yes", "--cluster-port", String(bus)] }),
      )
      const [port, first] = [servers[n]?.port ?? 0, servers[0]?.port ?? 0]
      const slots = `${Math.ceil((n * 16_384) / 3)} ${Math.ceil(((n + 1) * 16_384) / 3) - 1}`
      await askOk(port, `CLUSTER ADDSLOTSRANGE ${slots}`)
      if (n > 0) await askOk(first, `CLUSTER MEET 127.0.0.1 ${port} ${bus}`)
    }
    await until("the Cluster", async () => {
      const seen = await Promise.all(servers.map((server) => ask(server.port, "CLUSTER INFO")))
      return seen.every((info) => info.includes("cluster_state:ok") && info.includes("cluster_known_nodes:3"))
    })
    return { servers, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** A primary, its replica, and one Sentinel that makes the replica the primary when that one is gone for a second. */
export async function startSentinel(name: string): Promise<RedisGroup & { sentinel: Redis; primary: Redis }> {
  const servers: Redis[] = []
  const stop = async () => void (await Promise.all(servers.map((server) => server.stop())))
  try {
    const primary = await startRedis()
    servers.push(primary)
    const replica = await startRedis({ configuration: `save ""\nreplicaof 127.0.0.1 ${primary.port}\n`, flags: [] })
    servers.push(replica)
    await until("the replica", async () =>
      (await ask(replica.port, "INFO replication")).includes("master_link_status:up"),
    )
    const configuration = `sentinel monitor ${name} 127.0.0.1 ${primary.port} 1
sentinel down-after-milliseconds ${name} 1000
sentinel failover-timeout ${name} 5000
`
    const sentinel = await startRedis({ configuration, flags: ["--sentinel"] })
    servers.push(sentinel)
    await until("the Sentinel", async () =>
      (await ask(sentinel.port, `SENTINEL REPLICAS ${name}`)).includes(String(replica.port)),
    )
    return { servers, sentinel, primary, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function askOk(port: number, command: string): Promise<void> {
  const answer = await ask(port, command)
  if (!answer.startsWith("+OK")) throw new Error(`${command} was answered ${answer}`)
}
