import pg, { type QueryResult } from "pg"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest"
import { rehearseStep, runStep } from "../../src/steps/definitions.ts"
import { forgetRun } from "../../src/steps/forget.ts"
import { fill, startOrders, type Options } from "./purge-fixture.ts"
import { contextOf, hasLz4, stepOf } from "./steps-fixture.ts"

let orders: Awaited<ReturnType<typeof startOrders>>
const rehearse = (options?: Options) => orders.rehearse(options)
const count = (sql: string) => orders.count(sql)
const archived = (rollbackId: string) => orders.archived(rollbackId)

beforeAll(async () => {
  orders = await startOrders()
})
afterAll(() => orders.target.stop())
beforeEach(() => orders.target.admin.query(fill))

describe("a purge", () => {
  it("takes two levels of cascades and cuts loose, archived as deleted as counted", async () => {
    const { rehearsal, run, context } = await rehearse()
    expect(rehearsal).toMatchObject({ outcome: "looked", rows: 200, total: 2000, note: null })
    expect(rehearsal.children).toEqual(
      expect.arrayContaining([
        { table: "lines", rows: 200, action: "cascade" },
        { table: "parcels", rows: 100, action: "cascade" },
        { table: "calls", rows: 200, action: "set null" },
      ]),
    )
    const result = await run()
    expect(result).toMatchObject({ outcome: "succeeded", rows: 200, issues: [] })
    expect(result.affected).toEqual(
      expect.arrayContaining([
        { table: "orders", did: "removed", rows: 200 },
        { table: "lines", did: "removed", rows: 200 },
        { table: "parcels", did: "removed", rows: 100 },
        { table: "calls", did: "changed", rows: 200 },
      ]),
    )
    expect(await archived(context.rollbackId)).toEqual({ orders: 200, lines: 200, parcels: 100, calls: 200 })
    expect([
      await count("orders"),
      await count("lines"),
      await count("parcels"),
      await count("calls where order_id is null"),
    ]).toEqual([1800, 1800, 1000, 200])
    expect(await count(`stepback_ledger.entries where rollback_id = '${context.rollbackId}'`)).toBeGreaterThan(1)
  })

  it("asked again reports what it did and does it not twice", async () => {
    const { run, context } = await rehearse()
    await run()
    expect(await run()).toMatchObject({ outcome: "succeeded", rows: 200 })
    expect(await archived(context.rollbackId)).toMatchObject({ orders: 200 })
  })

  it("goes leaf by leaf through a partitioned table, whatever the order of a leaf's columns", async () => {
    const { rehearsal, run, context } = await rehearse({ table: "days", cascade: "day_notes" })
    expect(rehearsal).toMatchObject({ outcome: "looked", rows: 250, children: [{ table: "day_notes", rows: 125 }] })
    expect(await run()).toMatchObject({ outcome: "succeeded", rows: 250 })
    const kept = await archived(context.rollbackId)
    expect((kept["days_1"] ?? 0) + (kept["days_2"] ?? 0)).toBe(250)
    expect(kept).toMatchObject({ days_1: expect.any(Number), days_2: expect.any(Number), day_notes: 125 })
    expect(await count("days where kind = 'bad'")).toBe(0)
  })
})

it("a purge of a large table reads each range once more behind its lanes, unless what they log is compressed", async () => {
  const { admin } = orders.target
  // A row for each page: 17,000 of them are more than 128 MB.
  await admin.query(`create table large (id integer primary key, kind text not null, pad text) with (fillfactor = 10);
    insert into large select n, case when n % 10 = 0 then 'bad' else 'good' end, repeat('x', 700) from generate_series(1, 17000) n`)
  const { run } = await rehearse({ table: "large", cascade: "" })
  const asked = vi.spyOn(pg.Client.prototype, "query")
  try {
    expect(await run()).toMatchObject({ outcome: "succeeded", rows: 1700 })
    const looks = asked.mock.calls.flatMap(([text], n) =>
      /select count\(\*\) from only .*"large".*; rollback$/s.test(text) ? [asked.mock.results[n]?.value] : [],
    ) as unknown as Promise<QueryResult<{ count: string }>[]>[]
    if (await hasLz4(orders.target)) return expect(looks).toEqual([])
    expect(looks.length).toBeGreaterThan(1)
    // What is left of the ranges are nine rows in ten; a look that failed would say so here.
    const left = (await Promise.all(looks)).map((results) => Number(results.at(-2)?.rows[0]?.count))
    expect(left.reduce((sum, rows) => sum + rows, 0)).toBeGreaterThan(0)
  } finally {
    asked.mockRestore()
    await admin.query("drop table large")
  }
})

