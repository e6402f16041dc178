import { once } from "node:events"
import { readFile } from "node:fs/promises"
import { createServer, type IncomingMessage } from "node:http"
import { join } from "node:path"
import { setTimeout as pause } from "node:timers/promises"
import type { Pool } from "pg"

export const functionNames = ["finalizeAssessment", "score_prism", "score_fc_session"] as const
export type FunctionName = (typeof functionNames)[number]

/** What a deployed file exports, and the commit that `deploy.sh` wrote on its first line. */
type Deployed = { version: string; commit: string; handler: (input: object, tools: Tools) => Promise<object> }
type Tools = {
  query(sql: string, values?: unknown[]): Promise<object[]>
  /** A value of `scoring_config`; throws when there is no such key. */
  config(key: string): Promise<unknown>
}
type Answer = { status: number; body: object }

export type FunctionsServer = {
  url: string
  /** Makes a function fail whatever is deployed; null mends all. */
  breakFunctions(name: FunctionName | null): void
  /** Makes a function answer so much later; null makes all as quick as they are. */
  slowDown(name: FunctionName | null, ms: number): void
  deployed(name: FunctionName): Promise<{ version: string; commit: string }>
  close(): Promise<void>
}

/** Serves `/functions/v1/<name>` on 127.0.0.1 from the files in `folder`, and logs each call into `function_logs`. */
export async function startFunctionsServer({
  folder,
  pool,
  port,
}: {
  folder: string
  pool: Pool
  port: number
}): Promise<FunctionsServer> {
  const broken = new Set<FunctionName>()
  const delays = new Map<FunctionName, number>()
  const server = createServer((request, response) => {
    void answer(request, { folder, pool, broken, delays })
      .catch((error: unknown): Answer => ({ status: 500, body: { error: describeError(error) } }))
      .then(({ status, body }) => {
        response.writeHead(status, { "content-type": "application/json" })
        response.end(JSON.stringify(body))
      })
  })
  server.listen(port, "127.0.0.1")
  await once(server, "listening")
  const address = server.address()
  if (address === null || typeof address === "string") throw new Error("the functions server has no port")

  return {
    url: `http://127.0.0.1:${address.port}`,
    breakFunctions(name) {
      if (name === null) broken.clear()
      else broken.add(name)
    },
    slowDown(name, ms) {
      if (name === null) delays.clear()
      else delays.set(name, ms)
    },
    deployed: async (name) => {
      const { version, commit } = await load(folder, name)
      return { version, commit }
    },
    async close() {
      server.close()
      server.closeAllConnections()
      await once(server, "close")
    },
  }
}

type World = { folder: string; pool: Pool; broken: Set<FunctionName>; delays: Map<FunctionName, number> }

async function answer(request: IncomingMessage, world: World): Promise<Answer> {
  const path = new URL(request.url ?? "/", "http://127.0.0.1").pathname
  const name = functionNames.find((known) => path === `/functions/v1/${known}`)
  if (name === undefined) return { status: 404, body: { error: `no function at ${path}` } }
  const deployed = await load(world.folder, name)
  const facts = { function: name, version: deployed.version, commit: deployed.commit }
  if (request.method === "GET") return { status: 200, body: facts }
  if (request.method !== "POST") return { status: 405, body: { error: `${request.method} is not served here` } }

  const input = await readJson(request)
  if (input === null) return { status: 400, body: { error: "the body is not a JSON object" } }
  const started = performance.now()
  try {
    await pause(world.delays.get(name) ?? 0)
    if (world.broken.has(name)) throw new Error("the scoring engine does not answer")
    const result = await deployed.handler(input, toolsOf(world.pool))
    const took = Math.round(performance.now() - started)
    await log(world.pool, { name, level: "info", message: `${deployed.version}: answered in ${took} ms` })
    return { status: 200, body: { ok: true, ...facts, ...result } }
  } catch (error) {
    const message = describeError(error)
    // Without its database the function cannot log; the caller still hears of the error.
    await log(world.pool, { name, level: "error", message: `${deployed.version}: ${message}` }).catch(() => {})
    return { status: 500, body: { error: message, ...facts } }
  }
}

/**
 * The file is read for each request, so that a deployment is served from the next request on. As a data URL, equal text
 * is the same module to Node and changed text a new one.
 */
async function load(folder: string, name: FunctionName): Promise<Deployed> {
  const source = await readFile(join(folder, `${name}.js`), "utf8")
  const url = `data:text/javascript;base64,${Buffer.from(source).toString("base64")}`
  const module = (await import(/* @vite-ignore */ url)) as Omit<Deployed, "commit">
  return { ...module, commit: /^\/\/ deployed from (\w+)/.exec(source)?.[1] ?? "unknown" }
}

function toolsOf(pool: Pool): Tools {
  return {
    query: async (sql, values = []) => (await pool.query<object>(sql, values)).rows,
    async config(key) {
      const { rows } = await pool.query<{ value: unknown }>("select value from scoring_config where key = $1", [key])
      if (rows[0] === undefined) throw new Error(`scoring_config has no key "${key}"`)
      return rows[0].value
    },
  }
}

async function log(pool: Pool, entry: { name: FunctionName; level: "info" | "error"; message: string }): Promise<void> {
  await pool.query("insert into function_logs (function, level, message) values ($1, $2, $3)", [
    entry.name,
    entry.level,
    entry.message,
  ])
}

async function readJson(request: IncomingMessage): Promise<object | null> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  try {
    const value: unknown = JSON.parse(Buffer.concat(chunks).toString("utf8"))
    return typeof value === "object" ? value : null
  } catch {
    return null
  }
}

function describeError(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
