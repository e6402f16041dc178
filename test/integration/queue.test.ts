import { randomUUID } from "node:crypto"
import { afterAll, afterEach, beforeAll, describe, expect, inject, it } from "vitest"
import { until } from "../../playground/faults/until.ts"
import { connectPostgres } from "../../playground/postgres.ts"
import { startRedisCluster, startSentinel } from "../../playground/redis-group.ts"
import { ask, findRedis, startRedis, type Redis } from "../../playground/redis.ts"
import { answerBell, createBell, type Bell, type BellOptions } from "../../src/jobs/queue.ts"
import { redisInfos } from "../../src/jobs/redis.ts"
import { startLoops } from "../../src/jobs/loops.ts"
import type { Workshop } from "../../src/jobs/work.ts"
import { created, freshState, log } from "./store-fixture.ts"

const redisHere = findRedis() !== null
let redis: Redis | null = null
let databaseUrl: string
const open: { close(): Promise<void> }[] = []

beforeAll(async () => {
  if (redisHere) redis = await startRedis()
  databaseUrl = await connectPostgres(inject("postgresUrl")).createDatabase(`queue_${randomUUID().slice(0, 8)}`)
})
afterEach(async () => {
  await Promise.all(open.splice(0).map((each) => each.close()))
})
afterAll(() => redis?.stop())

const optionsOf = (backend: string): BellOptions => ({
  redisUrl: backend === "redis" ? (redis?.url ?? "") : null,
  databaseUrl,
  log,
  ...(backend === "redis" ? { prefix: randomUUID() } : {}),
})

/** One that is connected: it rings to nobody before. */
async function bell(options: BellOptions): Promise<Bell> {
  const made = createBell(options)
  open.push(made)
  await until("the link", async () => (await made.trouble()) === null)
  return made
}

/** A worker that writes down what it hears. */
function listen(options: BellOptions, work: (id: string) => Promise<void> = () => Promise.resolve()) {
  const heard: string[] = []
  const answering = answerBell({ ...options, concurrency: 4 }, async (id) => {
    heard.push(id)
    await work(id)
  })
  open.push(answering)
  const hears = (id: string) => until(`the ring for ${id}`, () => Promise.resolve(heard.includes(id)), 20_000)
  return { heard, hears, answering }
}

it.runIf(redisHere)("a Redis that answers and takes nothing is trouble, until it takes something again", async () => {
  const door = await bell(optionsOf("redis"))
  const limit = (bytes: number) => ask(redis?.port ?? 0, `CONFIG SET maxmemory ${bytes}`)
  await limit(1)
  try {
    door.ring("run", randomUUID())
    await until("the refusal", async () => /takes no jobs: OOM/.test((await door.trouble()) ?? ""))
  } finally {
    await limit(0)
  }
  door.ring("run", randomUUID())
  await until("that it is over", async () => (await door.trouble()) === null)
})

describe.each(["redis", "postgres"])("the bell on %s", (backend) => {
  const needed = backend === "postgres" || redisHere

  it.runIf(needed)(
    "is heard by id, whichever worker hears it, and rings that were there before a worker was",
    async () => {
      const options = optionsOf(backend)
      const door = await bell(options)
      const early = randomUUID()
      door.ring("rehearse", early)
      await until("the early ring", async () => (await door.waiting()) === 1)
      const one = listen(options)
      await one.hears(early)
      const other = listen(options)
      const ids = Array.from({ length: 20 }, () => randomUUID())
      for (const id of ids) door.ring("run", id)
      await until(
        "all rings",
        () => Promise.resolve(ids.every((id) => [...one.heard, ...other.heard].includes(id))),
        20_000,
      )
      expect([...one.heard, ...other.heard]).toHaveLength(21)
      expect(await door.trouble()).toBeNull()
    },
  )

  it.runIf(needed)("rings for the same rollback as often as it is rung, also after work that failed", async () => {
    const options = optionsOf(backend)
    const door = await bell(options)
    const { heard } = listen(options, () => Promise.reject(new Error("no")))
    const id = randomUUID()
    for (let n = 1; n <= 3; n++) {
      door.ring("run", id)
      await until(`ring ${n}`, () => Promise.resolve(heard.length === n), 20_000)
    }
    expect(heard).toEqual([id, id, id])
  })
})

describe.runIf(redisHere)("the bell while Redis is gone", () => {
  it("does not hold up who rings, tells of its trouble, and closes", async () => {
    const gone = await startRedis()
    const options = { redisUrl: gone.url, databaseUrl, log }
    const door = await bell(options)
    const { answering, hears } = listen(options)
    const id = randomUUID()
    door.ring("run", id)
    await hears(id)
    await gone.stop()
    await until("the trouble", async () => (await door.trouble()) !== null)
    for (let n = 0; n < 1_000; n++) door.ring("run", randomUUID())
    await expect(door.waiting()).rejects.toThrow()
    // Either would hang for good if it waited for Redis; the test's own time is the limit.
    await answering.close()
    await door.close()
  })

  it("is heard again when it is back, empty", async () => {
    const restarted = await startRedis()
    try {
      const options = { redisUrl: restarted.url, databaseUrl, log }
      const door = await bell(options)
      const { heard } = listen(options)
      await restarted.restart()
      const id = randomUUID()
      // As the sweep does: it rings until somebody has heard.
      await until("a ring after the restart", () => {
        door.ring("run", id)
        return Promise.resolve(heard.includes(id))
      })
      await restarted.flush()
      const next = randomUUID()
      await until("a ring after the flush", () => {
        door.ring("run", next)
        return Promise.resolve(heard.includes(next))
      })
      await Promise.all(open.splice(0).map((each) => each.close()))
    } finally {
      await restarted.stop()
    }
  })

  it("that was never there is no reason to wait either, and nothing is piled up for its beginning", async () => {
    const { url, port, stop } = await startRedis()
    await stop()
    const door = createBell({ redisUrl: url, databaseUrl, log })
    open.push(door)
    for (let n = 0; n < 100; n++) door.ring("run", randomUUID())
    expect(await door.trouble()).toMatch(/^Redis is not connected/)
    await expect(door.waiting()).rejects.toThrow("Redis is not connected")
    const late = await startRedis({ port })
    try {
      await until("the link", async () => (await door.trouble()) === null)
      expect(await door.waiting()).toBe(0)
      await Promise.all(open.splice(0).map((each) => each.close()))
    } finally {
      await late.stop()
    }
  })
})

