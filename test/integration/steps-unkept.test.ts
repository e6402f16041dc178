import { afterEach, describe, expect, it } from "vitest"
import { until } from "../../playground/faults/until.ts"
import type { PlanStep } from "../../src/plans/plan.ts"
import { findTable, type TableFacts } from "../../src/steps/catalog.ts"
import { rehearseStep, runStep } from "../../src/steps/definitions.ts"
import type { Going } from "../../src/steps/restore-plan.ts"
import { childrenProblem } from "../../src/steps/restore-sql.ts"
import { contextOf, freshTarget, stepOf, type TargetFixture, undoStepOf } from "./steps-fixture.ts"

/** Tables of a kind by which rows were removed that nothing keeps, or came back as other rows. */
let target: TargetFixture
afterEach(() => target.stop())

const having = async (schema: string) => void (target = await freshTarget(schema))
const sql = (text: string) => target.admin.query(text)
const list = async (text: string) => (await sql(text)).rows.map((row) => Object.values(row as object).join(" "))

async function look(step: PlanStep, redact: string[] = []) {
  const context = await contextOf({ pool: target.pools.get(target.url), redact })
  const rehearsal = await rehearseStep(step, context)
  return {
    context,
    rehearsal,
    run: (rehearsed: typeof rehearsal | null = rehearsal) => runStep(step, { ...context, rehearsed }),
  }
}

/** Runs the step, which succeeds, lets something happen, and looks at its undo. */
async function thenUndo(yaml: string, meanwhile = "select 1", redact: string[] = []) {
  const step = await stepOf(yaml)
  const { context, run } = await look(step, redact)
  expect(await run()).toMatchObject({ outcome: "succeeded" })
  await sql(meanwhile)
  return look(undoStepOf(context.rollbackId, step.id), redact)
}

describe("a DELETE", () => {
  const orders = `create table orders (id integer primary key, kind text); insert into orders values (1, 'bad'), (2, 'good');
    create table lines (order_id integer references orders on delete cascade, live boolean); insert into lines values (1, false), (2, true);`

  it("meets the lines that would go along, also under a CTE that is called as their table", async () => {
    await having(orders)
    const step = await stepOf(
      `- { id: a, sql: "with lines as (select order_id from lines where live) delete from orders where id not in (select order_id from lines)", expect: { rows: rehearsed } }`,
    )
    const { rehearsal, run } = await look(step)
    expect(rehearsal).toMatchObject({ outcome: "unknown", children: [{ table: "lines", rows: 1, action: "cascade" }] })
    expect(await run()).toMatchObject({ outcome: "failed" })
    expect(await list("select count(*) from lines")).toEqual(["2"])
  })

  it("takes no order along that came with a line after the lines were counted", async () => {
    await having(`${orders} truncate lines;
      create table calls (order_id integer references orders on delete cascade)`)
    const step = await stepOf(`- { id: a, sql: "delete from orders where kind = 'bad'", expect: { rows: 1..9 } }`)
    const { run } = await look(step)
    const holder = await target.admin.connect()
    // As the step itself finds them.
    const [first, last] = (await findTable(holder, null, "orders"))?.children.map(({ relation }) => relation) ?? []
    await holder.query(`begin; lock table ${last}`)
    const result = run()
    await until("the count to wait", async () => {
      const waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and query ~ 'count'"
      return (await sql(waiting)).rowCount
    })
    await sql(`insert into orders values (3, 'bad'); insert into ${first} (order_id) values (3)`)
    await holder.query("commit")
    holder.release()
    expect(await result).toMatchObject({ outcome: "failed", failure: { code: "children" } })
    expect(await list("select id from orders order by id")).toEqual(["1", "2", "3"])
  })

  it("is refused where an heir's rows would go with columns of their own", async () => {
    await having(`create table parent (id integer primary key, kind text); create table heir (extra text) inherits (parent);
      insert into heir values (1, 'bad', 'only here')`)
    const step = await stepOf(`- { id: a, sql: "delete from parent where kind = 'bad'", expect: { rows: rehearsed } }`)
    const { rehearsal, run } = await look(step)
    expect(rehearsal).toMatchObject({ outcome: "unknown", note: expect.stringContaining("heir inherits from parent") })
    expect(await run()).toMatchObject({ outcome: "failed" })
    expect(await list("select extra from heir")).toEqual(["only here"])
  })

  it("meets what refers to a partition by itself", async () => {
    await having(`create table days (id integer primary key, kind text) partition by range (id);
      create table days_1 partition of days for values from (1) to (10); create table days_2 partition of days for values from (10) to (20);
      create table own (day_id integer references days_1 on delete cascade); insert into days values (1, 'bad'), (11, 'bad'), (2, 'good'); insert into own values (1), (2)`)
    const { rehearsal, run } = await look(
      await stepOf(`- { id: a, sql: "delete from days where kind = 'bad'", expect: { rows: rehearsed } }`),
    )
    expect(rehearsal).toMatchObject({ outcome: "unknown", children: [{ table: "own", rows: 1 }] })
    expect(await run()).toMatchObject({ outcome: "failed" })
    const free = await look(
      await stepOf(`- { id: b, sql: "delete from days where id = 11", expect: { rows: rehearsed } }`),
    )
    expect(await free.run()).toMatchObject({ outcome: "succeeded", rows: 1 })
    expect(await list("select count(*) from own")).toEqual(["2"])
  })
})

