import { AsyncLocalStorage } from "node:async_hooks"
import childProcess from "node:child_process"
import { syncBuiltinESMExports } from "node:module"
import timersPromises from "node:timers/promises"
import pg from "pg"
import { createStatementWatch } from "./statement-watch.ts"

/**
 * One life of a worker inside this process. It has boundaries: before, with (sent and not answered) and after each commit,
 * each write of its own, each request with an effect and each program. At the one that was chosen it dies as a process
 * does under `kill -9`: its connections are cut at that instant and nothing that it waits for ever comes, so no code of
 * it runs on. What it left behind goes on: statements on their way, requests, programs.
 */
export type Incarnation = {
  /** In order. */
  boundaries: readonly string[]
  died(): boolean
  /** Runs in this life; "died" as soon as it is over, whatever the work is at. */
  live<T>(work: () => Promise<T>): Promise<T | "died">
  /** Resolves when the requests and programs that it began are over, heard or not. */
  settled(): Promise<void>
  /** The end of a life whose work is done. */
  end(): void
}

type Life = {
  boundaries: string[]
  dieAt: number
  dead: boolean
  tellDeath: () => void
  clients: Set<pg.Client>
  timers: Set<NodeJS.Timeout>
  begun: Set<Promise<unknown>>
}

const storage = new AsyncLocalStorage<Life>()
/** Waiting is not what is tried here. */
const longestPauseMs = 8

export function createIncarnation(dieAt = Infinity): Incarnation {
  install()
  const death = Promise.withResolvers<"died">()
  const life: Life = {
    boundaries: [],
    dieAt,
    dead: false,
    tellDeath: () => death.resolve("died"),
    clients: new Set(),
    timers: new Set(),
    begun: new Set(),
  }
  return {
    boundaries: life.boundaries,
    died: () => life.dead,
    live(work) {
      const lived = storage.run(life, work)
      // What still fails in a life that is over is heard by nobody.
      lived.catch(() => undefined)
      return Promise.race([lived, death.promise])
    },
    async settled() {
      await Promise.allSettled(life.begun)
    },
    end: () => die(life),
  }
}

/** Does something that is no part of the life that calls it: a look at the world from outside. */
export function outside<T>(work: () => T): T {
  return storage.exit(work)
}

function die(life: Life): void {
  if (life.dead) return
  life.dead = true
  for (const client of life.clients) {
    const { connection } = client as unknown as { connection: { stream: { destroy(): void } } }
    connection.stream.destroy()
  }
  for (const timer of life.timers) clearTimeout(timer)
  life.tellDeath()
}

/** Counts; true when the life is over. */
function boundary(life: Life, name: string): boolean {
  if (life.dead) return true
  life.boundaries.push(name)
  if (life.boundaries.length === life.dieAt) die(life)
  return life.dead
}

/** Each its own: reactions to a shared one would be kept for good. */
const never = <T>() => new Promise<T>(() => undefined)

/** An answer, as long as there is somebody to hear it. */
function heard<T>(life: Life, answer: Promise<T>, arrived: () => boolean = () => life.dead): Promise<T> {
  return answer.then(
    (value) => (arrived() ? never<T>() : value),
    (error: unknown) => {
      if (arrived()) return never<T>()
      throw error
    },
  )
}

let installed = false

/** Replaces what leads out of a process. Outside of any life all is as it was. */
function install(): void {
  if (installed) return
  installed = true
  installQueries()
  installFetch()
  installPrograms()
  installTimers()
  // `import { spawn }` sees the replacement from here on.
  syncBuiltinESMExports()
}

type Anything = (...parts: unknown[]) => unknown
type Callback = (error: unknown, result?: unknown) => void

function installQueries(): void {
  // The prototype is patched: every pool's client is one of these.
  const clients = pg.Client.prototype as unknown as { query: Anything; connect: Anything }
  const { query: plainQuery, connect: plainConnect } = clients
  const owners = new WeakMap<object, { life: Life; nameOf: (parts: unknown[]) => string | null }>()

  clients.connect = function connect(this: pg.Client, ...parts: unknown[]): unknown {
    const life = storage.getStore()
    if (!life) return plainConnect.apply(this, parts)
    if (life.dead) return typeof parts.at(-1) === "function" ? undefined : never()
    owners.set(this, { life, nameOf: createNaming() })
    life.clients.add(this)
    return plainConnect.apply(this, parts)
  }

  clients.query = function query(this: pg.Client, ...parts: unknown[]): unknown {
    const owner = owners.get(this)
    if (!owner) return plainQuery.apply(this, parts)
    const { life } = owner
    const last = parts.at(-1)
    const callback = typeof last === "function" ? (last as Callback) : null
    const silence = () => (callback === null ? never() : undefined)
    if (life.dead) return silence()
    const name = owner.nameOf(parts)
    if (name !== null && boundary(life, `before ${name}`)) return silence()
    const arrived = () => (name === null ? life.dead : boundary(life, `after ${name}`))
    if (callback !== null)
      parts[parts.length - 1] = (error: unknown, result: unknown) => {
        if (!arrived()) callback(error, result)
      }
    const answer = plainQuery.apply(this, parts)
    if (name !== null && boundary(life, `sent ${name}`)) {
      if (answer instanceof Promise) answer.catch(() => undefined)
      return silence()
    }
    return callback === null ? heard(life, answer as Promise<unknown>, arrived) : answer
  }
}

