import { once } from "node:events"
import { fork, type ChildProcess } from "node:child_process"

/** Another process of the benchmark; it ends when this one does. */
export type Child = {
  /** Resolves with the next message; rejects when the process ends instead. */
  next<T>(): Promise<T>
  ask<T>(question: object): Promise<T>
  /** Resolves when it has ended. */
  stop(): Promise<void>
}

export function startChild(file: string, env: Record<string, string> = {}): Child {
  const child: ChildProcess = fork(new URL(file, import.meta.url).pathname, { env: { ...process.env, ...env } })
  const next = <T>() =>
    new Promise<T>((resolve, reject) => {
      const ended = () => reject(new Error(`${file} ended`))
      child.once("exit", ended)
      child.once("message", (message) => {
        child.off("exit", ended)
        resolve(message as T)
      })
    })
  return {
    next,
    ask: <T>(question: object) => {
      const answer = next<T>()
      child.send(question)
      return answer
    },
    stop: async () => {
      const ended = child.exitCode === null ? once(child, "exit") : null
      if (child.connected) child.disconnect()
      await ended
    },
  }
}