describe("a purge", () => {
  const step = (table: string, cascade: string) =>
    stepOf(
      `- { id: p, purge: { table: ${table}, where: "kind = 'bad'", cascade: [${cascade}], at_most: 100, max_share: 100% }, expect: { rows: rehearsed } }`,
    )

  it("is refused where a table that goes along has heirs", async () => {
    await having(`create table orders (id integer primary key, kind text); insert into orders values (1, 'bad');
      create table lines (id integer primary key, order_id integer references orders on delete cascade); insert into lines values (1, 1);
      create table more (extra text) inherits (lines); insert into more values (2, 1, 'only here')`)
    const { rehearsal, run } = await look(await step("orders", "lines"))
    expect(rehearsal).toMatchObject({ outcome: "unknown", note: expect.stringContaining("more inherits from lines") })
    expect(await run()).toMatchObject({ outcome: "failed" })
    expect(await list("select count(*) from orders union all select count(*) from lines")).toEqual(["1", "2"])
  })

  it("is refused where others refer to its rows for a time", async () => {
    await having("select 1")
    const { rows } = await target.admin.query<{ knows: boolean }>(
      "select current_setting('server_version_num')::int >= 180000 as knows",
    )
    if (!rows[0]?.knows) return
    await sql(`create extension btree_gist; create table rates (id integer, valid daterange, primary key (id, valid without overlaps));
      create table uses (id integer primary key, rate integer, valid daterange, foreign key (rate, period valid) references rates (id, period valid));
      insert into rates values (1, '[2026-01-01,2026-02-01)'); insert into uses values (1, 1, '[2026-01-05,2026-01-08)')`)
    const { rehearsal } = await look(
      await stepOf(
        `- { id: p, purge: { table: rates, where: "id = 1", cascade: [uses], at_most: 5, max_share: 100% } }`,
      ),
    )
    expect(rehearsal).toMatchObject({
      refused: true,
      note: expect.stringContaining("uses refers to rows of rates for a time") as string,
    })
  })

  it("is refused where two tables of one name would go along", async () => {
    await having(`create schema audit; create table orders (id integer primary key, kind text); insert into orders values (1, 'bad');
      create table lines (id integer primary key, order_id integer references orders on delete cascade); insert into lines values (1, 1);
      create table audit.lines (id integer primary key, order_id integer references orders on delete cascade); insert into audit.lines values (1, 1)`)
    const { rehearsal, run } = await look(await step("orders", "lines"))
    expect(rehearsal).toMatchObject({ outcome: "unknown", note: expect.stringMatching(/have one name/) })
    expect(await run()).toMatchObject({ outcome: "failed" })
    expect(await list("select count(*) from lines union all select count(*) from audit.lines")).toEqual(["1", "1"])
  })

  it("whose condition reads its own table takes what matched at once, and tells what matches then", async () => {
    await having(
      "create table quotes (id integer primary key, k integer, pad text); insert into quotes select n, n % 10, repeat('x', 500) from generate_series(1, 300) n",
    )
    const newest = await stepOf(
      `- { id: p, purge: { table: quotes, where: "id in (select max(id) from quotes group by k having count(*) > 1)", at_most: 100, batch: 3 }, expect: { rows: rehearsed } }`,
    )
    const { rehearsal, context, run } = await look(newest)
    expect(rehearsal).toMatchObject({ rows: 10, warnings: [expect.stringContaining("in one transaction")] })
    const done = { outcome: "succeeded", rows: 10, issues: ["10 rows of quotes match now and were left"] }
    expect(await run()).toMatchObject(done)
    expect(await list("select min(id), max(id), count(*) from quotes")).toEqual(["1 290 290"])
    // As the worker does that takes over when the first died before it could report.
    expect(await run()).toMatchObject(done)
    const undo = await look(undoStepOf(context.rollbackId, newest.id))
    expect(await undo.run()).toMatchObject({ outcome: "succeeded", rows: 10 })
    expect(await list("select count(*) from quotes")).toEqual(["300"])
    await sql("truncate quotes")
    expect(await (await look(newest)).run()).toMatchObject({ outcome: "succeeded", rows: 0 })
  })

  it("cuts loose by a default or by some of the key's columns, and its undo ties again", async () => {
    await having(`create table orders (tenant integer, id integer, kind text, primary key (tenant, id)); insert into orders values (1, 0, 'good'), (1, 5, 'bad'), (1, 6, 'bad');
      create table calls (id integer primary key, tenant integer, order_id integer, foreign key (tenant, order_id) references orders on delete set null (order_id));
      create table notes (id integer primary key, tenant integer default 1, order_id integer default 0, foreign key (tenant, order_id) references orders on delete set default);
      insert into calls values (1, 1, 5), (2, 1, 6); insert into notes values (1, 1, 5), (2, 1, 6)`)
    const purge = await step("orders", "calls, notes")
    const { context, run } = await look(purge)
    expect(await run()).toMatchObject({ outcome: "succeeded", rows: 2 })
    expect(await list("select order_id from calls union all select order_id from notes")).toEqual(["", "", "0", "0"])
    // One was tied to another order since.
    await sql("update calls set order_id = 0 where id = 2")
    const undo = await look(undoStepOf(context.rollbackId, purge.id))
    expect(await undo.run()).toMatchObject({ outcome: "succeeded", issues: [expect.stringContaining("calls.2")] })
    expect(await list("select order_id from calls order by id")).toEqual(["5", "0"])
    expect(await list("select order_id from notes order by id")).toEqual(["5", "6"])
  })
})

