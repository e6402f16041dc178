import { randomUUID } from "node:crypto"
import pg, { type Pool } from "pg"
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest"
import { loadView } from "../../src/commands/view.ts"
import { LostLeaseError } from "../../src/errors.ts"
import { holdLease } from "../../src/jobs/lease.ts"
import { stepResult } from "../../src/steps/step.ts"
import { createPool } from "../../src/store/database.ts"
import { migrate } from "../../src/store/migrate.ts"
import type { StoredRollback } from "../../src/store/rows.ts"
import { createStore, type Store } from "../../src/store/store.ts"
import { created, freshState, log, request, running } from "./store-fixture.ts"

let pool: Pool
let store: Store

beforeAll(async () => {
  ;({ pool, store } = await freshState())
})
afterAll(() => pool.end())

/** While somebody else is at it, for so many seconds. */
async function behindAnother<T>(first: Pool, seconds: number, work: () => Promise<T>): Promise<T> {
  const other = await first.connect()
  await other.query("begin; select pg_advisory_xact_lock(7220541)")
  const working = work()
  working.catch(() => undefined)
  await other.query("select pg_sleep($1)", [seconds])
  await other.query("rollback")
  other.release()
  return working
}

describe("migrations", () => {
  it("are applied once by many processes that start together, and not again", async () => {
    const { url, pool: first } = await freshState({ migrated: false })
    const others = Array.from({ length: 7 }, () => createPool(url, { log, max: 1 }))
    const applied = await Promise.all([first, ...others].map((each) => migrate(each)))
    expect(applied.filter((names) => names.length > 0)).toHaveLength(1)
    expect(applied.flat()).toContain("001-state.sql")
    expect(await migrate(first)).toEqual([])
    await Promise.all([first, ...others].map((each) => each.end()))
  })

  it.each(["default_transaction_isolation = 'serializable'", "lock_timeout = '1ms'", "transaction_timeout = '100ms'"])(
    "are applied once where the database has %s",
    async (setting) => {
      const { url, pool: first } = await freshState({ migrated: false })
      await first.query(`alter database ${new URL(url).pathname.slice(1)} set ${setting}`)
      const pools = Array.from({ length: 3 }, () => createPool(url, { log, max: 1 }))
      const applied = await behindAnother(first, 0.3, () => Promise.all(pools.map((each) => migrate(each))))
      expect(applied.filter((names) => names.length > 0)).toHaveLength(1)
      await Promise.all([first, ...pools].map((each) => each.end()))
    },
  )

  it("are not begun where the database cannot spell what people write", async () => {
    const { url, pool: first } = await freshState({ migrated: false })
    const name = `${new URL(url).pathname.slice(1)}_latin`
    await first.query(`create database ${name} template template0 encoding 'latin1' lc_collate 'C' lc_ctype 'C'`)
    const latin = createPool(Object.assign(new URL(url), { pathname: name }).href, { log, max: 1 })
    await expect(migrate(latin)).rejects.toThrow(
      "The state database's encoding is LATIN1, which lacks characters that people write: create it with encoding 'UTF8'.",
    )
    await Promise.all([first.end(), latin.end()])
  })

  it("take, and wait for who is at it, longer than a statement of every day may", async () => {
    const { url, pool: first } = await freshState({ migrated: false })
    const hasty = new pg.Pool({ connectionString: url, statement_timeout: 300, query_timeout: 400 })
    expect(await behindAnother(first, 0.6, () => migrate(hasty))).toContain("001-state.sql")
    await Promise.all([first.end(), hasty.end()])
  })
})

it("moments are what they are, however the role or the database writes days", async () => {
  const { url, pool: first } = await freshState()
  const name = new URL(url).pathname.slice(1)
  await first.query(
    `alter database "${name}" set datestyle = 'SQL, DMY'; alter database "${name}" set timezone = 'America/New_York'`,
  )
  await first.end()
  const odd = createPool(url, { log, max: 3 })
  const asked = await created(createStore(odd))
  const { rows } = await odd.query<{ at: string }>(
    `select to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as at from stepback.rollbacks`,
  )
  expect(asked.created_at).toBe(rows[0]?.at)
  await odd.end()
})

