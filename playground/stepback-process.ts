import { spawn, type ChildProcess } from "node:child_process"
import { once } from "node:events"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"

/** A Stepback process, started the way a user starts it. */
export type StepbackProcess = {
  pid: number
  port: number
  /** Its log lines, parsed; the newest last. */
  lines: Record<string, unknown>[]
  /** Resolves with the exit code, or the signal's name. */
  ended: Promise<number | string>
  /** Resolves at the first line, past or future, that holds. */
  logged(holds: (line: Record<string, unknown>) => boolean): Promise<Record<string, unknown>>
  kill(signal: NodeJS.Signals): void
  stop(): Promise<void>
}

const main = new URL("../src/main.ts", import.meta.url).pathname
const keptLines = 5_000
/** Where Node itself would put it: of a start's 1.8 s of processor time 0.6 s are the reading of sources. */
export const compileCache = join(tmpdir(), "node-compile-cache")

/** Fills Node's cache of compiled sources, which a process does that ends by itself: killed ones leave nothing there. */
export async function warmUp(): Promise<void> {
  const child = spawn(process.execPath, [main], { env: { NODE_COMPILE_CACHE: compileCache }, stdio: "ignore" })
  await once(child, "exit")
}

/**
 * Starts `src/main.ts` with this environment and nothing else of ours, and waits until it says that it has started.
 * `nodeArguments` stand before it: a preload that makes it fail, for example.
 */
export async function startStepback(
  environment: Record<string, string>,
  nodeArguments: string[] = [],
): Promise<StepbackProcess> {
  const child = spawn(process.execPath, [...nodeArguments, main], {
    env: {
      PATH: process.env["PATH"] ?? "",
      HOME: process.env["HOME"] ?? "",
      PORT: "0",
      NODE_COMPILE_CACHE: compileCache,
      ...environment,
    },
    stdio: ["ignore", "pipe", "pipe"],
  })
  const lines: Record<string, unknown>[] = []
  const errors: string[] = []
  const waiting = new Set<(line: Record<string, unknown>) => void>()
  createInterface({ input: child.stdout }).on("line", (text) => {
    const line = parse(text)
    lines.push(line)
    if (lines.length > keptLines) lines.shift()
    for (const look of waiting) look(line)
  })
  createInterface({ input: child.stderr }).on("line", (text) => errors.push(text))
  const ended = exit(child)
  // What ends without stopping its stage leaves nothing running.
  const last = () => void child.kill("SIGKILL")
  process.once("exit", last)
  void ended.then(() => process.off("exit", last))
  const logged = (holds: (line: Record<string, unknown>) => boolean) =>
    new Promise<Record<string, unknown>>((resolve, reject) => {
      const known = lines.find(holds)
      if (known) return resolve(known)
      const look = (line: Record<string, unknown>) => {
        if (!holds(line)) return
        waiting.delete(look)
        resolve(line)
      }
      waiting.add(look)
      void ended.then((code) =>
        reject(
          new Error(
            `stepback ended (${code}): ${errors.join("\n")}\n${lines
              .slice(-5)
              .map((line) => JSON.stringify(line))
              .join("\n")}`,
          ),
        ),
      )
    })
  const started = await logged((line) => line["msg"] === "started")
  return {
    pid: child.pid ?? 0,
    port: Number(started["port"]),
    lines,
    ended,
    logged,
    kill: (signal) => void child.kill(signal),
    stop: async () => {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGTERM")
      await ended
    },
  }
}

async function exit(child: ChildProcess): Promise<number | string> {
  const [code, signal] = (await once(child, "exit")) as [number | null, string | null]
  return code ?? signal ?? "?"
}

function parse(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch {
    return { msg: text }
  }
}