describe("an UPDATE", () => {
  it("knows the key of a table whose key includes other columns", async () => {
    await having(
      "create table t (id integer, note text, value integer, primary key (id) include (note)); insert into t values (1, null, 5)",
    )
    const undo = await thenUndo(
      `- { id: a, sql: "update t set value = 6, note = 'x' where id = 1", expect: { rows: rehearsed } }`,
    )
    expect(undo.rehearsal).toMatchObject({ rows: 1, warnings: [] })
    expect(await undo.run()).toMatchObject({ outcome: "succeeded", rows: 1, issues: [] })
    expect(await list("select * from t")).toEqual(["1  5"])
  })

  it("shows no key that the plan says is never shown, now and at its undo", async () => {
    await having(
      "create table people (email text primary key, name text); insert into people values ('ann@example.org', 'Ann'), ('bob@example.org', 'Bob')",
    )
    const yaml = `- { id: a, sql: "update people set name = 'X' where name like '%n%' or name = 'Bob'", expect: { rows: rehearsed } }`
    const first = await look(await stepOf(yaml), ["email"])
    expect(JSON.stringify(first.rehearsal)).toContain("people.(not shown)")
    const undo = await thenUndo(yaml, "update people set name = 'Y' where email like 'bob%'", ["email"])
    const result = await undo.run()
    expect(result).toMatchObject({ rows: 1, issues: [expect.stringContaining("people.(not shown)")] })
    expect(JSON.stringify([first.rehearsal, undo.rehearsal, result])).not.toContain("example.org")
  })

  it("keeps the rows that it changes, also where others change meanwhile which ones it means", async () => {
    await having(`create table t (id integer primary key, v text, touched integer); insert into t values (1, 'a'), (2, 'b');
      create table sel (id integer); insert into sel values (1)`)
    const step = await stepOf(
      `- { id: a, sql: "update t set v = 'new' where id in (select id from sel)", expect: { rows: 1 } }`,
    )
    const { context, run } = await look(step)
    const other = await target.admin.connect()
    await other.query("begin; update t set touched = 1 where id = 1; update sel set id = 2")
    const result = run()
    await until("the step to wait", async () => {
      const waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and query ~ 'stepback_kept'"
      return (await sql(waiting)).rowCount
    })
    await other.query("commit")
    other.release()
    expect(await result).toMatchObject({ outcome: "succeeded", rows: 1, changed: 1 })
    expect(await list("select id, v from t order by id")).toEqual(["1 a", "2 new"])
    const undo = await look(undoStepOf(context.rollbackId, step.id))
    expect(await undo.run()).toMatchObject({ outcome: "succeeded" })
    expect(await list("select id, v from t order by id")).toEqual(["1 a", "2 b"])
  })

  it("takes a row that a trigger changes once more, in a block with an exception clause, for its own", async () => {
    await having(`create table t (id integer primary key, v text); insert into t values (1, 'a');
      create function again() returns trigger language plpgsql as $$ begin
        begin update t set v = new.v || '!' where id = new.id and v <> new.v || '!'; exception when others then null; end; return null; end $$;
      create trigger again after update on t for each row when (pg_trigger_depth() = 0) execute function again()`)
    const undo = await thenUndo(`- { id: a, sql: "update t set v = 'new' where id = 1", expect: { rows: 1 } }`)
    expect(await list("select v from t")).toEqual(["new!"])
    expect(undo.rehearsal).toMatchObject({ rows: 1, changed: 1 })
  })

  it("is refused where it gives a row another number of the server's, which no undo may set", async () => {
    await having(
      "create table t (id integer primary key, n integer generated always as identity, v text); insert into t (id, v) values (1, 'a')",
    )
    const step = await stepOf(`- { id: a, sql: "update t set v = 'b', n = default where id = 1", expect: { rows: 1 } }`)
    const { rehearsal, run } = await look(step)
    expect(rehearsal).toMatchObject({ outcome: "unknown", note: expect.stringContaining("generated always") as string })
    expect(await run()).toMatchObject({ outcome: "failed", failure: { code: "cannot_keep" } })
    expect(await list("select n, v from t")).toEqual(["1 a"])
  })

  it("is refused where the key of a row stands in an heir too", async () => {
    await having(`create table t (id integer primary key, v text); insert into t values (1, 'a');
      create table heir () inherits (t); insert into heir values (1, 'b')`)
    const step = await stepOf(`- { id: a, sql: "update t set v = 'new' where id = 1", expect: { rows: 2 } }`)
    const { run } = await look(step)
    expect(await run()).toMatchObject({ outcome: "failed", failure: { code: "cannot_keep" } })
    expect(await list("select v from t order by v")).toEqual(["a", "b"])
  })

  it("is refused where the server computes the key from other columns, and so is a purge", async () => {
    await having(`create table t (name text, slug text generated always as (lower(name)) stored primary key);
      insert into t (name) values ('A'), ('B')`)
    const update = await stepOf(`- { id: a, sql: "update t set name = 'C' where name = 'A'", expect: { rows: 1 } }`)
    const purge = await stepOf(
      `- { id: p, purge: { table: t, where: "name = 'A'", at_most: 9, max_share: 90% }, expect: { rows: 1 } }`,
    )
    for (const step of [update, purge]) {
      const { rehearsal, run } = await look(step)
      expect(rehearsal).toMatchObject({
        outcome: "unknown",
        note: expect.stringContaining("computed from other columns"),
      })
      expect(await run()).toMatchObject({ outcome: "failed" })
    }
    expect(await list("select name from t order by name")).toEqual(["A", "B"])
  })

  it("is refused where it would empty rows that refer to what it changes, and so is a restore's", async () => {
    await having(`create table parent (id integer primary key, code text unique); insert into parent values (1, 'bad');
      create table child (pcode text references parent (code) on update set null); insert into child values ('bad')`)
    const step = await stepOf(`- { id: a, sql: "update parent set code = 'good' where id = 1", expect: { rows: 1 } }`)
    const { rehearsal, run } = await look(step)
    expect(rehearsal).toMatchObject({
      outcome: "unknown",
      note: expect.stringContaining("rows of child that refer to"),
    })
    expect(await run()).toMatchObject({ outcome: "failed", failure: { code: "cannot_keep" } })
    expect(await list("select pcode from child")).toEqual(["bad"])
    const client = await target.admin.connect()
    const parent = (await findTable(client, null, "parent")) as TableFacts
    const rowOf = (row: string) => ({ row }) as Going["now"]
    const going = [{ id: "1", key: ["1"], base: rowOf("(1,good)"), now: rowOf("(1,bad)") }]
    expect(await childrenProblem(client, parent, going, null)).toContain("rows of child that refer to code of parent")
    client.release()
  })

  it("counts a row that its join meets more than once as one, as a DELETE does", async () => {
    await having(`create table t (id integer primary key, v text); insert into t values (1, 'a'), (2, 'a');
      create table o (t_id integer, v text); insert into o values (1, 'x'), (1, 'y')`)
    const update = `- { id: a, sql: "update t set v = 'new' from o where o.t_id = t.id", expect: { rows: rehearsed } }`
    const { rehearsal, run } = await look(await stepOf(update))
    expect(rehearsal).toMatchObject({ rows: 1, changed: 1, changes: [{ row: "t.1" }] })
    expect(rehearsal.warnings.join()).toContain("matches several of those that it is joined with")
    expect(await run()).toMatchObject({ outcome: "succeeded", rows: 1, changed: 1 })
    await sql("create table kid (t_id integer references t on delete cascade)")
    const remove = await look(
      await stepOf(`- { id: b, sql: "delete from t using o where o.t_id = t.id", expect: { rows: rehearsed } }`),
    )
    expect(remove.rehearsal).toMatchObject({ rows: 1, changes: [{ row: "t.1", column: "" }] })
    expect(await remove.run()).toMatchObject({ outcome: "succeeded", rows: 1 })
    expect(await list("select id from t")).toEqual(["2"])
  })
})

