import type { Pool } from "pg"
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest"
import type { RehearsedStep, StepResult } from "../../src/rollback/facts.ts"
import { rehearseStep, runStep } from "../../src/steps/definitions.ts"
import { raiseFence } from "../../src/steps/ledger.ts"
import type { RunContext } from "../../src/steps/step.ts"
import { contextOf, freshTarget, stepOf, type TargetFixture } from "./steps-fixture.ts"

const schema = `
  create table orders (id integer primary key, kind text not null, pad text);
  create table lines (id integer primary key, order_id integer references orders on delete cascade);
  create table parcels (id integer primary key, line_id integer references lines on delete cascade);
  create table calls (id integer primary key, order_id integer references orders on delete set null);
  create index on lines (order_id); create index on parcels (line_id); create index on calls (order_id);
  create table loose (id integer primary key, kind text not null);
  create table days (id integer, day date not null, kind text not null, primary key (id, day)) partition by range (day);
  create table days_1 partition of days for values from ('2026-01-01') to ('2026-02-01');
  create table days_2 (kind text not null, day date not null, id integer not null);
  alter table days attach partition days_2 for values from ('2026-02-01') to ('2026-03-01');
  create table day_notes (id integer primary key, day_id integer, day date, foreign key (day_id, day) references days on delete cascade);`

const fill = `
  truncate orders, lines, parcels, calls, loose, days, day_notes;
  insert into orders select n, case when n % 10 = 0 then 'bad' else 'good' end, repeat('x', 200) from generate_series(1, 2000) n;
  insert into lines select n, n from generate_series(1, 2000) n;
  insert into parcels select n, n from generate_series(1, 2000, 2) n;
  insert into parcels select 10000 + n, n from generate_series(20, 2000, 20) n;
  insert into calls select n, n from generate_series(5, 2000, 5) n;
  insert into loose select n, case when n % 10 = 0 then 'bad' else 'good' end from generate_series(1, 1000) n;
  insert into days select n, date '2026-01-01' + n % 59, case when n % 4 = 0 then 'bad' else 'good' end from generate_series(1, 1000) n;
  insert into day_notes select id, id, day from days where id % 8 = 0`

let target: TargetFixture

beforeAll(async () => {
  target = await freshTarget(schema)
})
afterAll(() => target.stop())
beforeEach(() => target.admin.query(fill))

type Options = { table?: string; cascade?: string; more?: string; expect?: string }

/** `batch: 50`: some 200 rows are several transactions. */
const purgeOf = ({
  table = "orders",
  cascade = "lines, parcels, calls",
  more = "",
  expect: rows = "rehearsed",
}: Options = {}) =>
  stepOf(
    `- { id: p, purge: { table: ${table}, where: "kind = 'bad'", cascade: [${cascade}], at_most: 5000, max_share: 30%, batch: 50 ${more} }, expect: { rows: ${rows} } }`,
  )

async function rehearse(
  options: Options = {},
): Promise<{ rehearsal: RehearsedStep; run(facts?: Partial<RunContext>): Promise<StepResult>; context: RunContext }> {
  const step = await purgeOf(options)
  const context = await contextOf({ pool: target.pools.get(target.url) })
  const rehearsal = await rehearseStep(step, context)
  return { rehearsal, context, run: (facts = {}) => runStep(step, { ...context, rehearsed: rehearsal, ...facts }) }
}

const count = async (sql: string) =>
  (await target.admin.query<{ n: number }>(`select count(*)::int as n from ${sql}`)).rows[0]?.n