it("a batch takes about as many rows as the plan says, though nothing matched before them", async () => {
  await orders.target.admin.query(
    "truncate loose; insert into loose select n, case when n > 18000 then 'bad' else 'good' end from generate_series(1, 20000) n",
  )
  const { run, context } = await rehearse({ table: "loose", cascade: "", batch: 200 })
  expect(await run()).toMatchObject({ outcome: "succeeded", rows: 2000 })
  // Of each lane the first; the pace of the others is found from there.
  const { rows } = await orders.target.admin.query<{ rows: number }>(
    `select (result -> 'removed' -> 'loose')::int as rows from stepback_ledger.entries
     where rollback_id = $1 and batch > 0 order by batch limit 2`,
    [context.rollbackId],
  )
  // Some 185 rows are in one page.
  for (const batch of rows) expect(batch.rows).toBeLessThan(400)
  expect(rows).toHaveLength(2)
})

describe("a purge of many pages holds a snapshot meanwhile", () => {
  const holders =
    "pg_stat_activity where datname = current_database() and state = 'idle in transaction' and query like 'begin isolation level repeatable read read only%'"
  beforeEach(() =>
    // A row for each page, and a trigger that looks around when a batch begins.
    orders.target.admin
      .query(`create table wide (id integer primary key, kind text not null, pad text) with (fillfactor = 10);
      insert into wide select n, case when n % 10 = 0 then 'bad' else 'good' end, repeat('x', 700) from generate_series(1, 2000) n;
      create table seen (holders bigint);
      create function look_around() returns trigger language plpgsql as $$ begin
        insert into seen select count(*) from ${holders};
        perform pg_terminate_backend(pid) from ${holders} and tg_argv[0] = 'end'; return null; end $$`),
  )
  afterEach(() => orders.target.admin.query("drop table wide, seen; drop function look_around"))
  const watch = (how: string) =>
    orders.target.admin.query(
      `create trigger look before delete on wide for each statement execute function look_around('${how}')`,
    )

  it("and lets go of it at the end", async () => {
    await watch("leave")
    const { run } = await rehearse({ table: "wide", cascade: "" })
    expect(await run()).toMatchObject({ outcome: "succeeded", rows: 200 })
    expect(await count("seen where holders = 1")).toBeGreaterThan(0)
    expect(await count("seen where holders <> 1")).toBe(0)
    await expect.poll(() => count(holders)).toBe(0)
  })

  it("and does without it when somebody ends it", async () => {
    await watch("end")
    const { run } = await rehearse({ table: "wide", cascade: "" })
    expect(await run()).toMatchObject({ outcome: "succeeded", rows: 200 })
    // What the batch wrote down that ended it was taken back with it, since a trigger stands there.
    expect(await count("seen where holders = 0")).toBeGreaterThan(0)
  })

  it("but not where others need the connections", async () => {
    await watch("leave")
    const { run } = await rehearse({ table: "wide", cascade: "" })
    const pool = orders.target.pools.get(orders.target.url)
    const taken = await Promise.all([1, 2, 3, 4].map(() => pool.connect()))
    expect(await run()).toMatchObject({ outcome: "succeeded", rows: 200 })
    for (const client of taken) client.release()
    expect(await count("seen where holders > 0")).toBe(0)
    expect(await count("seen")).toBeGreaterThan(0)
  })
})

