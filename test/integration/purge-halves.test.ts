import pg from "pg"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest"
import { startOrders, type Options } from "./purge-fixture.ts"

let orders: Awaited<ReturnType<typeof startOrders>>
beforeAll(async () => {
  orders = await startOrders()
})
afterAll(() => orders.target.stop())

/** The number of the connection that the second half of the count is asked of: the first counts already. */
const beside = 2

describe("a look at a large table is shared by two connections", () => {
  /** A row for each page, and a condition for which the server would use a helper. */
  beforeEach(() =>
    orders.target.admin
      .query(`create table wide (id integer primary key, kind text not null, pad text) with (fillfactor = 10);
      insert into wide select n, case when n % 10 = 0 then 'bad' else 'good' end, repeat('x', 700) from generate_series(1, 2000) n;
      analyze wide;
      create function is_bad(kind text) returns boolean immutable parallel safe cost 10000 language plpgsql as $$ begin return kind = 'bad'; end $$`),
  )
  afterEach(async () => {
    vi.restoreAllMocks()
    await orders.target.admin.query("drop table wide; drop function is_bad")
  })
  const rehearse = (more: Options = {}) =>
    orders.rehearse({ table: "wide", where: "is_bad(kind)", cascade: "", ...more })
  const spare = (ids: string) => orders.target.admin.query(`update wide set kind = 'bad' where id in (${ids})`)

  /** What is done before the pool gives its nth connection; what that throws, it says. */
  function before(nth: number, work: () => Promise<unknown>): void {
    const pool: { connect(): Promise<unknown> } = orders.target.pools.get(orders.target.url)
    const connect = pool.connect.bind(pool)
    let asked = 0
    vi.spyOn(pool, "connect").mockImplementation(async () => {
      if (++asked === nth) await work()
      return connect()
    })
  }

  it("that see the same moment: what comes between them is not counted", async () => {
    const { run } = await rehearse({ expect: "200" })
    before(beside, () => spare("1999"))
    const result = await run()
    expect(result).toMatchObject({ outcome: "succeeded", rows: 200 })
    expect(result.issues.join()).toContain("1 rows of wide arrived meanwhile")
    expect(await orders.count("wide where kind = 'bad'")).toBe(1)
  })

  it("or by one, where there is no second", async () => {
    const { run } = await rehearse({ expect: "200" })
    const none = vi.fn(() => Promise.reject(new Error("too many connections")))
    before(beside, none)
    expect(await run()).toMatchObject({ outcome: "succeeded", rows: 200, issues: [] })
    expect(none).toHaveBeenCalled()
  })

  it("or with the server's own helper, where it is larger than the server's memory", async () => {
    // A page for each of them: with those that are there 17,000, more than 128 MB.
    await orders.target.admin.query(
      "insert into wide select n, 'good', repeat('x', 700) from generate_series(2001, 17000) n; analyze wide",
    )
    const { run } = await rehearse({ expect: "200" })
    const asked = vi.spyOn(pg.Client.prototype, "query")
    expect(await run()).toMatchObject({ outcome: "succeeded", rows: 200, issues: [] })
    const texts = asked.mock.calls.map(([query]: unknown[]) => JSON.stringify(query))
    expect(texts.filter((text) => text.includes("explain"))).toHaveLength(2)
    expect(texts.filter((text) => text.includes("set transaction snapshot"))).toEqual([])
  })

  it("at the end too: late rows of either half go", async () => {
    const { admin } = orders.target
    // When the last page is done: its neighbour and the first page's row are late.
    await admin.query(`create function late() returns trigger language plpgsql as $$ begin
        if not exists (select from wide where id = 2000) then update wide set kind = 'bad' where id in (1, 1999); end if;
        return null; end $$;
      create trigger late after delete on wide for each statement execute function late()`)
    const { run, context } = await rehearse({ expect: "200..210" })
    const result = await run()
    await admin.query("drop function late cascade")
    expect(result).toMatchObject({ outcome: "succeeded", rows: 202, issues: [] })
    expect(await orders.archived(context.rollbackId)).toEqual({ wide: 202 })
    expect(await orders.count("wide where kind = 'bad'")).toBe(0)
  })
})
