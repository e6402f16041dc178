import { spawn, type ChildProcess } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { StringDecoder } from "node:string_decoder"
import { errorMessage } from "../errors.ts"
import type { Secrets } from "./secrets.ts"

export type Ended =
  | { kind: "exited"; code: number | null; signal: string | null; stdout: string; stderr: string }
  | { kind: "timed_out" | "stopped"; stdout: string; stderr: string }
  | { kind: "not_started"; message: string }

/** Output kept of each stream: its beginning and its end. */
const keptBytes = 64 * 1024
/** Between asking a group to end and ending it. */
const graceMs = 2_000

/**
 * Runs a program without a shell, as the leader of a process group of its own, with the given environment and nothing
 * else of ours but, when given, the idempotency key. The whole group is ended at the timeout.
 */
export function runProgram(options: {
  command: string[]
  cwd: string | null
  env: Record<string, string>
  key: string | null
  timeoutMs: number
  signal: AbortSignal
  started?: (pid: number) => void
}): Promise<Ended> {
  const [program, ...parts] = options.command
  if (program === undefined) return Promise.resolve({ kind: "not_started", message: "there is no command" })
  // A signal that was given before is not given again: nobody could stop this any more.
  if (options.signal.aborted)
    return Promise.resolve({ kind: "not_started", message: `${program} was not started: stopped before` })
  const notStarted = (error: unknown): Ended => ({
    kind: "not_started",
    message: `${program} could not be started: ${whyNot(error, options.cwd)}`,
  })
  return new Promise((resolve) => {
    let child: ChildProcess
    try {
      child = begin(program, parts, options)
    } catch (error) {
      return resolve(notStarted(error))
    }
    const stdout = keep()
    const stderr = keep()
    let ending: "timed_out" | "stopped" | null = null
    let killer: NodeJS.Timeout | undefined
    const end = (why: "timed_out" | "stopped") => {
      // What has ended by itself was not ended by us, though something of it may still hold its pipes.
      if (ending !== null || child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
      ending = why
      const { pid } = child
      endGroup(pid, "SIGTERM")
      killer = setTimeout(() => endGroup(pid, "SIGKILL"), graceMs)
    }
    const timer = setTimeout(() => end("timed_out"), options.timeoutMs)
    const stop = () => end("stopped")
    options.signal.addEventListener("abort", stop, { once: true })
    const settle = (ended: Ended) => {
      clearTimeout(timer)
      clearTimeout(killer)
      options.signal.removeEventListener("abort", stop)
      resolve(ended)
    }
    // Where no more files can be opened there are no pipes, and the error follows.
    child.stdout?.on("data", stdout.take)
    child.stderr?.on("data", stderr.take)
    child.once("spawn", () => child.pid !== undefined && options.started?.(child.pid))
    child.once("error", (error) => settle(notStarted(error)))
    child.once("close", (code, signal) => {
      // A member of the group may outlive its leader, whatever it was asked.
      if (ending !== null && child.pid !== undefined) endGroup(child.pid, "SIGKILL")
      const output = { stdout: stdout.text(), stderr: stderr.text() }
      settle(ending === null ? { kind: "exited", code, signal, ...output } : { kind: ending, ...output })
    })
    // A grandchild may hold the pipes open after the program itself has ended.
    child.once("exit", () => setTimeout(() => child.stdout?.destroy() && child.stderr?.destroy(), graceMs).unref())
  })
}

function begin(
  program: string,
  parts: string[],
  { cwd, env, key }: { cwd: string | null; env: Record<string, string>; key: string | null },
): ChildProcess {
  return spawn(program, parts, {
    ...(cwd === null ? {} : { cwd }),
    env: { ...env, ...(key === null ? {} : { IDEMPOTENCY_KEY: key }) },
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
  })
}

/** A folder that is not there reads as if the program were not. */
function whyNot(error: unknown, cwd: string | null): string {
  return cwd !== null && !existsSync(cwd) ? `its folder ${cwd} is not there` : errorMessage(error)
}

/** Ends a process group; one that is gone already is fine. */
export function endGroup(pid: number, signal: "SIGTERM" | "SIGKILL"): void {
  try {
    process.kill(-pid, signal)
  } catch {
    // It has ended.
  }
}

/** When a process began, as the kernel counts; null where that cannot be read. Tells a process from a later one with its number. */
export function processBirth(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? null
  } catch {
    return null
  }
}

/** Stands where the middle of an output was left out. */
const gap = /(\n… \d+ characters left out …\n)/

export const wasCut = (output: string): boolean => gap.test(output)

/** An output without secrets, nor halves of them where its middle was left out. */
export function redactOutput(output: string, secrets: Pick<Secrets, "redactPieces">): string {
  const parts = output.split(gap)
  const pieces = secrets.redactPieces(parts.filter((_, index) => index % 2 === 0))
  return parts.map((part, index) => (index % 2 === 0 ? (pieces[index / 2] ?? "") : part)).join("")
}

function keep() {
  let head = ""
  let tail = ""
  let dropped = 0
  // A character may begin in one chunk and end in the next.
  const decoder = new StringDecoder("utf8")
  return {
    take: (chunk: Buffer) => {
      const text = decoder.write(chunk)
      if (head.length < keptBytes) head += text
      else {
        tail += text
        if (tail.length > keptBytes) {
          dropped += tail.length - keptBytes
          tail = tail.slice(-keptBytes)
        }
      }
    },
    text: () => (tail === "" ? head : `${head}${dropped > 0 ? `\n… ${dropped} characters left out …\n` : ""}${tail}`),
  }
}
