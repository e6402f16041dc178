import { setTimeout as pause } from "node:timers/promises"
import { LostLeaseError } from "../errors.ts"
import type { StoredRollback } from "../store/rows.ts"
import type { Store } from "../store/store.ts"

/**
 * How long a worker may be silent before another takes over, and how often it speaks. A takeover after `kill -9` takes
 * at most the lease and one sweep.
 */
export const leaseMs = 6_000
const renewEveryMs = 1_500
/** What is begun in time comes to its effect before another may have the run. */
const marginMs = 2_000
/** How soon who did not answer is asked again. */
const unheardMs = 250
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
  /**
   * The same where nothing was heard for so long that another may have it: this process stood still. Waits for the answer;
   * throws when it is lost.
   */
  stillOurs(): Promise<void>
  abandon(): void
  end(): void
}

/** Whether it is time to draw the card again, asked with each sign of life. */
function redrawing(): () => boolean {
  const began = performance.now()
  let drawn = began
  return () => {
    const at = performance.now()
    if (at - drawn < (at - began > longMs ? redrawLongEveryMs : redrawEveryMs)) return false
    drawn = at
    return true
  }
}

/** No answer is no leave: the state database may be away from here alone. */
async function askUntil(isKnown: () => boolean, ask: () => Promise<void>): Promise<void> {
  while (!isKnown()) {
    await ask()
    if (!isKnown()) await pause(unheardMs)
  }
}

/** Keeps a claimed rollback ours while it is worked on. `asked`: when it was claimed, by this process's clock. */
export function holdLease(
  claimed: Pick<StoredRollback, "id" | "epoch" | "worker" | "state" | "stop_requested_at">,
  store: Store,
  watch: (runningMs: number | null) => void,
  asked = performance.now(),
): Lease {
  const controller = new AbortController()
  let lost = false
  let stop = claimed.stop_requested_at !== null
  let until = asked + leaseMs
  let checks = 0
  let checked = Promise.resolve()
  const now: Record<string, string> = {}
  const isDue = redrawing()

  async function ask(): Promise<void> {
    checks++
    const sent = performance.now()
    const toDraw = claimed.state === "running" && isDue() ? now : null
    try {
      const state = await store.runs.renew(claimed, leaseMs, toDraw)
      lost ||= !state.held
      if (state.held) until = sent + leaseMs
      if (state.stop) stop = true
      if (lost || stop) controller.abort()
      else watch(state.runningMs)
    } catch {
      // The state database is away. The fence decides who may commit; the next renewal tells whether we still may try.
    } finally {
      checks--
    }
  }

  /** After what is on its way: that may have been answered before this process stood still. */
  function check(): Promise<void> {
    checked = checked.then(ask)
    return checked
  }

  const isKnown = () => lost || performance.now() <= until - marginMs
  const timer = setInterval(() => checks > 0 || void check(), renewEveryMs)
  return {
    signal: controller.signal,
    lost: () => lost,
    stopRequested: () => stop,
    sawStop: () => {
      stop = true
    },
    underway: (stepId) => {
      now[stepId] = new Date().toISOString()
      return () => void delete now[stepId]
    },
    check,
    stillOurs: async () => {
      await askUntil(isKnown, check)
      if (lost) throw new LostLeaseError(claimed.id)
    },
    abandon: () => {
      lost = true
      controller.abort()
    },
    end: () => clearInterval(timer),
  }
}