it("what a trigger writes into rows that were just made is nobody else's change: they go again, and so do those of an undo", async () => {
  await having(`create table t (id integer primary key, code text);
    create function codes() returns trigger language plpgsql as $$ begin update t set code = 'C' || id where id = new.id; return null; end $$;
    create trigger codes after insert on t for each row execute function codes()`)
  const made = await thenUndo(`- { id: a, sql: "insert into t values (1, 'x')", expect: { rows: 1 } }`)
  expect(made.rehearsal).toMatchObject({ rows: 1 })
  expect(await made.run()).toMatchObject({ outcome: "succeeded", rows: 1, issues: [] })
  await sql("insert into t values (2, 'y')")
  const gone = await thenUndo(
    `- { id: p, purge: { table: t, where: "id = 2", at_most: 9, max_share: 100% }, expect: { rows: 1 } }`,
  )
  expect(await gone.run()).toMatchObject({ outcome: "succeeded", rows: 1 })
  const again = await look(undoStepOf(gone.context.rollbackId, "undo-p"))
  expect(await again.run()).toMatchObject({ outcome: "succeeded", rows: 1, issues: [] })
  expect(await list("select id from t")).toEqual([])
})

describe("an undo", () => {
  it("shows no conflict where a later step of its run touched a row, and one where somebody else did", async () => {
    await having("create table t (id integer primary key, v text); insert into t values (1, 'a')")
    const yaml = [
      "update t set v = 'b' where id = 1",
      "update t set v = 'c' where id = 1",
      "delete from t where id = 1",
      "insert into t values (1, 'd')",
    ].map((text, n) => `- { id: s${n}, sql: "${text}", expect: { rows: 1 } }`)
    const ran = await contextOf({ pool: target.pools.get(target.url) })
    for (const one of yaml) {
      const step = await stepOf(one)
      const rehearsed = await rehearseStep(step, ran)
      expect(await runStep(step, { ...ran, rehearsed })).toMatchObject({ outcome: "succeeded" })
    }
    const cards = () => Promise.all([3, 2, 1, 0].map((n) => look(undoStepOf(ran.rollbackId, `s${n}`))))
    for (const { rehearsal } of await cards()) expect(rehearsal).toMatchObject({ rows: 1, warnings: [] })
    await sql("update t set v = 'mine'")
    const [newest] = await cards()
    expect(newest?.rehearsal.warnings).toEqual(["1 changed since and left as they are: t.1"])
    await sql("update t set v = 'd'")
    for (const { run } of await cards())
      expect(await run()).toMatchObject({ outcome: "succeeded", rows: 1, issues: [] })
    expect(await list("select v from t")).toEqual(["a"])
  })

  it("is refused when columns went and came: what was kept is read by its order", async () => {
    await having("create table t (id integer primary key, kind text, note text); insert into t values (1, 'bad', 'n')")
    const undo = await thenUndo(
      `- { id: a, sql: "delete from t where kind = 'bad'", expect: { rows: rehearsed } }`,
      "alter table t drop column note; alter table t add column tag text",
    )
    expect(undo.rehearsal).toMatchObject({ outcome: "unknown", note: expect.stringContaining("columns changed since") })
    expect(await undo.run()).toMatchObject({ outcome: "failed", failure: { code: "schema_changed" } })
    expect(await list("select count(*) from t")).toEqual(["0"])
  })

  const stamp = `create table t (id integer primary key, kind text, status text); insert into t values (1, 'bad', 'old'), (2, 'bad', 'new');
    create function stamp() returns trigger language plpgsql as $$ begin new.status := 'new'; return new; end $$;`

  it.each([
    [
      "a DELETE",
      `- { id: a, sql: "delete from t where kind = 'bad'", expect: { rows: rehearsed } }`,
      "create trigger stamp before insert on t for each row execute function stamp()",
    ],
    [
      "an UPDATE",
      `- { id: a, sql: "update t set kind = 'good', status = 'done' where kind = 'bad'", expect: { rows: rehearsed } }`,
      "create trigger stamp before update on t for each row execute function stamp()",
    ],
    [
      "a purge",
      `- { id: a, purge: { table: t, where: "kind = 'bad'", at_most: 9, max_share: 100% }, expect: { rows: rehearsed } }`,
      "create trigger stamp before insert on t for each row execute function stamp()",
    ],
  ])("of %s lists the triggers and tells what they made of its rows", async (_of, yaml, trigger) => {
    await having(stamp)
    const undo = await thenUndo(yaml, trigger)
    expect(undo.rehearsal.warnings).toContain("trigger stamp on t fires")
    expect(await undo.run()).toMatchObject({
      outcome: "succeeded",
      rows: 2,
      issues: ["1 row of t came back otherwise than as kept: by trigger stamp"],
    })
  })

  it("gives nothing back where a trigger keeps some away", async () => {
    await having(stamp)
    const undo = await thenUndo(
      `- { id: a, sql: "delete from t where kind = 'bad'", expect: { rows: rehearsed } }`,
      `create function only_one() returns trigger language plpgsql as $$ begin return case when new.id = 1 then new end; end $$;
       create trigger only_one before insert on t for each row execute function only_one()`,
    )
    expect(await undo.run()).toMatchObject({
      outcome: "failed",
      failure: { message: expect.stringMatching(/^1 of 2 /) },
    })
    expect(await list("select count(*) from t")).toEqual(["0"])
  })
})