it("a process that starts takes the row of one that is long gone: the list grows by starts in a day, not for ever", async () => {
  const { pool: own, store: fresh } = await freshState()
  for (const id of ["first", "second", "third"]) await fresh.runs.seen(id, "worker")
  await own.query("update stepback.workers set seen_at = now() - interval '25 hours' where id <> 'third'")
  for (const id of ["fourth", "third", "fourth"]) await fresh.runs.seen(id, "bot")
  const listed = async () => (await own.query("select id, role from stepback.workers order by id")).rows
  expect(await listed()).toHaveLength(3)
  expect(await listed()).toEqual(
    expect.arrayContaining([
      { id: "fourth", role: "bot" },
      { id: "third", role: "worker" },
    ]),
  )
  await fresh.runs.seen("fifth", "all")
  await fresh.runs.seen("sixth", "all")
  expect((await listed()).map(({ id }) => id)).toEqual(["fifth", "fourth", "sixth", "third"])
  await own.end()
})

describe("run times", () => {
  const part = (id: string, ...steps: string[]) => ({ id, steps: steps.map((step) => ({ id: step })) })

  /** A rollback that did these components, its steps each as long as they say, in ms. */
  async function ran(environment: string, components: ReturnType<typeof part>[], times: Record<string, number>) {
    const { id, epoch } = await running(store, { environment, targetReference: `\${${randomUUID()}}` })
    for (const [step, ms] of Object.entries(times))
      await store.runs.recordStep(id, epoch, { id: step, attempt: 1, result: { ...stepResult({}), ms } })
    const end = { reason: null, by: "stepback", analysis: {}, remindMs: 1_000 }
    await store.runs.finish(id, epoch, { state: "succeeded", ...end })
    await pool.query("update stepback.rollbacks set frozen = $2 where id = $1", [id, JSON.stringify({ components })])
    return id
  }

  it("of a component are those of every good run that had it, from its first start to its last end", async () => {
    await ran("timed", [part("config", "set", "check"), part("data", "purge")], { set: 60_000, check: 1, purge: 9_000 })
    await ran("timed", [part("config", "set", "check")], { set: 80_000, check: 30_000 })
    // Somebody was asked in its middle: that is no time that it takes.
    const retried = await ran("timed", [part("config", "set", "check")], { set: 999_000, check: 1 })
    await pool.query("update stepback.step_runs set generation = 9 where rollback_id = $1 and step_id = 'set'", [
      retried,
    ])
    const times = await store.rollbacks.componentTimes("timed", ["data", "config", "other"], 20)
    expect([...times.keys()]).toEqual(["data", "config"])
    const seconds = [...times.values()].map((list) => list.map((ms) => Math.floor(ms / 10_000)))
    expect(seconds).toEqual([[0], [8, 6]])
    expect((await store.rollbacks.componentTimes("timed", ["config"], 2)).get("config")).toHaveLength(1)
  })
})

describe("requests", () => {
  it("are numbered without gaps, refused ones included, whoever is first", async () => {
    const asked = Array.from({ length: 60 }, (_, n) =>
      request({ environment: `gapless-${n % 20}`, targetReference: `\${GAPLESS_${n % 20}}` }),
    )
    const outcomes = await Promise.all(asked.map((each) => store.rollbacks.create(each)))
    expect(outcomes.filter((outcome) => outcome.kind === "created")).toHaveLength(20)
    expect(outcomes.filter((outcome) => outcome.kind === "busy")).toHaveLength(40)
    const { rows } = await pool.query<{ number: number }>(
      "select number from stepback.rollbacks where number is not null order by number",
    )
    expect(rows.map((row) => row.number)).toEqual(rows.map((_row, index) => index + 1))
  })

  it("hold their environment until their end, and its database against another plan", async () => {
    const first = await created(store, { environment: "held", targetReference: "${HELD}" })
    const second = await store.rollbacks.create(request({ environment: "held", targetReference: "${ELSEWHERE}" }))
    expect(second).toMatchObject({ kind: "busy", rollback: { id: first.id } })
    const neighbour = await store.rollbacks.create(request({ environment: "neighbour", targetReference: "${HELD}" }))
    expect(neighbour).toMatchObject({ kind: "busy", rollback: { id: first.id } })
    expect((await store.rollbacks.create(request({ kind: "rehearsal", environment: "held" }))).kind).toBe("created")
    await store.rollbacks.move(first.id, "cancelled", { actor: "U1ALICE" })
    expect((await store.rollbacks.create(request({ environment: "held" }))).kind).toBe("created")
  })

  it("delivered twice are one, even while the first one holds the environment", async () => {
    const twice = request()
    expect((await store.rollbacks.create(twice)).kind).toBe("created")
    expect((await store.rollbacks.create({ ...twice, id: randomUUID() })).kind).toBe("repeated")
  })

  it("whose number is taken, as after a counter of another day, are an error and no endless loop", async () => {
    const { pool: own, store: other } = await freshState()
    await created(other)
    await own.query("update stepback.counters set value = 0 where name = 'rollback'")
    await expect(other.rollbacks.create(request())).rejects.toThrow("rollbacks_number_key")
    await own.end()
  })
})

