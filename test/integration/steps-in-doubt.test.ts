import { randomUUID } from "node:crypto"
import { once } from "node:events"
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { createServer, type Server, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Pool } from "pg"
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest"
import { createIncarnation } from "../../playground/faults/incarnation.ts"
import { startPostgresProxy, type PostgresProxy } from "../../playground/faults/proxy.ts"
import { until } from "../../playground/faults/until.ts"
import { createWorkshop } from "../../src/jobs/work.ts"
import { checkPlanSource } from "../../src/plans/load.ts"
import type { LoadedPlan } from "../../src/plans/plan.ts"
import { runStep } from "../../src/steps/definitions.ts"
import { createTargetPools } from "../../src/steps/target.ts"
import { createPool } from "../../src/store/database.ts"
import { createStore, type Store } from "../../src/store/store.ts"
import { contextOf, freshTarget, stepOf, type TargetFixture } from "./steps-fixture.ts"
import { created, freshState, log } from "./store-fixture.ts"

describe("a step whose commit was not heard of and that cannot wait any longer", () => {
  let target: TargetFixture
  let proxy: PostgresProxy

  beforeAll(async () => {
    target = await freshTarget(
      "create table counters (id integer primary key, n integer not null); insert into counters values (1, 0)",
    )
    proxy = await startPostgresProxy(Number(new URL(target.url).port))
  })
  afterAll(async () => {
    await proxy.stop()
    await target.stop()
  })
  beforeEach(() => target.admin.query("update counters set n = 0"))

  const add = () => stepOf(`- { id: once, sql: "update counters set n = n + 1 where id = 1", expect: { rows: 1 } }`)
  const counted = async () => (await target.admin.query<{ n: number }>("select n from counters")).rows[0]?.n

  it.each(["before", "after"] as const)(
    "is unknown when Stop came and the link was cut %s the commit; a Retry finds out, and it is there once",
    async (when) => {
      const context = await contextOf({ pool: target.pools.get(proxy.url(target.url)) })
      proxy.cutAtCommit(when, 1)
      const stopped = { ...context, signal: AbortSignal.abort() }
      expect(await runStep(await add(), stopped)).toMatchObject({ outcome: "unknown", rows: null })
      await until("the end of what was on its way", async () => (await counted()) === (when === "after" ? 1 : 0))
      expect(await runStep(await add(), context)).toMatchObject({ outcome: "succeeded", rows: 1 })
      expect(await counted()).toBe(1)
    },
  )

  it("is unknown when the ledger is gone by the time it is asked: nothing is done again", async () => {
    const context = await contextOf({ pool: target.pools.get(proxy.url(target.url)) })
    // A commit that waits until the ledger is gone, as after a failover to an older copy.
    proxy.cutAtCommit("after", 1)
    const cuts = proxy.cuts()
    const running = runStep(await add(), context)
    await until("the cut", () => Promise.resolve(proxy.cuts() > cuts))
    await until("the commit", async () => (await counted()) === 1)
    await target.admin.query("truncate stepback_ledger.fence")
    expect(await running).toMatchObject({ outcome: "unknown", failure: { code: "ledger_lost" } })
    expect(await counted()).toBe(1)
  })
})

