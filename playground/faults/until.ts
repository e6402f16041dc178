import { setTimeout as pause } from "node:timers/promises"

/** Asks again until there is an answer: for what a database or a process says, which no event tells. */
export async function until<T>(
  what: string,
  look: () => Promise<T | null | undefined | false>,
  timeoutMs = 60_000,
): Promise<T> {
  const started = performance.now()
  let trouble: unknown = null
  while (performance.now() - started < timeoutMs) {
    try {
      const found = await look()
      if (found !== null && found !== undefined && found !== false) return found
    } catch (error) {
      trouble = error
    }
    await pause(40)
  }
  throw new Error(`Waited ${timeoutMs} ms for ${what}`, { cause: trouble })
}
