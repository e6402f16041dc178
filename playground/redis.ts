import { spawn, type ChildProcess } from "node:child_process"
import { accessSync, constants } from "node:fs"
import { mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises"
import { connect } from "node:net"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { end, findFreePort, tieToParent } from "./postgres.ts"

export type Redis = {
  readonly url: string
  readonly port: number
  readonly pid: number
  stop(): Promise<void>
  /** Same port. Without `appendOnly` it comes back empty. */
  restart(): Promise<void>
  /** FLUSHALL: what a careless colleague does to the queue. */
  flush(): Promise<void>
}

export type RedisOptions = {
  port?: number
  appendOnly?: boolean
  /** Instead of those of a queue that keeps nothing. */
  flags?: string[]
  /** Lines of its configuration file, which a Sentinel rewrites. */
  configuration?: string
}

/** The Redis or Valkey server of this machine; null when there is none. */
export function findRedis(): string | null {
  const folders = (process.env.PATH ?? "").split(delimiter).filter(Boolean)
  const candidates = ["redis-server", "valkey-server"].flatMap((name) => folders.map((folder) => join(folder, name)))
  return candidates.find(isExecutable) ?? null
}

/** Starts the machine's own Redis on 127.0.0.1 with a private folder. It ends when this process ends, however it ends. */
export async function startRedis(options: RedisOptions = {}): Promise<Redis> {
  const program = findRedis()
  if (program === null) throw new Error("neither redis-server nor valkey-server is on the PATH")
  const home = await mkdtemp(join(tmpdir(), "stepback-redis-"))
  const port = options.port ?? (await findFreePort())
  const file = join(home, "redis.conf")
  await writeFile(file, options.configuration ?? "")
  const persistence = ["--save", "", "--appendonly", options.appendOnly === true ? "yes" : "no"]
  // The queue must never lose a job to eviction.
  const flags = options.flags ?? [...persistence, "--maxmemory-policy", "noeviction"]
  const settings = { flags: [file, ...flags], home, port, program }
  let server = await launch(settings)
  const guard = tieToParent({ pidFile: join(home, "redis.pid"), remove: home, user: null })

  return {
    port,
    url: `redis://127.0.0.1:${port}`,
    get pid() {
      return server.pid ?? -1
    },
    async stop() {
      await end(server, "SIGTERM")
      guard.release()
      await rm(home, { recursive: true, force: true })
    },
    async restart() {
      await end(server, "SIGTERM")
      server = await launch(settings)
    },
    async flush() {
      const answer = await ask(port, "FLUSHALL")
      if (!answer.startsWith("+OK")) throw new Error(`FLUSHALL was answered ${answer}`)
    },
  }
}

type Settings = { flags: string[]; home: string; port: number; program: string }

async function launch({ flags, home, port, program }: Settings): Promise<ChildProcess> {
  const logFile = join(home, "redis.log")
  const log = await open(logFile, "a")
  const place = ["--dir", home, "--pidfile", join(home, "redis.pid"), "--bind", "127.0.0.1", "--port", String(port)]
  const child = spawn(program, [...flags, ...place], {
    stdio: ["ignore", log.fd, log.fd],
    detached: true,
  })
  await log.close()
  child.unref()
  for (let waited = 0; waited < 10_000; waited += 20) {
    if (child.exitCode !== null || child.signalCode !== null) break
    if ((await ask(port, "PING").catch(() => "")).startsWith("+PONG")) return child
    await sleep(20)
  }
  await end(child, "SIGKILL")
  throw new Error(`${program} did not start on port ${port}:\n${(await readFile(logFile, "utf8")).slice(-1000)}`)
}

/** One inline command, one line of answer: no client library needed for two words. */
export function ask(port: number, command: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => socket.write(`${command}\r\n`))
    socket.setTimeout(5_000, () => socket.destroy(new Error(`no answer to ${command}`)))
    socket.once("error", reject)
    socket.once("data", (chunk) => {
      resolve(chunk.toString())
      socket.destroy()
    })
  })
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}