/** Rows that the archives have of a run, by their table. */
async function archived(rollbackId: string): Promise<Record<string, number>> {
  const { rows } = await target.admin.query<{ name: string; relation: string }>(
    "select name, relation from stepback_ledger.archives",
  )
  const found: Record<string, number> = {}
  for (const { name, relation } of rows) {
    const n = (await count(`${name} where stepback_rollback = '${rollbackId}'`)) ?? 0
    const table = relation.split(".").at(-1)?.replaceAll('"', "") ?? ""
    if (n > 0) found[table] = (found[table] ?? 0) + n
  }
  return found
}

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
    [{ more: ", max_share: 9%" }, /200 of 2000 rows are 10 % of the table, at most 9 % may go/],
  ])("beyond its caps: %j", async ({ more }, said) => {
    const step = await stepOf(
      `- { id: p, purge: { table: orders, where: "kind = 'bad'", cascade: [lines, parcels, calls]${more.includes("at_most") ? more : `${more}, at_most: 5000`} }, expect: { rows: rehearsed } }`,
    )
    const context = await contextOf({ pool: target.pools.get(target.url) })
    const rehearsal = await rehearseStep(step, context)
    expect(rehearsal).toMatchObject({ outcome: "unknown", note: expect.stringMatching(said) })
    expect(await runStep(step, { ...context, rehearsed: rehearsal })).toMatchObject({ outcome: "failed", affected: [] })
    await untouched()
  })

  it("when its count has left the tolerance", async () => {
    const { run } = await rehearse()
    await target.admin.query("insert into orders select n, 'bad' from generate_series(3001, 3011) n")
    expect(await run()).toMatchObject({
      outcome: "failed",
      affected: [],
      failure: { code: "row_count", message: "211 rows match now, 190 to 210 were approved; nothing was deleted" },
    })
    expect(await count("orders")).toBe(2011)
  })
})

describe("rows that arrive while it goes on", () => {
  const arrive = (from: number, to: number) =>
    target.admin.query(`insert into orders select n, 'bad' from generate_series(${from}, ${to}) n`)

  it("are swept within the tolerance, and reported beyond it", async () => {
    const late = await slowly(() => arrive(3001, 3005))
    expect(late.result).toMatchObject({ outcome: "succeeded", rows: 205, issues: [] })
    expect(await count("orders where kind = 'bad'")).toBe(0)
    await target.admin.query(fill)
    const many = await slowly(() => arrive(3001, 3040))
    expect(many.result).toMatchObject({
      outcome: "succeeded",
      rows: 210,
      issues: ["30 rows of orders arrived meanwhile and were left"],
    })
    expect(await archived(many.context.rollbackId)).toMatchObject({ orders: 210 })
    expect(await count("orders where kind = 'bad'")).toBe(30)
  })

  it("of an unlisted table stop it: what is gone by then is told and kept", async () => {
    await target.admin.query("truncate calls")
    const { result, context } = await slowly(
      () => target.admin.query("insert into calls select n, n from generate_series(1500, 2000) n"),
      { cascade: "lines, parcels" },
    )
    expect(result).toMatchObject({
      outcome: "failed",
      failure: { code: "refused", message: expect.stringContaining("rows of calls came to refer to them meanwhile") },
    })
    const gone = 2000 - ((await count("orders")) ?? 0)
    expect(gone).toBeGreaterThan(0)
    expect(result.affected).toContainEqual({ table: "orders", did: "removed", rows: gone })
    expect(await archived(context.rollbackId)).toMatchObject({ orders: gone, lines: gone })
    expect(await count("calls where order_id is null")).toBe(0)
  })

  /** Holds the purge at a row in the middle of the table, does `meanwhile`, lets go. */
  async function slowly(meanwhile: () => Promise<unknown>, options: Options = {}) {
    const { run, context } = await rehearse(options)
    const holder = await target.admin.connect()
    await holder.query("begin; select 1 from orders where id = 1000 for update")
    const running = run()
    await waitingForLock()
    await meanwhile()
    await holder.query("rollback")
    holder.release()
    return { result: await running, context }
  }
})

describe("beside others who write", () => {
  it("children that are added meanwhile go along or stop their writer: none is lost, none is an orphan", async () => {
    const { run, context } = await rehearse()
    const added = { lines: 0, refused: 0 }
    let over = false
    const writers = [0, 1].map(async (writer) => {
      for (let n = 0; !over; n++) {
        const parent = ((n * 2 + writer) % 200) * 10 + 10
        const sql = `insert into lines values (${100_000 + writer * 50_000 + n}, ${parent})`
        await target.admin.query(sql).then(
          () => added.lines++,
          () => added.refused++,
        )
      }
    })
    const result = await run()
    over = true
    await Promise.all(writers)
    expect(result).toMatchObject({ outcome: "succeeded", rows: 200 })
    const kept = await archived(context.rollbackId)
    expect(kept["orders"]).toBe(200)
    expect(await count("lines")).toBe(2000 + added.lines - (kept["lines"] ?? 0))
    expect(await count("lines l where not exists (select 1 from orders o where o.id = l.order_id)")).toBe(0)
    expect(added.refused).toBeGreaterThan(0)
  })
})