describe("the sweep", () => {
  it("takes no more than the worker has room for, and the rest when there is room again", async () => {
    const { pool, store } = await freshState()
    for (let n = 0; n < 4; n++) await created(store)
    await pool.query("update stepback.rollbacks set due_at = now() - interval '1 minute'")
    const inHand = new Map<string, () => void>()
    const workshop: Workshop = {
      async work(id) {
        if (await store.runs.claim(id, "one", 60_000)) await new Promise<void>((resolve) => inHand.set(id, resolve))
      },
      size: () => inHand.size,
      close: () => Promise.resolve(),
    }
    let turns = 0
    const listUnclaimed = (limit: number) => {
      turns++
      return store.runs.listUnclaimed(limit)
    }
    const none = { watch: null, baselines: null, forget: null, callHook: null }
    const loops = startLoops({
      ...none,
      store: { ...store, runs: { ...store.runs, listUnclaimed } },
      plans: { load: async () => ({ plans: new Map(), invalid: [] }) },
      workshop,
      concurrency: 3,
      delivery: { serveOne: async () => false, close: () => undefined },
      ring: () => undefined,
      worker: "one",
      role: "worker",
      newId: randomUUID,
      log,
    })
    open.push(loops)
    const isFull = async () => {
      await until("full hands", () => Promise.resolve(inHand.size >= 3))
      const then = turns + 2
      await until("turns of the sweep", () => Promise.resolve(turns >= then))
      expect(inHand.size).toBe(3)
    }
    await isFull()
    const [first = ""] = inHand.keys()
    await store.rollbacks.move(first, "cancelled", { actor: "stepback" })
    inHand.get(first)?.()
    inHand.delete(first)
    await isFull()
    expect(inHand.has(first)).toBe(false)
    await Promise.all(open.splice(0).map((each) => each.close()))
    await pool.end()
  })
})

describe.runIf(redisHere)("the bell on several servers", () => {
  it("is heard through a Cluster of which one node is named, with a password or without", async () => {
    const { servers, stop } = await startRedisCluster()
    const port = servers[0]?.port ?? 0
    const rings = async (redisUrl: string) => {
      const options = { redisUrl, databaseUrl, log }
      const door = await bell(options)
      const { heard, hears } = listen(options)
      const ids = Array.from({ length: 20 }, () => randomUUID())
      for (const id of ids) door.ring("run", id)
      for (const id of ids) await hears(id)
      expect(heard).toHaveLength(20)
      expect(await door.trouble()).toBeNull()
      expect(await redisInfos(redisUrl, 5_000)).toHaveLength(3)
      await Promise.all(open.splice(0).map((each) => each.close()))
    }
    try {
      await rings(JSON.stringify([{ host: "127.0.0.1", port }]))
      for (const server of servers) await ask(server.port, "CONFIG SET requirepass o,pen:1")
      await rings(JSON.stringify([{ host: "127.0.0.1", port, password: "o,pen:1" }]))
      await rings(`redis://:o,pen%3A1@127.0.0.1:${port},redis://127.0.0.1:1`)
      await expect(redisInfos(`redis://:no@127.0.0.1:${port},redis://127.0.0.1:1`, 5_000)).rejects.toThrow(
        /WRONGPASS|NOAUTH/,
      )
    } finally {
      await stop()
    }
  })

  it("follows the primary that a Sentinel names, also to another", async () => {
    const group = await startSentinel("queue")
    try {
      const sentinels = [{ host: "127.0.0.1", port: group.sentinel.port }]
      const options = { redisUrl: JSON.stringify({ sentinels, name: "queue" }), databaseUrl, log }
      const door = await bell(options)
      const { heard, hears } = listen(options)
      const before = randomUUID()
      door.ring("run", before)
      await hears(before)
      expect(await redisInfos(options.redisUrl, 5_000)).toEqual([expect.stringContaining("role:master")])
      await expect(redisInfos(JSON.stringify({ sentinels, name: "other" }), 5_000)).rejects.toThrow(/No such master/)
      await group.primary.stop()
      const after = randomUUID()
      // As the sweep does: it rings until somebody has heard.
      await until("a ring on the new primary", () => {
        door.ring("run", after)
        return Promise.resolve(heard.includes(after))
      })
      await Promise.all(open.splice(0).map((each) => each.close()))
    } finally {
      await group.stop()
    }
  })
})