/** Through the whole worker: what a later try is told of an earlier one. */
describe("a keyed step that is tried again", () => {
  let state: { url: string; pool: Pool; store: Store }
  let folder: string
  let site: { url: string; keys: string[]; answers: ((response: ServerResponse) => void)[]; server: Server }
  let environment: Record<string, string | undefined>

  beforeAll(async () => {
    ;[state, folder, site] = await Promise.all([freshState(), mkdtemp(join(tmpdir(), "stepback-doubt-")), startSite()])
    environment = { PATH: process.env["PATH"], DOUBT_URL: site.url, DOUBT_FOLDER: folder }
  })
  afterAll(async () => {
    site.server.close()
    site.server.closeAllConnections()
    await state.pool.end()
    await rm(folder, { recursive: true, force: true })
  })
  beforeEach(() => {
    site.keys.length = 0
    site.answers.length = 0
  })

  function workshopOf(store: Store, plan: LoadedPlan) {
    const plans = new Map([[plan.plan.environment, plan]])
    return createWorkshop(
      {
        store,
        plans: { load: () => Promise.resolve({ plans, invalid: [] }) },
        targets: createTargetPools(log),
        environment,
        ring: () => undefined,
        wakeOutbox: () => undefined,
        newId: randomUUID,
        stillAllowed: () => Promise.resolve(true),
        log,
      },
      randomUUID(),
    )
  }

  /** An approved rollback of one step. */
  async function approved(step: string): Promise<{ id: string; plan: LoadedPlan }> {
    const name = `d-${randomUUID().slice(0, 8)}`
    const { plan, problems } = await checkPlanSource(
      `${name}.yaml`,
      `version: 1
environment: ${name}
title: In doubt
target: { http: "\${DOUBT_URL}" }
approve: { low: { count: 1, from: anyone }, medium: { count: 1, from: anyone }, high: { count: 1, from: anyone } }
components: { all: { risk: low, steps: [${step}] } }
`,
    )
    if (plan === null) throw new Error(JSON.stringify(problems))
    const { id } = await created(state.store, { environment: name })
    await workshopOf(state.store, plan).work(id)
    const { round, digest } = await state.store.rollbacks.get(id)
    await state.store.approvals.approve({ rollbackId: id, round, digest: digest ?? "", userId: "U2BOB", teamId: "T1" })
    return { id, plan }
  }

  const retry = (id: string) =>
    state.store.rollbacks.reopen(id, { actor: "U1ALICE", requestKey: randomUUID(), skips: null })
  const outcomes = async (id: string) =>
    (await state.store.runs.listSteps(id)).map((run) => `${run.attempt} ${run.result?.outcome ?? "none"}`)

  const post = "{ id: post, http: { method: POST, path: /post }, effect: keyed, irreversible: a test }"
  const refused = (response: ServerResponse) => void response.writeHead(500).end()
  const silent = (response: ServerResponse) => void response.destroy()

  it("has its key again after an unknown outcome, and another one after an answer", async () => {
    const { id, plan } = await approved(post)
    const workshop = workshopOf(state.store, plan)
    site.answers.push(silent, refused, silent)
    for (let attempt = 1; attempt <= 4; attempt++) {
      await workshop.work(id)
      if (attempt < 4) expect(await retry(id)).toMatchObject({ kind: "moved" })
    }
    expect(await outcomes(id)).toEqual(["1 unknown", "2 failed", "3 unknown", "4 succeeded"])
    const [unknown, again, next, nextAgain] = site.keys
    expect(again).toBe(unknown)
    expect(next).not.toBe(unknown)
    expect(nextAgain).toBe(next)
    // The conforming site did it once: under the last key, since it refused the first.
    expect(new Set(site.keys).size).toBe(2)
  })

  it.each([409, 425, 429, 503])(
    "has its key again after a Retry that was answered %d: the first may be at work",
    async (status) => {
      const { id, plan } = await approved(post)
      const workshop = workshopOf(state.store, plan)
      site.answers.push(silent, (response) => void response.writeHead(status).end())
      for (let attempt = 1; attempt <= 3; attempt++) {
        await workshop.work(id)
        if (attempt < 3) expect(await retry(id)).toMatchObject({ kind: "moved" })
      }
      expect(await outcomes(id)).toEqual(["1 unknown", "2 unknown", "3 succeeded"])
      expect(site.keys).toHaveLength(3)
      expect(new Set(site.keys).size).toBe(1)
    },
  )

  it("has its key again after Retries that reached nobody, or could not be begun", async () => {
    const { id, plan } = await approved(post.replace("/post }", '/post, headers: { Authorization: "${DOUBT_KEY}" } }'))
    const had = environment
    const works = async (facts: Record<string, string | undefined>) => {
      environment = { ...had, DOUBT_KEY: "a key", ...facts }
      await workshopOf(state.store, plan).work(id)
      environment = had
    }
    site.answers.push(silent)
    await works({})
    await retry(id)
    await works({ DOUBT_KEY: undefined })
    await retry(id)
    await works({})
    expect(await outcomes(id)).toEqual(["1 unknown", "2 unknown", "3 succeeded"])
    expect(site.keys).toHaveLength(2)
    expect(new Set(site.keys).size).toBe(1)
  })

  /** The worker died in its request, which is never answered; another has the run. */
  async function diedInIt(step: string) {
    const { id, plan } = await approved(step)
    const first = createIncarnation()
    site.answers.unshift(() => undefined)
    void first.live(async () => {
      await workshopOf(createStore(createPool(state.url, { log })), plan).work(id)
    })
    await until("the request", () => Promise.resolve(site.keys.length === 1))
    first.end()
    await state.pool.query("update stepback.rollbacks set lease_until = now() - interval '1 second' where id = $1", [
      id,
    ])
    await workshopOf(state.store, plan).work(id)
    return { id, plan }
  }

  it("is unknown where its worker died in it and the repetition was refused for now, and a Retry has its key", async () => {
    site.answers.push((response) => void response.writeHead(503).end())
    const { id, plan } = await diedInIt(post)
    expect(await outcomes(id)).toEqual(["1 unknown"])
    expect(await retry(id)).toMatchObject({ kind: "moved" })
    await workshopOf(state.store, plan).work(id)
    expect(await outcomes(id)).toEqual(["1 unknown", "2 succeeded"])
    expect(site.keys).toHaveLength(3)
    expect(new Set(site.keys).size).toBe(1)
  })

  it("is repeated, where its worker died in it, as often as its retries say, under its key", async () => {
    site.answers.push(silent)
    const { id } = await diedInIt(post.replace("effect: keyed", "retries: 1, effect: keyed"))
    expect(await outcomes(id)).toEqual(["1 succeeded"])
    expect(site.keys).toHaveLength(3)
    expect(new Set(site.keys).size).toBe(1)
  })

  it.each(["keyed", "blind"])(
    "is sent, of effect %s, as often as its retries say while nobody is there to take it, and then once",
    async (effect) => {
      const later = createServer((_request, response) => void response.end("{}"))
      const sent: string[] = []
      later.on("request", ({ method }) => sent.push(String(method)))
      later.listen(0, "127.0.0.1")
      await once(later, "listening")
      const { port } = later.address() as AddressInfo
      later.close()
      await once(later, "close")
      const had = environment
      environment = { ...had, DOUBT_URL: `http://127.0.0.1:${port}` }
      try {
        const { id, plan } = await approved(post.replace("effect: keyed", `retries: 5, effect: ${effect}`))
        const working = workshopOf(state.store, plan).work(id)
        await until("the first try", async () => (await state.store.runs.listSteps(id)).length > 0)
        later.listen(port, "127.0.0.1")
        await working
        expect(await outcomes(id)).toEqual(["1 succeeded"])
        expect(sent).toEqual(["POST"])
      } finally {
        environment = had
        later.close()
      }
    },
  )

  it("keeps its result while the state's disk is full: what is blind is not in doubt because of it", async () => {
    const { id, plan } = await approved(post.replace("effect: keyed", "effect: blind"))
    let full = 3
    const recordStep: Store["runs"]["recordStep"] = (...parts) =>
      full-- > 0
        ? Promise.reject(Object.assign(new Error("could not extend file: No space left on device"), { code: "53100" }))
        : state.store.runs.recordStep(...parts)
    await workshopOf({ ...state.store, runs: { ...state.store.runs, recordStep } }, plan).work(id)
    expect(await outcomes(id)).toEqual(["1 succeeded"])
    expect(site.keys).toHaveLength(1)
  })

  it("is a program that goes on after its worker died: its group is ended before it is begun again, under its key", async () => {
    // The first lasts, with a child of its own; whoever follows tells whether one of them is still there.
    await script(`echo "$IDEMPOTENCY_KEY" >> keys
[ -e child ] && { for pid in $(cat leader child); do kill -0 $pid 2>/dev/null && state=$(cut -d' ' -f3 /proc/$pid/stat) && [ "$state" != Z ] && echo $pid >> alive; done; exit 0; }
echo $$ > leader
sh -c 'echo $$ > child; exec sleep 60' &
wait`)
    const { id, plan } = await approved(
      '{ id: go, command: [./go.sh], cwd: "${DOUBT_FOLDER}", effect: keyed, irreversible: a test }',
    )
    const first = createIncarnation()
    void first.live(async () => {
      await workshopOf(createStore(createPool(state.url, { log })), plan).work(id)
    })
    // Sooner than the test's own limit, so that it says what did not come.
    const findRecord = () => state.store.runs.findProcess(id, "go", 1)
    await until("the child", () => read("child"), 12_000)
    await until("the record", () => findRecord().then((process) => process !== null), 12_000)
    first.end()
    await state.pool.query("update stepback.rollbacks set lease_until = now() - interval '1 second' where id = $1", [
      id,
    ])
    await workshopOf(state.store, plan).work(id)
    expect(await outcomes(id)).toEqual(["1 succeeded"])
    expect(await read("alive")).toBe("")
    const keys = (await read("keys")).trim().split("\n")
    expect(keys).toHaveLength(2)
    expect(new Set(keys).size).toBe(1)
  })

  it("is ended too when it is blind: it is in doubt, and a Retry has none beside it", async () => {
    const { id, plan, pid } = await leftRunning("blind")
    await workshopOf(state.store, plan).work(id)
    expect(await outcomes(id)).toEqual(["1 unknown"])
    await until("its end", () => Promise.resolve(!isAlive(pid)), 10_000)
  })

  it("is unknown where its worker died in it and another could not start it again", async () => {
    const { id, plan } = await leftRunning("stuck", "keyed, irreversible: a test")
    await chmod(join(folder, "go.sh"), 0o644)
    await workshopOf(state.store, plan).work(id)
    expect(await outcomes(id)).toEqual(["1 unknown"])
  })

  it("is ended and told also where the run cannot go on, since what it would run is another program by now", async () => {
    const { id, plan, pid } = await leftRunning("cut")
    await script("exit 0")
    await workshopOf(state.store, plan).work(id)
    expect(await state.store.rollbacks.get(id)).toMatchObject({
      state: "failed",
      end_reason: expect.stringContaining("a file that a command runs"),
    })
    expect(await outcomes(id)).toEqual(["1 unknown"])
    await until("its end", () => Promise.resolve(!isAlive(pid)), 10_000)
  })

  it.each(["keyed", "blind"])("is in doubt though the next worker cannot begin it, of effect %s", async (effect) => {
    await script(`echo $$ >> begun-${effect}; exec sleep 10`)
    const { id, plan } = await approved(
      `{ id: go, command: [./go.sh], cwd: "\${DOUBT_FOLDER}", effect: ${effect}, irreversible: a test }`,
    )
    const first = createIncarnation()
    void first.live(async () => {
      await workshopOf(createStore(createPool(state.url, { log })), plan).work(id)
    })
    await until("the program", async () => (await read(`begun-${effect}`)) !== "")
    first.end()
    await state.pool.query("update stepback.rollbacks set lease_until = now() - interval '1 second' where id = $1", [
      id,
    ])
    const findProcess = () => Promise.reject(Object.assign(new Error("canceling statement"), { code: "57014" }))
    await workshopOf({ ...state.store, runs: { ...state.store.runs, findProcess } }, plan).work(id)
    expect(await outcomes(id)).toEqual(["1 unknown"])
  })

  async function script(text: string): Promise<void> {
    const file = join(folder, "go.sh")
    await writeFile(file, `#!/bin/sh\n${text}\n`)
    await chmod(file, 0o755)
  }
  const read = (name: string) => readFile(join(folder, name), "utf8").catch(() => "")

  /** A blind program that lasts, tells its number in a file, and was left running by a worker that died. */
  async function leftRunning(file: string, effect = "blind"): Promise<{ id: string; plan: LoadedPlan; pid: number }> {
    await script(`echo $$ >> ${file}; exec sleep 60`)
    const { id, plan } = await approved(`{ id: go, command: [./go.sh], cwd: "\${DOUBT_FOLDER}", effect: ${effect} }`)
    const first = createIncarnation()
    void first.live(async () => {
      await workshopOf(createStore(createPool(state.url, { log })), plan).work(id)
    })
    const pid = await until("the program", async () => Number(await read(file)) || null)
    await until("the record", () => state.store.runs.findProcess(id, "go", 1).then((process) => process !== null))
    first.end()
    await state.pool.query("update stepback.rollbacks set lease_until = now() - interval '1 second' where id = $1", [
      id,
    ])
    return { id, plan, pid }
  }
})

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

