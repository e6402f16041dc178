/**
 * Loaded before `src/main.ts` (`node --import`): counts the boundaries of a process, that is before and after each
 * commit, each write of its own and each outside call, and kills the process at one of them.
 *
 * CRASH_AT: the boundary's number, counted from 1; CRASH_LOG: a file that gets a line per boundary;
 * CRASH_HOST: the target's origin, whose requests count.
 */
import childProcess from "node:child_process"
import { appendFileSync } from "node:fs"
import { syncBuiltinESMExports } from "node:module"
import pg from "pg"
import { createStatementWatch } from "./statement-watch.ts"

const crashAt = Number(process.env["CRASH_AT"] ?? 0)
const logFile = process.env["CRASH_LOG"]
const host = process.env["CRASH_HOST"] ?? ""
let boundaries = 0

function boundary(name: string): void {
  boundaries++
  if (logFile !== undefined) appendFileSync(logFile, `${boundaries} ${name}\n`)
  if (boundaries === crashAt) process.kill(process.pid, "SIGKILL")
}

type Callback = (error: unknown, result: unknown) => void
type Query = (...parts: unknown[]) => unknown
// The prototype is patched: every pool's client is one of these.
const clients = pg.Client.prototype as unknown as { query: Query }
const plainQuery = clients.query
const watches = new WeakMap<object, ReturnType<typeof createStatementWatch>>()

clients.query = function query(this: object, ...parts: unknown[]): unknown {
  const [first] = parts
  const text = typeof first === "string" ? first : ((first as { text?: string } | null)?.text ?? "")
  const watch = watches.get(this) ?? createStatementWatch()
  watches.set(this, watch)
  const name = watch(text)
  if (name === null) return plainQuery.apply(this, parts)
  boundary(`before ${name}`)
  const after = () => boundary(`after ${name}`)
  const last = parts.at(-1)
  if (typeof last === "function") {
    parts[parts.length - 1] = (error: unknown, result: unknown) => {
      after()
      ;(last as Callback)(error, result)
    }
    return plainQuery.apply(this, parts)
  }
  return (plainQuery.apply(this, parts) as Promise<unknown>).finally(after)
}

const plainFetch = globalThis.fetch
globalThis.fetch = async (input, options) => {
  const url = new URL(input instanceof Request ? input.url : input)
  if (url.origin !== host) return plainFetch(input, options)
  boundary(`before request ${url.pathname}`)
  try {
    return await plainFetch(input, options)
  } finally {
    boundary(`after request ${url.pathname}`)
  }
}

const plainSpawn = childProcess.spawn as (...parts: unknown[]) => childProcess.ChildProcess
Object.assign(childProcess, {
  spawn: (...parts: unknown[]) => {
    const name = `program ${String(parts[0])} ${Array.isArray(parts[1]) ? parts[1].slice(0, 1).join(" ") : ""}`.trim()
    boundary(`before ${name}`)
    const child = plainSpawn(...parts)
    child.once("close", () => boundary(`after ${name}`))
    return child
  },
})
// `import { spawn }` sees the replacement from here on.
syncBuiltinESMExports()