describe("a step that nothing keeps", () => {
  const many = `create table t (id integer primary key, code text unique, v text); insert into t select n, 'c' || n, 'old' from generate_series(1, 4) n;
    create table bare (v text); insert into bare values ('old'), ('old'), ('new');
    create view seen as select id, v from t where id < 4; create materialized view stale as select * from t;`
  const meant = (text: string, rows = "rehearsed, tolerance: 0%") =>
    stepOf(`- { id: a, sql: "${text}", expect: { rows: ${rows} }, irreversible: it is meant }`)

  it.each([
    ["a table without a key", "update bare set v = 'new' where v <> ''", 3, 2],
    ["a table without a key", "delete from bare where v = 'old'", 2, 2],
    ["a view", "update seen set v = 'new' where id > 1", 2, 2],
    ["a view", "delete from seen where id > 1", 2, 2],
  ])("is looked at where it writes to %s: %s", async (_, text, rows, changed) => {
    await having(many)
    const { rehearsal, run } = await look(await meant(text))
    expect(rehearsal).toMatchObject({ outcome: "looked", rows, changed })
    expect(rehearsal.changes[0]?.row).toMatch(/^(bare|seen)\.\(no key\)$/)
    expect(await run()).toMatchObject({ outcome: "succeeded", rows })
  })

  it("is said not to be looked at where rows of a view are joined with others", async () => {
    await having(many)
    const { rehearsal } = await look(await meant("delete from seen using bare where bare.v = seen.v"))
    expect(rehearsal).toMatchObject({ outcome: "unknown", note: "this statement cannot be looked at beforehand" })
  })

  it("takes no rows of others along that its card would not, nor those that came since", async () => {
    await having(
      `${many} create table calls (t_id integer references t on delete set null); insert into calls values (1)`,
    )
    const refused = await look(await meant("delete from t where id < 3"))
    expect(refused.rehearsal).toMatchObject({ refused: true, children: [{ table: "calls", rows: 1 }] })
    expect(await refused.run()).toMatchObject({ outcome: "failed", failure: { code: "children" } })
    const free = await look(await meant("delete from t where id = 3"))
    expect(free.rehearsal).toMatchObject({ outcome: "looked", rows: 1 })
    await sql("insert into calls values (3)")
    expect(await free.run()).toMatchObject({ outcome: "failed", failure: { code: "children" } })
    const unseen = await look(await meant("delete from t where id = 3", "1"))
    expect(await unseen.run(null)).toMatchObject({ outcome: "failed", failure: { code: "children" } })
    expect(await list("select t_id from calls order by 1")).toEqual(["1", "3"])
    expect(await (await look(await meant("delete from t where id = 4"))).run()).toMatchObject({ outcome: "succeeded" })
  })

  it("says which rows lose what they refer to, with their triggers, each once", async () => {
    await having(`${many} create table calls (code text references t (code) on update set null); insert into calls values ('c1'), ('c3');
      create function noted() returns trigger language plpgsql as $$ begin return new; end $$;
      create trigger noted before update on calls for each row execute function noted();
      alter table t add above text references t (code) on update cascade; update t set above = 'c1' where id > 2;
      create trigger marked before update on t for each row execute function noted()`)
    const { rehearsal, run } = await look(await meant("update t set code = code || 'x' where id < 3"))
    expect(rehearsal).toMatchObject({
      children: [
        { table: "calls", rows: 1, action: "set null" },
        { table: "t", rows: 2, action: "cascade" },
      ],
      warnings: ["trigger marked on t fires", "trigger noted on calls fires"],
    })
    expect(await run()).toMatchObject({ outcome: "succeeded", rows: 2 })
    expect(await list("select code from calls order by 1")).toEqual(["c3", ""])
  })
})

