import type { Store } from "../store/store.ts"

/**
 * How long a worker may be silent before another takes over, and how often it speaks. A takeover after `kill -9` takes
 * at most the lease and one sweep.
 */
export const leaseMs = 6_000
const renewEveryMs = 1_500

export type Lease = {
  /** Aborted when the lease is lost, Stop was pressed, or the process must end now. */
  signal: AbortSignal
  lost(): boolean
  stopRequested(): boolean
  /** Learns of Stop from whoever read it. */
  sawStop(): void
  /** Asks the database now. */
  check(): Promise<void>
  abandon(): void
  end(): void
}

/** Keeps a claimed rollback ours while it is worked on. */
export function holdLease(
  claimed: { id: string; epoch: number; stop: boolean },
  store: Store,
  watch: (runningMs: number | null) => void,
): Lease {
  const controller = new AbortController()
  let lost = false
  let stop = claimed.stop
  let checking = false

  async function check(): Promise<void> {
    if (checking) return
    checking = true
    try {
      const state = await store.runs.renew(claimed.id, claimed.epoch, leaseMs)
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
    check,
    abandon: () => {
      lost = true
      controller.abort()
    },
    end: () => clearInterval(timer),
  }
}
