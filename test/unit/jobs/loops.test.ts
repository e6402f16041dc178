import { afterEach, beforeEach, expect, it, vi } from "vitest"
import { startLoops } from "../../../src/jobs/loops.ts"

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

it("a turn that fails in the same way again is said once, and anew after one that went well", async () => {
  const warn = vi.fn()
  const log = { warn, debug: vi.fn() } as unknown as Parameters<typeof startLoops>[0]["log"]
  let away = true
  const watch = async () => {
    if (away) throw new Error("the state database is away")
    return false
  }
  const idle = async () => false
  const store = {
    waiting: {
      expire: async () => [],
      nudge: async () => 0,
      listLost: async () => [],
      listExpiredUntold: async () => [],
    },
    records: { tellAgain: async () => 0 },
    runs: { seen: async () => undefined },
    analyses: { remind: async () => 0 },
  }
  const loops = startLoops({
    store: store as never,
    plans: {} as never,
    delivery: { serveOne: idle, close: () => undefined },
    workshop: null,
    concurrency: 1,
    watch,
    baselines: null,
    forget: null,
    callHook: null,
    ring: () => undefined,
    worker: "w",
    role: "all",
    newId: () => "id",
    log,
  })
  await vi.advanceTimersByTimeAsync(10_000)
  expect(warn).toHaveBeenCalledTimes(1)
  away = false
  await vi.advanceTimersByTimeAsync(2_000)
  away = true
  await vi.advanceTimersByTimeAsync(10_000)
  expect(warn).toHaveBeenCalledTimes(2)
  const closed = loops.close()
  await vi.runAllTimersAsync()
  await closed
})
