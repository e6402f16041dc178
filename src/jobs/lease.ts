import type { StoredRollback } from "../store/rows.ts"
import type { Store } from "../store/store.ts"

/**
 * How long a worker may be silent before another takes over, and how often it speaks. A takeover after `kill -9` takes
 * at most the lease and one sweep.
 */
export const leaseMs = 6_000
const renewEveryMs = 1_500
/** How often the clock and the steps on a running card move by themselves; edits are limited to some 50 a minute. */
const redrawEveryMs = 10_000
/** A run that takes long, as one that waits for people, is drawn less often. */
const longMs = 5 * 60_000
const redrawLongEveryMs = 60_000

export type Lease = {
  /** Aborted when the lease is lost, Stop was pressed, or the process must end now. */
  signal: AbortSignal
  lost(): boolean
  stopRequested(): boolean
  /** Learns of Stop from whoever read it. */
  sawStop(): void
  /** A step goes on, until what this gives is called. */
  underway(stepId: string): () => void
  /** Asks the database now. */
  check(): Promise<void>
  abandon(): void
  end(): void
}

/** Keeps a claimed rollback ours while it is worked on. */
export function holdLease(
  claimed: Pick<StoredRollback, "id" | "epoch" | "state" | "stop_requested_at">,
  store: Store,
  watch: (runningMs: number | null) => void,
): Lease {
  const controller = new AbortController()
  let lost = false
  let stop = claimed.stop_requested_at !== null
  let checking = false
  const began = performance.now()
  let drawn = began
  const now: Record<string, string> = {}

  /** What the card is to show, when it is time. */
  function toDraw(): Record<string, string> | null {
    const at = performance.now()
    const every = at - began > longMs ? redrawLongEveryMs : redrawEveryMs
    if (claimed.state !== "running" || at - drawn < every) return null
    drawn = at
    return now
  }

  async function check(): Promise<void> {
    if (checking) return
    checking = true
    try {
      const state = await store.runs.renew(claimed.id, claimed.epoch, leaseMs, toDraw())
      lost ||= !state.held
      if (state.stop) stop = true
      if (lost || stop) controller.abort()
      else watch(state.runningMs)
    } catch {
      // The state database is away. The fence decides who may commit; the next renewal tells whether we still may try.
    } finally {
      checking = false
    }
  }

  const timer = setInterval(() => void check(), renewEveryMs)
  return {
    signal: controller.signal,
    lost: () => lost,
    stopRequested: () => stop,
    sawStop: () => {
      stop = true
    },
    underway: (stepId) => {
      now[stepId] = new Date().toISOString()
      return () => {
        delete now[stepId]
      }
    },
    check,
    abandon: () => {
      lost = true
      controller.abort()
    },
    end: () => clearInterval(timer),
  }
}
