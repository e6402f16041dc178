import type { Plans } from "../commands/ports.ts"
import { errorMessage } from "../errors.ts"
import type { Logger } from "../log.ts"
import type { Store } from "../store/store.ts"
import type { Delivery } from "./deliver.ts"
import { telling } from "./telling.ts"
import type { Workshop } from "./work.ts"

/** A piece of work that comes back, one at a time, until closed. */
type Loop = { wake(): void; close(): Promise<void> }

function createLoop(everyMs: number, work: () => Promise<boolean | void>, log: Logger): Loop {
  let closed = false
  let wakeUp: (() => void) | null = null
  let woken = false
  const said = new Set<string>()
  const rest = () =>
    new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, everyMs)
      wakeUp = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  const turning = (async () => {
    // oxlint-disable-next-line no-unmodified-loop-condition -- close() sets it
    while (!closed) {
      woken = false
      const more = await work().then(
        (result) => {
          said.clear()
          return result
        },
        (err: unknown) => {
          // A database that is away for an hour is no news each second.
          const message = errorMessage(err)
          log[said.has(message) ? "debug" : "warn"]({ err }, "a loop's turn failed")
          said.add(message)
          return false
        },
      )
      if (more !== true && !woken && !closed) await rest()
    }
  })()
  return {
    wake: () => {
      woken = true
      wakeUp?.()
    },
    close: async () => {
      closed = true
      wakeUp?.()
      await turning
    },
  }
}

/** A worker that has room takes an unclaimed rollback straight from Postgres after this: no queue, still a rollback. */
const takeAfterMs = 3_000
const lostAfterMs = 30_000
/** Approvers are called again once, after this. */
const nudgeAfterMs = 180_000
const deliveryLanes = 3
const hookLanes = 3

export type Loops = { wakeOutbox(): void; close(): Promise<void> }

/** Everything that must go on although the queue is gone: these live on Postgres alone. */
export function startLoops(options: {
  store: Store
  plans: Plans
  workshop: Workshop | null
  /** Rollbacks that this worker has in hand side by side, beside what BullMQ, which counts its own alone, has brought. */
  concurrency: number
  delivery: Delivery
  /** Probes one ended rollback that is watched; null in a process without secrets of targets. */
  watch: (() => Promise<boolean>) | null
  /** Serves one wish for a baseline; null where no target may be seen. */
  baselines: (() => Promise<boolean>) | null
  /** Removes archives whose time is over; null where no target may be seen. */
  forget: (() => Promise<void>) | null
  /** Makes one call to a pager beside Slack; null in a process without its secrets. */
  callHook: (() => Promise<boolean>) | null
  ring(kind: "rehearse" | "run", rollbackId: string): void
  worker: string
  role: string
  newId(): string
  log: Logger
}): Loops {
  const { store, workshop, log } = options
  const lanes = Array.from({ length: deliveryLanes }, () => createLoop(700, () => options.delivery.serveOne(), log))
  const outbox = gather(
    () => lanes.forEach((lane) => lane.wake()),
    () => (workshop?.size() ?? 0) > 0,
  )
  const wakeOutbox = outbox.wake
  const tell = telling({ store, plans: options.plans, newId: options.newId, log })

  const loops = [
    createLoop(
      1_000,
      async () => {
        const told =
          (await store.waiting.expire()).length + (await tell.nobodyApproved()) + (await store.records.tellAgain())
        if (told > 0) wakeOutbox()
      },
      log,
    ),
    createLoop(
      5_000,
      async () => {
        await store.runs.seen(options.worker, options.role)
        const told = (await tell.nudge(nudgeAfterMs)) + (await tell.lostWorkers(lostAfterMs)) + (await tell.remind())
        if (told > 0) wakeOutbox()
      },
      log,
    ),
  ]
  const { watch, baselines } = options
  if (watch) loops.push(createLoop(1_000, watch, log))
  const { forget, callHook } = options
  // One that does not answer holds up no other.
  if (callHook) for (let lane = 0; lane < hookLanes; lane++) loops.push(createLoop(1_000, callHook, log))
  if (forget) loops.push(createLoop(600_000, forget, log))
  if (baselines) loops.push(createLoop(1_000, baselines, log))
  if (workshop) loops.push(createLoop(1_000, () => sweep({ ...options, workshop }), log))
  return {
    wakeOutbox,
    close: async () => {
      outbox.close()
      options.delivery.close()
      await Promise.all([...loops, ...lanes].map((loop) => loop.close()))
    },
  }
}

/** Messages are gathered for this long, and while a run is in hand for longer: steps go first, words follow. */
const gatherMs = 40
const gatherBusyMs = 320

/**
 * Wakes once for many calls. Drawing and sending a message costs more than a light step does, and takes the lock on the
 * rollback's row that the step's result needs: a run of a moment is over before its first message goes out.
 */
function gather(wake: () => void, busy: () => boolean): { wake(): void; close(): void } {
  let timer: NodeJS.Timeout | null = null
  const wait = (waited: number) => {
    timer = setTimeout(() => {
      if (busy() && waited + gatherMs < gatherBusyMs) return wait(waited + gatherMs)
      timer = null
      wake()
    }, gatherMs)
  }
  return {
    wake: () => {
      if (timer === null) wait(0)
    },
    close: () => {
      if (timer !== null) clearTimeout(timer)
    },
  }
}

type Sweep = Pick<Parameters<typeof startLoops>[0], "store" | "concurrency" | "ring" | "log"> & { workshop: Workshop }

/**
 * Rings again for what nobody works on, and takes it when ringing does not help, as far as there is room. A run that waits
 * for a person keeps its place, here as with BullMQ: what a worker full of these cannot take is for another, or waits.
 */
async function sweep({ store, workshop, concurrency, ring, log }: Sweep): Promise<void> {
  let room = concurrency - workshop.size()
  for (const waiting of await store.runs.listUnclaimed(50)) {
    // What another has let go of was rung for already: ringing once more would only cost time.
    if (waiting.lapsed || waiting.waitingMs > takeAfterMs) {
      if (room-- > 0)
        workshop
          .work(waiting.id)
          .catch((err: unknown) => log.warn({ err, rollbackId: waiting.id }, "a waiting rollback could not be taken"))
    } else if (waiting.waitingMs > 500) ring(waiting.state === "preparing" ? "rehearse" : "run", waiting.id)
  }
}