describe("a purge that is broken off", () => {
  it("by the end of its connections goes on, and nothing is done twice", async () => {
    const { run, context } = await rehearse({ table: "loose", cascade: "" })
    const seen = new Set<number>()
    let over = false
    const killer = (async () => {
      while (!over) {
        const { rows } = await target.admin.query<{ pid: number }>(
          "select pid from pg_stat_activity where datname = current_database() and application_name = 'stepback' and state = 'active' and query like '%gone as%'",
        )
        for (const { pid } of rows)
          if (seen.size < 3 && !seen.has(pid)) {
            seen.add(pid)
            await target.admin.query("select pg_terminate_backend($1)", [pid])
          }
      }
    })()
    const holder = await target.admin.connect()
    await holder.query("begin; select 1 from loose where id = 500 for update")
    const running = run()
    while (seen.size === 0) await waitingForLock()
    await holder.query("rollback")
    holder.release()
    const result = await running
    over = true
    await killer
    expect(result).toMatchObject({ outcome: "succeeded", rows: 100 })
    expect(await archived(context.rollbackId)).toEqual({ loose: 100 })
    expect(await count("loose")).toBe(900)
  })

  it("is taken up at its batch by the next worker; the one before commits nothing more", async () => {
    const { run, context } = await rehearse()
    const { pool, frozen, thaw } = freezingPool(4)
    const first = run({ target: { pool, httpBase: null } }).catch((error: unknown) => error)
    await frozen
    const before = 2000 - ((await count("orders")) ?? 0)
    expect(before).toBeGreaterThan(0)
    expect(before).toBeLessThan(200)
    const key = { ...context.key, epoch: 2 }
    await raiseFence(target.admin, key)
    const second = run({ key, attempt: 2 })
    thaw()
    expect(await first).toMatchObject({ code: "lost_lease" })
    expect(await second).toMatchObject({ outcome: "succeeded", rows: 200 })
    expect(await archived(context.rollbackId)).toEqual({ orders: 200, lines: 200, parcels: 100, calls: 200 })
    expect(await count("orders")).toBe(1800)
  })

  /** The pool of a worker that freezes when it asks for a connection for the nth time. */
  function freezingPool(nth: number) {
    const real = target.pools.get(target.url)
    const gate = Promise.withResolvers<void>()
    const reached = Promise.withResolvers<void>()
    let asked = 0
    const connect = async () => {
      if (++asked >= nth) {
        reached.resolve()
        await gate.promise
      }
      return real.connect()
    }
    return {
      pool: Object.assign(Object.create(real) as Pool, { connect }),
      frozen: reached.promise,
      thaw: gate.resolve,
    }
  }

  it("by Stop says how far it came", async () => {
    const { run, context } = await rehearse()
    const controller = new AbortController()
    const holder = await target.admin.connect()
    await holder.query("begin; select 1 from orders where id = 1000 for update")
    const running = run({ signal: controller.signal })
    await waitingForLock()
    controller.abort()
    await holder.query("rollback")
    holder.release()
    const result = await running
    const gone = 2000 - ((await count("orders")) ?? 0)
    expect(result).toMatchObject({ outcome: "failed", rows: gone, failure: { code: "stopped" } })
    expect(result.affected).toContainEqual({ table: "orders", did: "removed", rows: gone })
    expect(await archived(context.rollbackId)).toMatchObject({ orders: gone })
  })
})

async function waitingForLock(): Promise<void> {
  for (;;) {
    const { rows } = await target.admin.query(
      "select 1 from pg_stat_activity where datname = current_database() and application_name = 'stepback' and wait_event_type = 'Lock'",
    )
    if (rows.length > 0) return
  }
}
