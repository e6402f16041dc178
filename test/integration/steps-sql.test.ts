import pg from "pg"
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest"
import { rehearseStep, runStep } from "../../src/steps/definitions.ts"
import { LostLeaseError } from "../../src/errors.ts"
import { raiseFence } from "../../src/steps/ledger.ts"
import { contextOf, freshTarget, stepOf, type TargetFixture } from "./steps-fixture.ts"

const schema = `
  create table items (id integer primary key, kind text not null, n integer not null default 0, word text);
  create table notes (id integer primary key, item_id integer references items (id) on delete cascade);
  create table bare (n integer);
  create table audited (id integer primary key, n integer);
  create function nothing() returns trigger language plpgsql as 'begin return new; end';
  create trigger looks_on before update on audited for each row execute function nothing();
  insert into audited values (1, 1);`

let target: TargetFixture

beforeAll(async () => {
  target = await freshTarget(schema)
})
afterAll(() => target.stop())
beforeEach(async () => {
  await target.admin.query(`truncate items cascade;
    insert into items select n, case when n % 3 = 0 then 'third' else 'other' end, n, 'w' || n from generate_series(1, 30) n`)
})

async function both(yaml: string, values: Record<string, string> = {}) {
  const step = await stepOf(yaml)
  const context = await contextOf({ pool: target.pools.get(target.url), values })
  const rehearsal = await rehearseStep(step, context)
  const result = await runStep(step, { ...context, rehearsed: rehearsal })
  return { step, context, rehearsal, result }
}

describe("a statement's rehearsal and its run", () => {
  it.each([
    ["an update", "update items set n = n + 1 where kind = 'third'"],
    ["an update of which half is so already", "update items set n = 3 where id in (3, 4)"],
    [
      "an update from another table",
      "update items i set word = 'x' from (values (1), (2), (99)) v (id) where v.id = i.id",
    ],
    [
      "an update with a WITH",
      "with chosen as (select id from items where n > 25) update items set word = 'late' where id in (select id from chosen)",
    ],
    ["a delete", "delete from items where kind = 'other' and n < 10"],
    ["a delete using", "delete from items i using (values (5), (6)) v (id) where v.id = i.id"],
    ["an insert of values", "insert into items (id, kind) values (100, 'new'), (101, 'new')"],
    [
      "an insert of values with defaults",
      "insert into items (id, kind, n) values (100, 'new', default), (101, 'new', 1)",
    ],
    ["an insert of a query", "insert into items (id, kind) select id + 200, kind from items where kind = 'third'"],
  ])("count the same: %s", async (_name, sql) => {
    const { rehearsal, result } = await both(`- { id: a, sql: "${sql}", expect: { rows: rehearsed } }`)
    expect(rehearsal).toMatchObject({ outcome: "looked" })
    expect(result).toMatchObject({ outcome: "succeeded", rows: rehearsal.rows, changed: rehearsal.changed })
    expect(result.rows).toBeGreaterThan(0)
  })

  it("show before and after of each row alike", async () => {
    const { rehearsal, result } = await both(
      `- { id: a, sql: "update items set n = n * 2, word = $1 where id = 7", params: [word], expect: { rows: 1 } }`,
      { word: "it's" },
    )
    expect(rehearsal.changes).toEqual(result.changes)
    expect(result.changes).toMatchObject([
      { row: "items.7", column: "n", before: "7", after: "14" },
      { row: "items.7", column: "word", before: '"w7"', after: '"it\'s"' },
    ])
  })

  it("say what was so already", async () => {
    const { rehearsal, result } = await both(
      `- { id: a, sql: "update items set word = 'w4' where id = 4", expect: { rows: 1 } }`,
    )
    expect(rehearsal).toMatchObject({ rows: 1, changed: 0, changes: [] })
    expect(result).toMatchObject({
      rows: 1,
      changed: 0,
      affected: [],
      evidence: ["1 row of items matched; already so, nothing changed"],
    })
  })

  it("keep the rows as they were, and as they were made", async () => {
    const kept = async (id: string) =>
      (
        await target.admin.query<{ operation: string; row_text: string }>(
          "select operation, row_text from stepback_ledger.before_images where rollback_id = $1 order by n",
          [id],
        )
      ).rows
    const updated = await both(`- { id: a, sql: "update items set n = 0 where id in (1, 2)", expect: { rows: 2 } }`)
    expect(await kept(updated.context.rollbackId)).toEqual(
      [1, 2].map((n) => ({ operation: "update", row_text: `(${n},other,${n},w${n})` })),
    )
    const removed = await both(`- { id: a, sql: "delete from items where id = 3", expect: { rows: 1 } }`)
    expect(await kept(removed.context.rollbackId)).toEqual([{ operation: "delete", row_text: "(3,third,3,w3)" }])
    const made = await both(`- { id: a, sql: "insert into items (id, kind) values (50, 'x')", expect: { rows: 1 } }`)
    expect(await kept(made.context.rollbackId)).toEqual([{ operation: "insert", row_text: "(50,x,0,)" }])
  })

  it("mention triggers", async () => {
    const { rehearsal } = await both(`- { id: a, sql: "update audited set n = 2 where id = 1", expect: { rows: 1 } }`)
    expect(rehearsal.warnings).toEqual(["trigger looks_on on audited fires"])
  })
})

