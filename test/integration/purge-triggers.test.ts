import { afterEach, describe, expect, it } from "vitest"
import { rehearseStep, runStep } from "../../src/steps/definitions.ts"
import { contextOf, freshTarget, goThrough, stepOf, type TargetFixture, undoStepOf } from "./steps-fixture.ts"

/** Purges of tables where taking what goes along changes what is to go: by triggers, or since the condition reads it. */
let target: TargetFixture
afterEach(() => target.stop())

const shop = `create table orders (id integer primary key, kind text, lines integer not null default 0);
  create table lines (id integer primary key, order_id integer not null references orders on delete cascade);
  create table parcels (id integer primary key, order_id integer not null references orders on delete cascade);
  create function counts() returns trigger language plpgsql as $$ begin
    update orders set lines = lines + case when tg_op = 'INSERT' then 1 else -1 end where id = coalesce(new.order_id, old.order_id);
    return null; end $$;
  create trigger counts after insert or delete on lines for each row execute function counts();
  insert into orders select n, case when n % 2 = 0 then 'bad' else 'good' end from generate_series(1, 20) n;
  insert into lines select n, 1 + n % 20 from generate_series(1, 60) n;
  insert into parcels select n, n from generate_series(1, 20) n`

const spares = (table: string) => `create function spares() returns trigger language plpgsql as $$ begin
    if old.id = 4 then return null; end if; return old; end $$;
  create trigger spares before delete on ${table} for each row execute function spares()`

const all = async () => {
  const { rows } = await target.admin.query(
    "select (select array_agg(o order by id) from orders o)::text, (select array_agg(l order by id) from lines l)::text, (select array_agg(p order by id) from parcels p)::text",
  )
  return rows
}

const list = async (text: string) => (await target.admin.query<{ count: number }>(text)).rows.map(({ count }) => count)

async function purge(where: string) {
  const step = await stepOf(
    `- { id: p, purge: { table: orders, where: "${where}", cascade: [lines, parcels], at_most: 500, max_share: 90%, batch: 5 }, expect: { rows: rehearsed } }`,
  )
  const context = await contextOf({ pool: target.pools.get(target.url) })
  const rehearsal = await rehearseStep(step, context)
  return { context, result: await runStep(step, { ...context, rehearsed: rehearsal }) }
}

describe("a purge", () => {
  it.each(["kind = 'bad'", "kind = 'bad' and lines > 0", "id in (select o.id from orders o where o.kind = 'bad')"])(
    "takes parents that a trigger moves when their children go, and they come back: %s",
    async (where) => {
      target = await freshTarget(shop)
      const before = await all()
      const { context, result } = await purge(where)
      expect(result).toMatchObject({ outcome: "succeeded", rows: 10, issues: [] })
      expect(await all()).not.toEqual(before)
      const undo = undoStepOf(context.rollbackId, "p")
      const undoing = await contextOf({ pool: target.pools.get(target.url) })
      const rehearsal = await rehearseStep(undo, undoing)
      expect(await runStep(undo, { ...undoing, rehearsed: rehearsal })).toMatchObject({ outcome: "succeeded" })
      expect(await all()).toEqual(before)
      const again = await contextOf({ pool: target.pools.get(target.url) })
      const back = undoStepOf(undoing.rollbackId, undo.id)
      expect(await runStep(back, { ...again, rehearsed: await rehearseStep(back, again) })).toMatchObject({
        outcome: "succeeded",
        issues: [],
      })
      expect(await list("select count(*) from orders where kind = 'bad'")).toEqual([0])
    },
  )

  it("finds parents by a key of any type again", async () => {
    target = await freshTarget(`create table orders (id integer[], day date, kind text, primary key (id, day));
      create table lines (id integer primary key, order_id integer[], day date, foreign key (order_id, day) references orders on delete cascade);
      create table parcels (id integer primary key);
      create function looks() returns trigger language plpgsql as $$ begin return old; end $$;
      create trigger looks before delete on lines for each row execute function looks();
      insert into orders select array[n, null, 0], date '2026-01-01' + n, case when n % 2 = 0 then 'bad' else 'good' end from generate_series(1, 20) n;
      insert into lines select n, array[n, null, 0], date '2026-01-01' + n from generate_series(1, 20) n`)
    const before = await all()
    const { context, result } = await purge("kind = 'bad'")
    expect(result).toMatchObject({ outcome: "succeeded", rows: 10, issues: [] })
    const undoing = await goThrough(target, undoStepOf(context.rollbackId, "p"))
    expect(undoing.result).toMatchObject({ outcome: "succeeded", rows: 20 })
    expect(await all()).toEqual(before)
  })

  it("whose condition reads what goes along takes all that it meant at first, over many pages", async () => {
    // Groups of ten, each meant by one line: a batch that ends within a group would leave the rest of it.
    target = await freshTarget(`create table orders (id integer primary key, pad text);
      create table lines (id integer primary key, order_id integer not null references orders on delete cascade, sku text);
      create table parcels (id integer primary key, order_id integer references orders on delete cascade);
      insert into orders select n, repeat('x', 500) from generate_series(0, 399) n;
      insert into lines select n, n, case when n % 10 = 0 then 'bad' else 'good' end from generate_series(0, 399) n`)
    const before = await all()
    const { context, result } = await purge(
      "id / 10 in (select order_id / 10 from lines where sku = 'bad' and id < 200)",
    )
    expect(result).toMatchObject({ outcome: "succeeded", rows: 200, issues: [] })
    const undoing = await contextOf({ pool: target.pools.get(target.url) })
    const undo = undoStepOf(context.rollbackId, "p")
    expect(await runStep(undo, { ...undoing, rehearsed: await rehearseStep(undo, undoing) })).toMatchObject({
      outcome: "succeeded",
    })
    expect(await all()).toEqual(before)
  })

  it.each(["lines", "orders"])("takes nothing of a batch where a trigger of %s spares a row of it", async (table) => {
    target = await freshTarget(`${shop}; ${spares(table)}; drop trigger counts on lines`)
    const before = await all()
    const { result } = await purge("id between 4 and 5")
    expect(result).toMatchObject({ outcome: "failed", failure: { code: "archived_differs" } })
    expect(result.failure?.message).toContain(`were to go and`)
    expect(await all()).toEqual(before)
  })
})