describe("what only the server can say of a statement is said on the card", () => {
  it.each([
    ["update stale set v = 'x' where id = 1, irreversible", "42809 cannot change materialized view"],
    ["insert into t (id, v) values (9, 'x')", "42501 permission denied for table t"],
    ["delete from t where id = 1", "42501 permission denied for table t"],
    ["insert into hidden values (9)", "42501 query would be affected by row-level security policy"],
    ["insert into made (id) values (9)", "428C9 cannot insert a non-DEFAULT value"],
  ])("%s", async (text, note) => {
    await having(`create table t (id integer primary key, v text); insert into t values (1, 'old'); create materialized view stale as select * from t;
      create table made (id integer generated always as identity primary key);
      create table hidden (id integer primary key); alter table hidden enable row level security;
      do $$ begin if not exists (select from pg_roles where rolname = 'only_reads') then create role only_reads login password 'r'; end if; end $$;
      grant select on all tables in schema public to only_reads; grant insert on hidden, made to only_reads; grant update on stale to only_reads`)
    const address = Object.assign(new URL(target.url), { username: "only_reads", password: "r" }).href
    const [statement = "", irreversible = ""] = text.split(", irr")
    const step = await stepOf(
      `- { id: a, sql: "${statement}", expect: { rows: rehearsed }${irreversible === "" ? "" : ", irreversible: meant"} }`,
    )
    const context = await contextOf({ pool: null })
    const rehearsal = await rehearseStep(step, {
      ...context,
      target: { pool: target.pools.get(address), httpBase: null },
    })
    expect(rehearsal).toMatchObject({ outcome: "unknown", note: expect.stringContaining(note) as string })
  })
})