describe("a statement that must not take effect", () => {
  const untouched = async () =>
    expect((await target.admin.query("select count(*)::int as rows, sum(n)::int as sum from items")).rows).toEqual([
      { rows: 30, sum: 465 },
    ])

  it("is rolled back when its rows are not as many as expected", async () => {
    const { result, context } = await both(
      `- { id: a, sql: "update items set n = 0 where kind = 'third'", expect: { rows: 1..5 } }`,
    )
    expect(result).toMatchObject({
      outcome: "failed",
      affected: [],
      failure: { code: "row_count", message: "10 rows matched, 1 to 5 expected; nothing was changed" },
    })
    await untouched()
    const { rows } = await target.admin.query("select 1 from stepback_ledger.before_images where rollback_id = $1", [
      context.rollbackId,
    ])
    expect(rows).toEqual([])
  })

  it("is rolled back when the numbers have moved since the rehearsal", async () => {
    const step = await stepOf(
      `- { id: a, sql: "delete from items where kind = 'other'", expect: { rows: rehearsed, tolerance: 0% } }`,
    )
    const context = await contextOf({ pool: target.pools.get(target.url) })
    const rehearsal = await rehearseStep(step, context)
    await target.admin.query("insert into items (id, kind) values (77, 'other')")
    expect(await runStep(step, { ...context, rehearsed: rehearsal })).toMatchObject({
      outcome: "failed",
      failure: { code: "row_count" },
    })
    expect(await runStep(step, { ...context, rehearsed: null })).toMatchObject({
      outcome: "failed",
      failure: { code: "not_rehearsed" },
    })
    await target.admin.query("delete from items where id = 77")
    await untouched()
  })

  it("is refused when rows of other tables would go along", async () => {
    await target.admin.query("insert into notes values (1, 9), (2, 9)")
    const { rehearsal, result } = await both(`- { id: a, sql: "delete from items where id = 9", expect: { rows: 1 } }`)
    expect(rehearsal).toMatchObject({ outcome: "unknown", children: [{ table: "notes", rows: 2, action: "cascade" }] })
    expect(result).toMatchObject({
      outcome: "failed",
      failure: { code: "children", message: "2 rows of notes would go along (cascade) without being kept: use purge" },
    })
    await untouched()
  })

  it("is refused when its rows cannot be kept", async () => {
    const { rehearsal, result } = await both(`- { id: a, sql: "delete from bare where n = 1", expect: { rows: 0..9 } }`)
    expect(rehearsal).toMatchObject({
      outcome: "unknown",
      note: "bare has no primary key: its rows cannot be kept; say irreversible and why",
    })
    expect(result).toMatchObject({ outcome: "failed", failure: { code: "cannot_keep" } })
    const moved = await both(`- { id: a, sql: "update items set id = id + 1000 where id = 1", expect: { rows: 1 } }`)
    expect(moved.result).toMatchObject({ outcome: "failed", failure: { code: "cannot_keep" } })
    await untouched()
  })

  it("tells SQLSTATE, message, position and statement of an error", async () => {
    const { rehearsal, result } = await both(
      `- { id: a, sql: "update items set word = nowhere where id = 1", expect: { rows: 1 } }`,
    )
    expect(rehearsal).toMatchObject({ outcome: "unknown", note: '42703 column "nowhere" does not exist' })
    expect(result.failure).toMatchObject({
      code: "42703",
      message: 'column "nowhere" does not exist',
      statement: "update items set word = nowhere where id = 1",
    })
    expect(result.failure?.position).toBeGreaterThan(0)
  })

  it("gives up on a lock, and names who has it", async () => {
    const holder = new pg.Client({ connectionString: target.url, application_name: "colleague" })
    await holder.connect()
    const { rows } = await holder.query<{ pid: number }>("select pg_backend_pid() as pid")
    await holder.query("begin; update items set word = 'held by a colleague' where id = 1")
    const { result } = await both(
      `- { id: a, sql: "update items set n = 0 where id = 1", timeout: 1s, expect: { rows: 1 } }`,
    )
    await holder.query("rollback")
    await holder.end()
    expect(result).toMatchObject({ outcome: "failed", failure: { code: "55P03" } })
    expect(result.failure?.detail).toContain(`held by pid ${rows[0]?.pid}`)
    expect(result.failure?.detail).toContain("held by a colleague")
    await untouched()
  })

  it("is an error when policies hide rows from our role, in the rehearsal as in the run", async () => {
    await target.admin.query(`drop role if exists hidden_from; create role hidden_from login password 'h1dden';
      create table secrets (id integer primary key, owner text); insert into secrets values (1, 'a'), (2, 'b');
      alter table secrets enable row level security; create policy own on secrets using (owner = 'a');
      grant select, update, delete on secrets to hidden_from;
      grant usage on schema stepback_ledger to hidden_from;
      grant select, insert, update on all tables in schema stepback_ledger to hidden_from`)
    const url = Object.assign(new URL(target.url), { username: "hidden_from", password: "h1dden" }).href
    const context = await contextOf({ pool: target.pools.get(url) })
    for (const sql of ["update secrets set owner = 'c' where id > 0", "delete from secrets where id > 0"]) {
      const step = await stepOf(`- { id: a, sql: "${sql}", expect: { rows: 0..9 } }`)
      expect((await rehearseStep(step, context)).note).toMatch(/^42501 .*row-level security/)
      expect(await runStep(step, context)).toMatchObject({ outcome: "failed", failure: { code: "42501" } })
    }
    const check = await stepOf(`- { id: a, check: "select count(*) from secrets", expect: { rows: 1 } }`)
    expect(await runStep(check, context)).toMatchObject({ outcome: "failed", failure: { code: "42501" } })
    expect((await target.admin.query("select id from secrets")).rowCount).toBe(2)
  })
})