describe("claims", () => {
  async function taken({ id }: StoredRollback, worker: string): Promise<StoredRollback> {
    const claimed = await store.runs.claim(id, worker, 60_000)
    if (claimed === null) throw new Error("not claimed")
    return claimed
  }

  it("are given to one of many workers", async () => {
    const { id } = await created(store)
    const claims = await Promise.all(Array.from({ length: 20 }, (_, n) => store.runs.claim(id, `worker-${n}`, 60_000)))
    expect(claims.filter((claim) => claim !== null)).toHaveLength(1)
  })

  it("pass on when the lease is over; then nothing of the older worker is written", async () => {
    const old = await running(store, {}, 0)
    const young = await taken(old, "heir")
    expect(young.epoch).toBe(old.epoch + 1)
    expect(await store.runs.renew(old, 60_000)).toMatchObject({ held: false })
    expect(await store.runs.renew(young, 60_000)).toMatchObject({ held: true, stop: false })
    const audited = (await store.audit.list(old.id)).length
    const late = { id: "late", attempt: 1, result: stepResult({}) }
    const end = { state: "succeeded", reason: null, by: "stepback", analysis: {}, remindMs: 1 } as const
    await expect(store.runs.recordStep(old.id, old.epoch, late)).rejects.toBeInstanceOf(LostLeaseError)
    await expect(store.runs.recordIntent(old.id, old.epoch, "late", 1)).rejects.toBeInstanceOf(LostLeaseError)
    await expect(store.runs.finish(old.id, old.epoch, end)).rejects.toBeInstanceOf(LostLeaseError)
    await store.runs.release(old)
    expect(await store.runs.listSteps(old.id)).toEqual([])
    expect(await store.audit.list(old.id)).toHaveLength(audited)
    expect(await store.runs.claim(old.id, "third", 60_000)).toBeNull()
  })

  it("of a worker that the primary knew and its replica did not end when another has the same epoch", async () => {
    const first = await running(store)
    // As it was a second before, which is all that the replica had heard of.
    await pool.query(
      "update stepback.rollbacks set state = 'approved', epoch = epoch - 1, worker = null, lease_until = null where id = $1",
      [first.id],
    )
    const second = await taken(first, "second")
    expect(second.epoch).toBe(first.epoch)
    expect(await store.runs.renew(first, 60_000)).toMatchObject({ held: false })
    await store.runs.release(first)
    expect(await store.runs.renew(second, 60_000)).toMatchObject({ held: true })
    expect(await store.runs.claim(first.id, "third", 60_000)).toBeNull()
  })

  it("do not put their program in the place of the one that their heir has begun", async () => {
    const old = await running(store)
    await store.runs.recordIntent(old.id, old.epoch, "go", 1)
    await store.runs.release(old)
    const heir = await store.runs.claim(old.id, "heir", 60_000)
    await store.runs.recordIntent(old.id, heir?.epoch ?? 0, "go", 1)
    await store.runs.recordProcess(old.id, heir?.epoch ?? 0, "go", 1, { pid: 2 })
    await store.runs.recordProcess(old.id, old.epoch, "go", 1, { pid: 1 })
    expect(await store.runs.findProcess(old.id, "go", 1)).toEqual({ pid: 2 })
  })

  it("ask anew when they have stood still, though an answer of before is on its way", async () => {
    const claimed = await running(store)
    const { promise: before, resolve: hear } = Promise.withResolvers<void>()
    const answers = [before.then(() => true), Promise.resolve(false)]
    const renew = async () => ({ held: (await answers.shift()) ?? false, stop: false, runningMs: null })
    vi.useFakeTimers({ toFake: ["performance"] })
    const lease = holdLease(claimed, { ...store, runs: { ...store.runs, renew } }, () => undefined)
    try {
      await lease.stillOurs()
      void lease.check()
      vi.advanceTimersByTime(10_000)
      const asked = lease.stillOurs()
      hear()
      await expect(asked).rejects.toBeInstanceOf(LostLeaseError)
    } finally {
      lease.end()
      vi.useRealTimers()
    }
  })

  it("begin nothing while the state database does not say whose the run is", async () => {
    const claimed = await running(store)
    const answers = [Promise.reject(new Error("the link broke meanwhile")), Promise.resolve(false)]
    const renew = async () => ({ held: (await answers.shift()) ?? false, stop: false, runningMs: null })
    answers[0]?.catch(() => undefined)
    vi.useFakeTimers({ toFake: ["performance"] })
    const lease = holdLease(claimed, { ...store, runs: { ...store.runs, renew } }, () => undefined)
    try {
      vi.advanceTimersByTime(10_000)
      await expect(lease.stillOurs()).rejects.toBeInstanceOf(LostLeaseError)
    } finally {
      lease.end()
      vi.useRealTimers()
    }
  })

  it("tell the card what goes on now and then, until it has ended", async () => {
    const claimed = await running(store)
    const { id, epoch } = claimed
    vi.useFakeTimers({ toFake: ["performance"] })
    const lease = holdLease(claimed, store, () => undefined)
    const shown = async () => {
      const rollback = await store.rollbacks.get(id)
      const { stepRuns } = await loadView(store, { ...rollback, frozen: null })
      return [rollback.card_version, stepRuns.map(({ stepId, result }) => `${stepId} ${result?.outcome ?? "goes on"}`)]
    }
    const [version] = (await shown()) as [number]
    try {
      const over = lease.underway("long")
      await lease.check()
      expect(await shown()).toEqual([version, []])
      vi.advanceTimersByTime(10_000)
      await lease.check()
      expect(await shown()).toEqual([version + 1, ["long goes on"]])
      over()
      await store.runs.recordStep(id, epoch, { id: "long", attempt: 1, result: stepResult({}) })
      expect(await shown()).toEqual([version + 2, ["long succeeded"]])
      // A run that waits for people is drawn less often.
      vi.advanceTimersByTime(300_000)
      await lease.check()
      vi.advanceTimersByTime(10_000)
      await lease.check()
      expect(await shown()).toEqual([version + 3, ["long succeeded"]])
    } finally {
      lease.end()
      vi.useRealTimers()
    }
  })

  it("tell of Stop", async () => {
    const claimed = await running(store)
    const { id, epoch } = claimed
    await store.rollbacks.requestStop(id, "U1ALICE", null)
    expect(await store.runs.renew(claimed, 60_000)).toMatchObject({ held: true, stop: true })
    expect(await store.runs.recordStep(id, epoch, { id: "a", attempt: 1, result: stepResult({}) })).toEqual({
      stop: true,
    })
  })
})