/** Names boundaries of one connection, with the step that its transaction is about. */
function createNaming(): (parts: unknown[]) => string | null {
  const watch = createStatementWatch()
  let step: string | null = null
  return (parts) => {
    const [first, second] = parts
    const asked = typeof first === "string" ? { text: first } : (first as { text?: string; values?: unknown })
    const text = asked.text ?? ""
    const values = (asked as { values?: unknown }).values ?? second
    if (/^\s*begin\b/i.test(text)) step = null
    step = stepIn(text, Array.isArray(values) ? values : []) ?? step
    const name = watch(text)
    const named = name === null ? null : step === null ? name : `${name} (${step})`
    if (name !== null) step = null
    return named
  }
}

function stepIn(text: string, values: unknown[]): string | null {
  const opened = /\bstep_id = '([^']+)'/.exec(text)
  if (opened) return opened[1] ?? null
  const place =
    /record_step\(|step_runs set process|insert into stepback\.(confirmations|step_runs)|ledger\.entries/.exec(text)
  if (!place) return null
  const named = values.filter((value): value is string => typeof value === "string" && /^[a-z][a-z-]*$/.test(value))
  return named[0] ?? null
}

function installFetch(): void {
  const plainFetch = globalThis.fetch
  globalThis.fetch = (input, options) => {
    const life = storage.getStore()
    if (!life) return plainFetch(input, options)
    if (life.dead) return never()
    const method = options?.method ?? "GET"
    const name = `${method} ${new URL(input instanceof Request ? input.url : input).pathname}`
    // A look changes nothing: to die around it is to die after what was before it.
    const counts = method !== "GET"
    if (counts && boundary(life, `before ${name}`)) return never()
    const answer = plainFetch(input, options)
    life.begun.add(answer)
    if (counts && boundary(life, `sent ${name}`)) {
      answer.catch(() => undefined)
      return never()
    }
    return heard(life, answer, () => (counts ? boundary(life, `after ${name}`) : life.dead))
  }
}

function installPrograms(): void {
  const plainSpawn = childProcess.spawn as (...parts: unknown[]) => childProcess.ChildProcess
  const spawn = (...parts: unknown[]): unknown => {
    const life = storage.getStore()
    if (!life) return plainSpawn(...parts)
    const name = `program ${String(parts[0]).split("/").at(-1) ?? ""}`
    // Nobody hears of it: an emitter that never emits.
    const nothing = () => Object.assign(new childProcess.ChildProcess(), { stdout: silent(), stderr: silent() })
    if (boundary(life, `before ${name}`)) return nothing()
    const child = plainSpawn(...parts)
    const over = Promise.withResolvers<void>()
    life.begun.add(over.promise)
    child.once("exit", () => over.resolve())
    child.once("error", () => over.resolve())
    if (boundary(life, `sent ${name}`)) {
      child.stdout?.destroy()
      child.stderr?.destroy()
      return nothing()
    }
    child.prependOnceListener("close", () => void boundary(life, `after ${name}`))
    return child
  }
  Object.assign(childProcess, { spawn })
}

function silent() {
  return { on: () => undefined, destroy: () => undefined }
}

function installTimers(): void {
  for (const kind of ["setTimeout", "setInterval"] as const) {
    const plain = globalThis[kind] as (...parts: unknown[]) => NodeJS.Timeout
    const patched = (...parts: unknown[]) => {
      const timer = plain(...parts)
      const life = storage.getStore()
      if (life?.dead === true) clearTimeout(timer)
      else life?.timers.add(timer)
      return timer
    }
    Object.defineProperties(patched, Object.getOwnPropertyDescriptors(plain))
    Object.assign(globalThis, { [kind]: patched })
  }
  const plainPause = timersPromises.setTimeout
  const pause: typeof plainPause = (ms, value, options) => {
    const life = storage.getStore()
    if (!life) return plainPause(ms, value, options)
    return life.dead ? never() : heard(life, plainPause(Math.min(ms ?? 1, longestPauseMs), value, options))
  }
  Object.assign(timersPromises, { setTimeout: pause })
}
