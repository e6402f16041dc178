import type { Pool } from "pg"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest"
import { raiseFence } from "../../src/steps/ledger.ts"
import { fill, startOrders, type Options } from "./purge-fixture.ts"

let orders: Awaited<ReturnType<typeof startOrders>>
const rehearse = (options?: Options) => orders.rehearse(options)
const count = (sql: string) => orders.count(sql)
const archived = (rollbackId: string) => orders.archived(rollbackId)

beforeAll(async () => {
  orders = await startOrders()
})
afterAll(() => orders.target.stop())
beforeEach(() => orders.target.admin.query(fill))

describe("rows that arrive while it goes on", () => {
  const arrive = (from: number, to: number) =>
    orders.target.admin.query(`insert into orders select n, 'bad' from generate_series(${from}, ${to}) n`)

  it("are swept within the tolerance, and reported beyond it", async () => {
    const late = await slowly(() => arrive(3001, 3005))
    expect(late.result).toMatchObject({ outcome: "succeeded", rows: 205, issues: [] })
    expect(await count("orders where kind = 'bad'")).toBe(0)
    await orders.target.admin.query(fill)
    const many = await slowly(() => arrive(3001, 3040))
    expect(many.result).toMatchObject({
      outcome: "succeeded",
      rows: 210,
      issues: ["30 rows of orders arrived meanwhile and were left"],
    })
    expect(await archived(many.context.rollbackId)).toMatchObject({ orders: 210 })
    expect(await count("orders where kind = 'bad'")).toBe(30)
  })

  /** Wide ones, for which the last page has no room, so that batches do not meet them; one more comes during the last look. */
  async function behindTheLook(wide: number, options: Options, during: () => Promise<unknown>) {
    const { admin } = orders.target
    await admin.query(`create or replace function waits() returns boolean stable language plpgsql as $$ begin
      if current_query() like '%as found%' then perform pg_advisory_xact_lock_shared(77); end if; return true; end $$`)
    const gate = await admin.connect()
    await gate.query("select pg_advisory_lock(77)")
    const insert = `insert into orders select n, 'bad', repeat('x', 1900) from generate_series(3001, ${3000 + wide}) n`
    const looking = slowly(() => admin.query(insert), { where: "kind = 'bad' and waits()", ...options })
    await orders.waitingForLock("as found")
    await during()
    await arrive(9000, 9000)
    await gate.query("select pg_advisory_unlock(77)")
    gate.release()
    return (await looking).result
  }

  it("behind the last look stay, which is told; a look whose link breaks is taken again", async () => {
    const looks = "datname = current_database() and application_name = 'stepback' and query like '%as found%'"
    const result = await behindTheLook(5, {}, async () => {
      await orders.target.admin.query(`select pg_terminate_backend(pid, 10000) from pg_stat_activity where ${looks}`)
      await orders.waitingForLock("as found")
    })
    expect(result).toMatchObject({ outcome: "succeeded", rows: 205, issues: [] })
    expect(result.evidence.at(-1)).toMatch(/^rows that came after \d\d:\d\d:\d\d UTC were not looked for$/)
    expect(await count("orders where kind = 'bad'")).toBe(1)
  })

  it("are looked for again where there was much to take", async () => {
    const result = await behindTheLook(1100, { expect: "100..2000" }, () => Promise.resolve())
    expect(result).toMatchObject({ outcome: "succeeded", rows: 1301, issues: [] })
    expect(await count("orders where kind = 'bad'")).toBe(0)
  })

  it("while a look takes long are told of, though it finds none", async () => {
    const { admin } = orders.target
    await admin.query(`create or replace function dozes() returns boolean stable language plpgsql as $$ begin
      if current_query() like '%as found%' then perform pg_sleep(1.1); end if; return true; end $$`)
    const { result } = await slowly(() => Promise.resolve(), { where: "kind = 'bad' and (select dozes())" })
    expect(result.evidence.at(-1)).toMatch(/^rows that came after .* were not looked for$/)
  })

  it("of an unlisted table stop it: what is gone by then is told and kept", async () => {
    await orders.target.admin.query("truncate calls")
    const { result, context } = await slowly(
      () => orders.target.admin.query("insert into calls select n, n from generate_series(1500, 2000) n"),
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

  /** Holds the purge in the middle of the table, so that others may still refer to its rows; does `meanwhile`, lets go. */
  async function slowly(meanwhile: () => Promise<unknown>, options: Options = {}) {
    const { run, context } = await rehearse(options)
    const holder = await orders.target.admin.connect()
    await holder.query("begin; select 1 from orders where id >= 1000 for no key update")
    const running = run()
    await orders.waitingForLock()
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
    const writing = { over: false }
    const writers = [0, 1].map(async (writer) => {
      for (let n = 0; !writing.over; n++) {
        const parent = ((n * 2 + writer) % 200) * 10 + 10
        const sql = `insert into lines values (${100_000 + writer * 50_000 + n}, ${parent})`
        await orders.target.admin.query(sql).then(
          () => added.lines++,
          () => added.refused++,
        )
      }
    })
    const result = await run()
    writing.over = true
    await Promise.all(writers)
    expect(result).toMatchObject({ outcome: "succeeded", rows: 200 })
    const kept = await archived(context.rollbackId)
    expect(kept["orders"]).toBe(200)
    expect(await count("lines")).toBe(2000 + added.lines - (kept["lines"] ?? 0))
    expect(await count("lines l where not exists (select 1 from orders o where o.id = l.order_id)")).toBe(0)
    expect(added.refused).toBeGreaterThan(0)
  })

  it.each([
    ["changed by others while its batch waits goes as they left it", "update loose set id = 5000 where id = 500", 100],
    ["that others made good while its batch waits stays", "update loose set kind = 'good' where id = 500", 99],
    ["that others remove while its batch waits is theirs", "delete from loose where id = 500", 99],
  ])("a row %s", async (_what, change, rows) => {
    const { admin } = orders.target
    const { run, context } = await rehearse({ table: "loose", cascade: "" })
    const other = await admin.connect()
    await other.query(`begin; ${change}`)
    const running = run()
    await orders.waitingForLock("doomed as")
    await other.query("commit")
    other.release()
    expect(await running).toMatchObject({ outcome: "succeeded", rows })
    expect(await archived(context.rollbackId)).toEqual({ loose: rows })
    expect(await count(`${await orders.archiveOf(context.rollbackId)} where id = 5000`)).toBe(rows - 99)
    expect(await count(`${await orders.archiveOf(context.rollbackId)} where id = 500`)).toBe(0)
    expect(await count("loose where kind = 'bad'")).toBe(0)
  })

  it("a batch that others made fail is not tried again after Stop", async () => {
    const { run, context } = await rehearse({ table: "loose", cascade: "" })
    const controller = new AbortController()
    const other = await orders.target.admin.connect()
    await other.query("begin; update loose set kind = 'good' where id = 500")
    const running = run({ signal: controller.signal })
    await orders.waitingForLock("doomed as")
    controller.abort()
    await other.query("commit")
    other.release()
    const result = await running
    expect(result).toMatchObject({ outcome: "failed", failure: { code: "stopped" } })
    // Of the same page.
    expect(await count("loose where kind = 'bad' and id between 480 and 520")).toBe(4)
    expect(await archived(context.rollbackId)).toEqual({ loose: 1000 - ((await count("loose")) ?? 0) })
  })
})

describe("what is deleted is what is kept", () => {
  const spares = `create trigger spares before delete on loose for each row execute function spares()`

  beforeAll(() =>
    orders.target.admin.query(`create or replace function spares() returns trigger language plpgsql as $$ begin
      if old.id = 500 then return null; end if; return old; end $$`),
  )
  afterEach(() =>
    orders.target.admin.query("drop trigger if exists spares on loose; drop rule if exists stays on loose"),
  )

  it("though a trigger spares a row", async () => {
    await orders.target.admin.query(spares)
    const { run, context } = await rehearse({ table: "loose", cascade: "" })
    expect(await run()).toMatchObject({ outcome: "succeeded", rows: 99 })
    await expectSpared(context.rollbackId, 99)
  })

  it("though such a trigger comes in its middle", async () => {
    const { result, rollbackId } = await inItsMiddle(spares)
    expect(result).toMatchObject({ outcome: "succeeded", rows: 99 })
    await expectSpared(rollbackId, 99)
  })

  it("up to where a rule comes in its middle that keeps them from being deleted", async () => {
    const { result, rollbackId } = await inItsMiddle(
      "create rule stays as on delete to loose do instead update loose set kind = 'gone' where id = old.id",
    )
    expect(result).toMatchObject({ outcome: "failed" })
    const gone = 1000 - ((await count("loose")) ?? 0)
    expect(gone).toBeGreaterThan(0)
    expect(result.affected).toContainEqual({ table: "loose", did: "removed", rows: gone })
    await expectSpared(rollbackId, gone)
  })

  async function expectSpared(rollbackId: string, gone: number) {
    expect(await archived(rollbackId)).toEqual({ loose: gone })
    expect(await count(`loose join ${await orders.archiveOf(rollbackId)} a using (id)`)).toBe(0)
    expect(await count("loose")).toBe(1000 - gone)
  }

  /** Holds both lanes at their first pages while the change of the table waits behind them. */
  async function inItsMiddle(change: string) {
    const { admin } = orders.target
    const { run, context } = await rehearse({ table: "loose", cascade: "", batch: 10 })
    const holder = await admin.connect()
    await holder.query("begin; select 1 from loose where id in (100, 300) for update")
    const running = run()
    await orders.waitingForLock("doomed as")
    const changing = admin.query(change)
    await orders.queuedForTable("loose")
    await holder.query("rollback")
    holder.release()
    await changing
    return { result: await running, rollbackId: context.rollbackId }
  }

  it("though the condition changes its mind", async () => {
    const where = "kind = 'bad' and random() < 0.5"
    const { run, context } = await rehearse({ table: "loose", cascade: "", where, expect: "0..100" })
    const { rows } = await run()
    expect(rows).toBeGreaterThan(0)
    expect(await archived(context.rollbackId)).toEqual({ loose: rows })
    const both = `loose join ${await orders.archiveOf(context.rollbackId)} a using (id)`
    expect([await count("loose"), await count(both)]).toEqual([1000 - (rows ?? 0), 0])
  })

  it("or nothing is: a rule that says what a delete does is seen at the rehearsal", async () => {
    await orders.target.admin.query("create rule stays as on delete to loose do instead nothing")
    const { rehearsal, run, context } = await rehearse({ table: "loose", cascade: "" })
    expect(JSON.stringify(rehearsal)).toContain("rule stays of loose says what a DELETE there does")
    expect(await run()).toMatchObject({ outcome: "failed", failure: { code: "refused" } })
    expect(await archived(context.rollbackId)).toEqual({})
    expect(await count("loose")).toBe(1000)
  })
})

describe("a purge that is broken off", () => {
  it("by the end of its connections goes on, and nothing is done twice", async () => {
    const { run, context } = await rehearse({ table: "loose", cascade: "" })
    const seen = new Set<number>()
    const killing = { over: false }
    const killer = (async () => {
      while (!killing.over) {
        const { rows } = await orders.target.admin.query<{ pid: number }>(
          "select pid from pg_stat_activity where datname = current_database() and application_name = 'stepback' and state = 'active' and query like '%insert into stepback_ledger.archive%'",
        )
        for (const { pid } of rows)
          if (seen.size < 3 && !seen.has(pid)) {
            seen.add(pid)
            await orders.target.admin.query("select pg_terminate_backend($1)", [pid])
          }
      }
    })()
    const holder = await orders.target.admin.connect()
    await holder.query("begin; select 1 from loose where id = 500 for update")
    const running = run()
    while (seen.size === 0) await orders.waitingForLock()
    await holder.query("rollback")
    holder.release()
    const result = await running
    killing.over = true
    await killer
    expect(result).toMatchObject({ outcome: "succeeded", rows: 100 })
    expect(await archived(context.rollbackId)).toEqual({ loose: 100 })
    expect(await count("loose")).toBe(900)
  })

  it("is taken up at its batch by the next worker; the one before commits nothing more", async () => {
    const { run, context } = await rehearse()
    // After the count, the sample, the beginning and one batch.
    const { pool, frozen, thaw } = freezingPool(5)
    const first = run({ target: { pool, httpBase: null } }).catch((error: unknown) => error)
    await frozen
    // The other lane's transaction is on its way.
    while ((await count("orders")) === 2000);
    const before = 2000 - ((await count("orders")) ?? 0)
    expect(before).toBeGreaterThan(0)
    expect(before).toBeLessThan(200)
    const key = { ...context.key, epoch: 2 }
    await raiseFence(orders.target.admin, key)
    const second = run({ key, attempt: 2 })
    thaw()
    expect(await first).toMatchObject({ code: "lost_lease" })
    expect(await second).toMatchObject({ outcome: "succeeded", rows: 200 })
    expect(await archived(context.rollbackId)).toEqual({ orders: 200, lines: 200, parcels: 100, calls: 200 })
    expect(await count("orders")).toBe(1800)
  })

  /** The pool of a worker that freezes when it asks for a connection for the nth time. */
  function freezingPool(nth: number) {
    const real = orders.target.pools.get(orders.target.url)
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
    const holder = await orders.target.admin.connect()
    await holder.query("begin; select 1 from orders where id = 1000 for update")
    const running = run({ signal: controller.signal })
    await orders.waitingForLock()
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