it("a step's result whose answer was lost stands in the audit once, however often it is sent", async () => {
  const { id, epoch } = await running(store)
  const step = { id: "a", attempt: 1, result: { ...stepResult({ rows: 3 }), ms: 12.5 } }
  await store.runs.recordStep(id, epoch, step)
  await store.rollbacks.requestStop(id, "U1ALICE", null)
  expect(await store.runs.recordStep(id, epoch, step)).toEqual({ stop: true })
  await store.runs.recordStep(id, epoch, { ...step, attempt: 2 })
  const told = (await store.audit.list(id)).filter(({ kind }) => kind === "step")
  expect(told.map(({ facts }) => (JSON.parse(facts) as { attempt: number }).attempt)).toEqual([1, 2])
})

it("a result belongs to the generation in which it came, though its step was begun before a Retry", async () => {
  const { id, epoch } = await running(store)
  await store.runs.recordIntent(id, epoch, "a", 1)
  await store.rollbacks.move(id, "failed", { actor: "stepback", reason: "it could not be worked on", epoch })
  expect(await store.rollbacks.reopen(id, { actor: "U1ALICE", requestKey: null, skips: null })).toMatchObject({
    kind: "moved",
    rollback: { generation: 1 },
  })
  const heir = await store.runs.claim(id, "heir", 60_000)
  await store.runs.recordIntent(id, heir?.epoch ?? 0, "a", 1)
  await store.runs.recordStep(id, heir?.epoch ?? 0, { id: "a", attempt: 1, result: stepResult({ outcome: "unknown" }) })
  expect(await store.runs.listSteps(id)).toMatchObject([{ attempt: 1, generation: 1, result: { outcome: "unknown" } }])
})