describe("a purge is refused, and nothing is deleted,", () => {
  const untouched = async () => expect([await count("orders"), await count("lines")]).toEqual([2000, 2000])

  it("when a table that the plan does not list has rows: at the rehearsal and at the run", async () => {
    const { rehearsal, run } = await rehearse({ cascade: "lines, calls" })
    const said = "100 rows of parcels refer to them: list it in cascade, or remove those first"
    expect(rehearsal).toMatchObject({ outcome: "unknown", note: said })
    expect(await run()).toMatchObject({ outcome: "failed", affected: [], failure: { code: "refused", message: said } })
    await untouched()
  })

  it.each([
    [{ more: ", at_most: 199" }, /200 rows match, at most 199 may go/],
    [{ more: ", max_share: 9.96%" }, /200 of 2000 rows are 10 % of the table, at most 9.96 % may go/],
    [{ more: ", max_share: 0.4%" }, /200 of 2000 rows are 10 % of the table, at most 0.4 % may go/],
    [{ more: ", max_share: 9%" }, /200 of 2000 rows are 10 % of the table, at most 9 % may go/],
  ])("beyond its caps: %j", async ({ more }, said) => {
    const step = await stepOf(
      `- { id: p, purge: { table: orders, where: "kind = 'bad'", cascade: [lines, parcels, calls]${more.includes("at_most") ? more : `${more}, at_most: 5000`} }, expect: { rows: rehearsed } }`,
    )
    const context = await contextOf({ pool: orders.target.pools.get(orders.target.url) })
    const rehearsal = await rehearseStep(step, context)
    expect(rehearsal).toMatchObject({ outcome: "unknown", note: expect.stringMatching(said) })
    expect(await runStep(step, { ...context, rehearsed: rehearsal })).toMatchObject({ outcome: "failed", affected: [] })
    await untouched()
  })

  it.each([
    [
      "a table refers to one partition by itself",
      "create table own (id integer, day date, foreign key (id, day) references days_1 on delete cascade)",
      "own refers to partition days_1 by itself",
      "drop table own",
    ],
    [
      "a table inherits from it",
      "create table heir () inherits (loose)",
      "heir inherits from loose",
      "drop table heir",
    ],
  ])("when %s", async (_why, ddl, said, drop) => {
    await orders.target.admin.query(ddl)
    const { rehearsal, run } = await rehearse(
      ddl.includes("heir") ? { table: "loose", cascade: "" } : { table: "days", cascade: "day_notes" },
    )
    await expect(run()).resolves.toMatchObject({
      outcome: "failed",
      affected: [],
      failure: { message: expect.stringContaining(said) },
    })
    expect(rehearsal).toMatchObject({ outcome: "unknown", note: expect.stringContaining(said) })
    await orders.target.admin.query(drop)
  })

  it("when its count has left the tolerance and its share of the table with it: that is asked, not refused for good", async () => {
    const step = await stepOf(
      `- { id: p, purge: { table: orders, where: "kind = 'bad'", cascade: [lines, parcels, calls], at_most: 205, max_share: 10% }, expect: { rows: rehearsed } }`,
    )
    const context = await contextOf({ pool: orders.target.pools.get(orders.target.url) })
    const rehearsed = await rehearseStep(step, context)
    await orders.target.admin.query("insert into orders select n, 'bad' from generate_series(3001, 3050) n")
    expect(await runStep(step, { ...context, rehearsed })).toMatchObject({ failure: { code: "row_count" } })
    await orders.target.admin.query("delete from orders where id > 3005")
    // Within what was approved the caps hold all the same.
    expect(await runStep(step, { ...context, rehearsed })).toMatchObject({
      failure: {
        code: "refused",
        message: expect.stringMatching(/^205 of 2005 rows are 10.2 % of the table, at most 10 %/),
      },
    })
  })

  it("when its count has left the tolerance", async () => {
    const { run } = await rehearse()
    await orders.target.admin.query("insert into orders select n, 'bad' from generate_series(3001, 3011) n")
    expect(await run()).toMatchObject({
      outcome: "failed",
      affected: [],
      failure: { code: "row_count", message: "211 rows match now, 190 to 210 were approved; nothing was deleted" },
    })
    expect(await count("orders")).toBe(2011)
  })
})

it("what a purge kept is removed, though a statement of that takes longer than a minute", async () => {
  const { run, context } = await rehearse()
  await run()
  const pool = orders.target.pools.get(orders.target.url)
  const holder = await orders.target.admin.connect()
  await holder.query("begin; lock table stepback_ledger.before_images")
  vi.useFakeTimers({ toFake: ["setTimeout"] })
  try {
    const forgetting = forgetRun(pool, context.rollbackId).catch((error: unknown) => error)
    await orders.waitingForLock("before_images")
    vi.advanceTimersByTime(100_000)
    await holder.query("rollback")
    expect(await forgetting).toBe(700)
  } finally {
    vi.useRealTimers()
    holder.release()
  }
})
