import { z } from "zod"

/**
 * Where the queue's Redis is, as the client library takes it: one address, the nodes of a Cluster, or the options of a
 * connection that asks Sentinels for the primary.
 */
export type RedisAddress =
  | { kind: "single"; url: string }
  | { kind: "cluster"; nodes: (string | ClusterNode)[] }
  | { kind: "sentinel"; options: SentinelOptions }

export type ClusterNode = z.output<typeof clusterNode>
type SentinelOptions = z.output<typeof sentinelOptions>

const single = z.string().refine(isUrl)
const port = z.number().int().min(1).max(65_535)
// Loose: what else the library takes, as passwords and `tls`, goes to it as it is.
const clusterNode = z.looseObject({ host: z.string().min(1), port: port.optional() })
const sentinelOptions = z.looseObject({
  name: z.string().min(1),
  sentinels: z.array(z.looseObject({ host: z.string().min(1), port: port.optional() })).min(1),
})

function isUrl(text: string): boolean {
  if (!/^rediss?:\/\/\S+$/.test(text) || !URL.canParse(text)) return false
  const { username, password } = new URL(text)
  try {
    // The library decodes them, and would throw.
    decodeURIComponent(username + password)
    return true
  } catch {
    return false
  }
}

/** What is told about an address that cannot be used; it never quotes it. */
export const redisAddressProblem =
  'is not a redis:// or rediss:// address, a list of such with commas (Cluster), or JSON as {"sentinels": [{"host": …, "port": …}], "name": …}'

/** What `REDIS_URL` says; null when it says nothing that can be used. */
export function readRedisAddress(text: string): RedisAddress | null {
  if (/^[[{]/.test(text)) return fromJson(text)
  const nodes = text.split(/,(?=rediss?:\/\/)/)
  if (!nodes.every((node) => single.safeParse(node).success)) return null
  return nodes.length === 1 ? { kind: "single", url: text } : { kind: "cluster", nodes }
}

function fromJson(text: string): RedisAddress | null {
  let given: unknown
  try {
    given = JSON.parse(text)
  } catch {
    // The error would quote the text, and with it a password.
    return null
  }
  const nodes = z
    .array(z.union([single, clusterNode]))
    .min(1)
    .safeParse(given)
  if (nodes.success) return { kind: "cluster", nodes: nodes.data }
  const options = sentinelOptions.safeParse(given)
  return options.success ? { kind: "sentinel", options: options.data } : null
}

/** The passwords in it, to be kept out of what is shown. */
export function passwordsIn(text: string): string[] {
  const address = readRedisAddress(text)
  if (address === null) return []
  if (address.kind === "single") return ofUrl(address.url)
  if (address.kind === "sentinel") return [...ofObject(address.options), ...address.options.sentinels.flatMap(ofObject)]
  return address.nodes.flatMap((node) => (typeof node === "string" ? ofUrl(node) : ofObject(node)))
}

function ofUrl(url: string): string[] {
  const { password } = new URL(url)
  return password === "" ? [] : [password, decodeURIComponent(password)]
}

function ofObject(options: Record<string, unknown>): string[] {
  return Object.entries(options).flatMap(([name, value]) =>
    /password/i.test(name) && typeof value === "string" && value !== "" ? [value] : [],
  )
}
