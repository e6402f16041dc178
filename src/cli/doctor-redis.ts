import { once } from "node:events"
import { connect as connectPlain, type Socket } from "node:net"
import { connect as connectTls } from "node:tls"
import { errorMessage } from "../errors.ts"
import { bad, good, worthKnowing, type Finding } from "./finding.ts"

const patienceMs = 5_000

/** The queue's Redis: reachable, new enough for BullMQ, and not one that throws keys away when it is full. */
export async function checkRedis(address: string, redact: (text: string) => string): Promise<Finding[]> {
  if (!URL.canParse(address))
    return [worthKnowing("queue: REDIS_URL names several nodes, which doctor does not look at")]
  try {
    return judge(await readInfo(new URL(address)))
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

/** What INFO says. Two commands of the protocol by hand: the queue's own client would go on trying for good. */
async function readInfo(url: URL): Promise<string> {
  const socket = open(url)
  socket.setTimeout(patienceMs, () => socket.destroy(new Error(`no answer in ${patienceMs / 1000} s`)))
  try {
    await once(socket, url.protocol === "rediss:" ? "secureConnect" : "connect")
    const password = decodeURIComponent(url.password)
    const user = decodeURIComponent(url.username)
    if (password !== "") await ask(socket, user === "" ? ["AUTH", password] : ["AUTH", user, password])
    return await ask(socket, ["INFO"])
  } finally {
    socket.destroy()
  }
}

function open(url: URL): Socket {
  const host = url.hostname.replace(/^\[|\]$/g, "") || "127.0.0.1"
  const port = Number(url.port || 6379)
  return url.protocol === "rediss:" ? connectTls({ host, port, servername: host }) : connectPlain({ host, port })
}

async function ask(socket: Socket, words: string[]): Promise<string> {
  socket.write([`*${words.length}`, ...words.flatMap((word) => [`$${Buffer.byteLength(word)}`, word]), ""].join("\r\n"))
  let received = Buffer.alloc(0)
  for (;;) {
    const [chunk] = (await Promise.race([once(socket, "data"), ended(socket)])) as [Buffer]
    received = Buffer.concat([received, chunk])
    const answer = readAnswer(received)
    if (answer === null) continue
    if ("error" in answer) throw new Error(answer.error)
    return answer.text
  }
}

async function ended(socket: Socket): Promise<never> {
  await once(socket, "close")
  throw new Error("the server closed the connection")
}

/** Null while there is more to come. */
function readAnswer(received: Buffer): { text: string } | { error: string } | null {
  const line = received.indexOf("\r\n")
  if (line === -1) return null
  const head = received.toString("utf8", 1, line)
  const kind = received.toString("utf8", 0, 1)
  if (kind === "-") return { error: head }
  if (kind !== "$") return { text: head }
  const end = line + 2 + Number(head)
  return received.length < end + 2 ? null : { text: received.toString("utf8", line + 2, end) }
}