describe("a run that is stopped when its worker has died between an effect and the word of it", () => {
  const steps = {
    add: '{ id: add, sql: "update counters set n = n + 1 where id = 1", expect: { rows: 1 } }',
    remove: '{ id: remove, purge: { table: bad, where: "id < 4", at_most: 10, max_share: 100% } }',
  }

  it.each([
    ["add", "succeeded", [{ table: "counters", did: "changed", rows: 1 }]],
    ["remove", "failed", [{ table: "bad", did: "removed", rows: 3 }]],
  ] as const)("tells what was done: %s", async (id, outcome, affected) => {
    const [state, target] = await Promise.all([
      freshState(),
      freshTarget(`create table counters (id integer primary key, n integer not null); insert into counters values (1, 0);
        create table bad (id integer primary key); insert into bad select generate_series(1, 3)`),
    ])
    const yaml = `version: 1
environment: leftover
title: Left over
target: { postgres: "\${LEFT_URL}" }
approve: { low: { count: 1, from: anyone }, medium: { count: 1, from: anyone }, high: { count: 1, from: anyone } }
components: { all: { risk: low, steps: [${steps[id]}, { id: later, check: "select 1 as one" }] } }
`
    const { plan } = await checkPlanSource("leftover.yaml", yaml)
    const plans = new Map(plan === null ? [] : [[plan.plan.environment, plan]])
    const work = (store: Store) =>
      createWorkshop(
        {
          store,
          plans: { load: () => Promise.resolve({ plans, invalid: [] }) },
          targets: createTargetPools(log),
          environment: { LEFT_URL: target.url },
          ring: () => undefined,
          wakeOutbox: () => undefined,
          newId: randomUUID,
          stillAllowed: () => Promise.resolve(true),
          log,
        },
        randomUUID(),
      )
    const { id: rollbackId } = await created(state.store, { environment: "leftover" })
    await work(state.store).work(rollbackId)
    const { round, digest } = await state.store.rollbacks.get(rollbackId)
    await state.store.approvals.approve({ rollbackId, round, digest: digest ?? "", userId: "U2BOB", teamId: "T1" })

    const silenced = Promise.withResolvers<void>()
    const first = createIncarnation()
    void first.live(async () => {
      const store = createStore(createPool(state.url, { log }))
      const recordStep = () => {
        silenced.resolve()
        return new Promise<never>(() => undefined)
      }
      await work({ ...store, runs: { ...store.runs, recordStep } }).work(rollbackId)
    })
    await silenced.promise
    first.end()
    expect(await state.store.runs.listSteps(rollbackId)).toEqual([])

    await state.store.rollbacks.requestStop(rollbackId, "U2BOB", null)
    await state.pool.query("update stepback.rollbacks set lease_until = now() - interval '1 second'")
    await work(state.store).work(rollbackId)
    expect(await state.store.rollbacks.get(rollbackId)).toMatchObject({ state: "stopped" })
    const [told, ...others] = await state.store.runs.listSteps(rollbackId)
    expect(told).toMatchObject({ stepId: id, attempt: 1, result: { outcome, affected } })
    expect(others).toEqual([])
    await Promise.all([state.pool.end(), target.stop()])
  })
})

/** Notes the keys that it is given, and answers as it is told, else well. */
async function startSite() {
  const keys: string[] = []
  const answers: ((response: ServerResponse) => void)[] = []
  const server = createServer((request, response) => {
    request.resume()
    keys.push(String(request.headers["idempotency-key"]))
    const answer = answers.shift()
    if (answer) answer(response)
    else response.end("{}")
  }).listen(0, "127.0.0.1")
  await once(server, "listening")
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, keys, answers, server }
}