describe("the ledger", () => {
  it("answers for a step that was done, and nothing happens again", async () => {
    const { step, context, result } = await both(
      `- { id: a, sql: "update items set n = n + 1 where id = 1", expect: { rows: 1 } }`,
    )
    expect(await runStep(step, context)).toEqual(result)
    expect((await target.admin.query("select n from items where id = 1")).rows).toEqual([{ n: 2 }])
  })

  it("counts as tries those of this attempt, whatever its number", async () => {
    const step = await stepOf(`- { id: a, sql: "update items set n = n + 1 where id = 1", expect: { rows: 1 } }`)
    const context = await contextOf({ pool: target.pools.get(target.url), attempt: 3 })
    expect(await runStep(step, context)).toMatchObject({ outcome: "succeeded", attempts: 1 })
  })

  it("refuses an older worker", async () => {
    const { step, context } = await both(
      `- { id: b, sql: "update items set n = n + 1 where id = 1", expect: { rows: 1 } }`,
    )
    await raiseFence(target.pools.get(target.url), { ...context.key, epoch: 2 })
    await expect(runStep({ ...step, id: "c" }, context)).rejects.toBeInstanceOf(LostLeaseError)
    await expect(raiseFence(target.pools.get(target.url), context.key)).rejects.toBeInstanceOf(LostLeaseError)
    expect((await target.admin.query("select n from items where id = 1")).rows).toEqual([{ n: 2 }])
  })

  it("lets the same step be run by many at once and take effect once", async () => {
    const step = await stepOf(`- { id: a, sql: "update items set n = n + 1 where id = 1", expect: { rows: 1 } }`)
    const context = await contextOf({ pool: target.pools.get(target.url) })
    await Promise.allSettled(Array.from({ length: 8 }, () => runStep(step, context)))
    expect((await target.admin.query("select n from items where id = 1")).rows).toEqual([{ n: 2 }])
  })
})
