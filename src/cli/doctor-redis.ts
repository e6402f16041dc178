import { errorMessage } from "../errors.ts"
import { redisInfos } from "../jobs/redis.ts"
import { bad, good, worthKnowing, type Finding } from "./finding.ts"

const patienceMs = 5_000

/** The queue's Redis, each server that takes writes: reachable, new enough for BullMQ, and not one that throws keys away when it is full. */
export async function checkRedis(address: string, redact: (text: string) => string): Promise<Finding[]> {
  try {
    const found = (await redisInfos(address, patienceMs)).flatMap(judge)
    return [...new Map(found.map((finding) => [finding.text, finding])).values()]
  } catch (error) {
    return [
      bad(
        `queue: Redis: ${redact(errorMessage(error))}`,
        "check REDIS_URL and the server; meanwhile rollbacks run, more slowly, by the sweep",
      ),
    ]
  }
}

function judge(info: string): Finding[] {
  const fact = (name: string) => new RegExp(`^${name}:(.*?)\r?$`, "m").exec(info)?.[1] ?? null
  const version = fact("redis_version")
  const policy = fact("maxmemory_policy")
  const [major = 0, minor = 0] = (version ?? "").split(".").map(Number)
  return [
    good("queue: Redis answers"),
    version === null
      ? worthKnowing("queue: Redis does not say its version; it must be 6.2 or newer")
      : major > 6 || (major === 6 && minor >= 2)
        ? good(`queue: Redis ${version}`)
        : bad(`queue: Redis ${version} is too old`, "use version 6.2 or newer"),
    policy === null
      ? worthKnowing("queue: Redis does not say its maxmemory-policy; it must be noeviction")
      : policy === "noeviction"
        ? good("queue: maxmemory-policy is noeviction")
        : bad(`queue: maxmemory-policy is ${policy}, which may throw jobs away`, "set maxmemory-policy noeviction"),
  ]
}