it("a watch's probe that was overtaken does not make what the other one saw unseen", async () => {
  const { id, epoch } = await running(store)
  const end = { state: "succeeded", reason: null, by: "stepback", analysis: {}, remindMs: 60_000 } as const
  await store.runs.finish(id, epoch, { ...end, watchMs: 3_600_000 })
  const seen = (failed: number) => ({
    probe: { failed, slow: 0, failures: failed, slowAnswers: 0, probes: 1, worstMs: 9, alarm: null, last: "" },
  })
  const stoodStill = await store.watches.take(0)
  const other = await store.watches.take(0)
  if (stoodStill === null || other === null) throw new Error("nothing to watch")
  await store.watches.record(other, seen(3), 60_000)
  await store.watches.record(stoodStill, seen(0), 60_000)
  expect(await store.watches.find(id)).toMatchObject({ probes: 1, seen: seen(3) })
})

it("a run that somebody leaves as it is at the moment of a Retry or a Skip stays as it is", async () => {
  for (const skips of [null, { a: { by: "U2BOB", reason: "it can wait" } }]) {
    const { id } = await running(store)
    await store.rollbacks.move(id, "failed", { actor: "stepback" })
    const leaving = await pool.connect()
    await leaving.query("begin")
    await leaving.query("update stepback.rollbacks set left_at = now(), left_by = 'U3CAROL' where id = $1", [id])
    const reopened = store.rollbacks.reopen(id, { actor: "U2BOB", requestKey: randomUUID(), skips })
    await waits(1)
    await leaving.query("commit")
    leaving.release()
    expect(await reopened).toMatchObject({ kind: "not_moved", rollback: { state: "failed", left_by: "U3CAROL" } })
  }
})

/** Until so many transactions wait for a lock. */
async function waits(count: number): Promise<void> {
  const waiting = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
  await expect.poll(async () => (await pool.query(waiting)).rowCount, { interval: 5 }).toBe(count)
}

it("a Retry and an Undo of one run at one moment are decided between them: the later one is told of the other", async () => {
  const { id, environment } = await running(store)
  await store.rollbacks.move(id, "failed", { actor: "stepback" })
  await pool.query("insert into stepback.watches (rollback_id, until) values ($1, now())", [id])
  // Holds the Retry up where it has the run's row and not yet the environment.
  const holding = await pool.connect()
  await holding.query("begin")
  await holding.query("select from stepback.watches where rollback_id = $1 for update", [id])
  const retried = store.rollbacks.reopen(id, { actor: "U2BOB", requestKey: randomUUID(), skips: null })
  await waits(1)
  const undone = store.rollbacks.create(request({ environment, kind: "undo", undoOf: id }))
  await waits(2)
  await holding.query("commit")
  holding.release()
  expect(await retried).toMatchObject({ kind: "moved", rollback: { state: "running" } })
  expect(await undone).toMatchObject({ kind: "busy", rollback: { id } })
})

it("an analysis that is filled in while its run ends once more is saved, and the run has ended", async () => {
  const { id } = await running(store)
  await store.rollbacks.move(id, "failed", { actor: "stepback" })
  await store.rollbacks.reopen(id, { actor: "U2BOB", requestKey: randomUUID(), skips: null })
  const { epoch } = (await store.runs.claim(id, "worker", 60_000)) ?? { epoch: 0 }
  const holding = await pool.connect()
  await holding.query("begin")
  await holding.query("select from stepback.rollbacks where id = $1 for update", [id])
  const end = { state: "failed", reason: "it failed", by: "stepback", analysis: {}, remindMs: 60_000 } as const
  const ended = store.runs.finish(id, epoch, end)
  await waits(1)
  const words = { rootCause: "a typo", prevention: "a test", followUps: [] }
  const filled = store.analyses.fill(id, "U3CAROL", 0, words)
  await waits(2)
  await holding.query("commit")
  holding.release()
  expect(await Promise.all([ended, filled])).toMatchObject([{ stop: false }, { kind: "filled" }])
  expect(await store.analyses.find(id)).toMatchObject({ rootCause: "a typo" })
  expect(await store.rollbacks.get(id)).toMatchObject({ state: "failed", end_reason: "it failed" })
})

it("a run that somebody stops at the moment of its asking again is not asked again: it ends", async () => {
  const { id, epoch } = await running(store)
  await store.rollbacks.requestStop(id, "U1ALICE", null)
  const skips = { a: { by: "U2BOB", reason: "it can wait" } }
  for (const asked of [
    store.rollbacks.prepareAgain(id, ["running"], ["it has other numbers"], { epoch }),
    store.rollbacks.prepareWithout(id, skips, epoch),
  ])
    expect(await asked).toMatchObject({
      kind: "not_moved",
      rollback: { state: "running", stop_requested_by: "U1ALICE" },
    })
})
