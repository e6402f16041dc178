import { renderTranscript } from "./render-text.ts"
import type { Store } from "./store.ts"

/**
 * Resolves with what `look` finds, looking again at every change. Rejects with what was waited for and all that
 * the channels show, which is what one wants to read when a test fails.
 */
export function waitFor<T>(
  store: Store,
  look: () => T | undefined | false | null,
  { timeoutMs = 10_000, what = "something in Slack" }: { timeoutMs?: number; what?: string } = {},
): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer)
      store.off("change", check)
    }
    const check = (): void => {
      try {
        const found = look()
        if (found === undefined || found === false || found === null) return
        stop()
        resolve(found)
      } catch (error) {
        stop()
        reject(error instanceof Error ? error : new Error(String(error)))
      }
    }
    const timer = setTimeout(() => {
      stop()
      reject(new Error(`Waited ${timeoutMs} ms for ${what}. What Slack shows:\n\n${renderTranscript(store)}`))
    }, timeoutMs)
    store.on("change", check)
    check()
  })
}
