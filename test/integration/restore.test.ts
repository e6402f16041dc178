import { randomUUID } from "node:crypto"
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest"
import type { PlanStep, RestoreStep } from "../../src/plans/plan.ts"
import { rehearseStep, runStep } from "../../src/steps/definitions.ts"
import { compareBaseline } from "../../src/steps/baseline-compare.ts"
import { createSecrets } from "../../src/steps/secrets.ts"
import { undoStep } from "../../src/steps/undo.ts"
import { restoreStepOf, snapshots } from "./restore-fixture.ts"
import { contextOf, freshTarget, stepOf, type TargetFixture } from "./steps-fixture.ts"

const schema = `
  create type mood as enum ('calm', 'cross');
  create domain percent as numeric check (value between 0 and 100);
  create type pair as (a int, b text);
  create table everything (
    id integer primary key, c_bool boolean, c_small smallint, c_big bigint, c_numeric numeric, c_real real, c_double double precision,
    c_text text, c_char char(5), c_varchar varchar(20), c_bytea bytea, c_date date, c_time time, c_timetz timetz, c_stamp timestamp,
    c_stamptz timestamptz, c_interval interval, c_uuid uuid, c_json json, c_jsonb jsonb, c_ints int[], c_texts text[][], c_inet inet,
    c_mac macaddr, c_bits bit varying(9), c_money money, c_point point, c_range tstzrange, c_mood mood, c_percent percent, c_pair pair,
    c_tsv tsvector, c_xml xml, "C odd ""name" text, c_identity bigint generated always as identity,
    c_made integer generated always as (id * 2) stored
  );
  create table config (key text primary key, value jsonb, secret text, updated_at timestamptz not null default now());
  create table named (id integer generated always as identity primary key, name text not null unique, n integer);
  create table uses (name text references named (name) on delete cascade);
  create table keyless (name text not null unique, n integer);
  create table keyless_uses (name text references keyless (name) on delete cascade);
  create table bare (n integer);`

const everything = `insert into everything values
  (1, true, -3, 9007199254740993, 12345678901234567890.12300, 'NaN', 0.1, E'a "quoted", (text)\\\\ with\\nlines', 'ab', '', '\\x00ff', '2025-02-28',
   '23:59:59.999999', '12:00:00+05:30', 'infinity', '2025-09-17T03:30:00.123456Z', '1 year -2 days 03:04:05.6', 'b5f1c1a0-0000-4000-8000-000000000001',
   '{"b": 1,  "a": [null]}', '{"a": null, "n": 1.10}', '{1,NULL,3}', '{{"a,b","NULL"},{"",null}}', '10.0.0.1/8', '08:00:2b:01:02:03', B'101', '12.34',
   '(1.5,-2)', '[2025-01-01,2025-02-01)', 'cross', 12.5, row(1, 'x,"y'), to_tsvector('simple', 'a quick fox'), '<a b="c">d</a>', 'odd'),
  (2, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, 'null', 'null', '{}', null, null, null,
   null, null, null, null, null, null, null, null, null, ''),
  (3, false, 0, 0, 'Infinity', '-0', 1e-300, '', '', ' ', '', 'infinity', '00:00', '00:00Z', '4000-01-01 BC', '-infinity', '0', null, '1', '"x"', null, '{}',
   '::1', null, B'', '0', null, 'empty', 'calm', 0, row(null, null), '', '', null)`

let target: TargetFixture
beforeAll(async () => {
  target = await freshTarget(schema)
})
afterAll(() => target.stop())
beforeEach(() =>
  target.admin.query(`truncate everything, config, named, uses, keyless, keyless_uses, bare; ${everything};
    insert into config (key, value, secret, updated_at) select k, to_jsonb('v1'::text), 's-' || k, '2025-01-01' from unnest('{a,b,c,d}'::text[]) k;
    insert into named (name, n) values ('one', 1), ('two', 2)`),
)

const config = { table: "config", key: ["key"], ignore: ["updated_at"] }
const set = (sql: string) => target.admin.query(sql)

async function textOf(table: string): Promise<string[]> {
  const { rows } = await target.admin.query<{ row: string }>(`select (t.*)::text as row from ${table} t order by 1`)
  return rows.map((row) => row.row)
}

async function rehearse(
  step: RestoreStep,
  kept: ReturnType<typeof snapshots>,
  others: PlanStep[] = [],
  redact: string[] = [],
) {
  const baseline = kept.context([step, ...others].map((each) => ({ step: each, values: {} })))
  const context = { ...(await contextOf({ pool: target.pools.get(target.url), redact })), baseline }
  return { context, rehearsed: await rehearseStep(step, context) }
}

/** Rehearses, lets `between` happen, and runs what was shown. */
async function restore(step: RestoreStep, kept: ReturnType<typeof snapshots>, between = "select 1") {
  const { context, rehearsed } = await rehearse(step, kept)
  await set(between)
  const result = await runStep(step, { ...context, rehearsed })
  return { context, rehearsed, result }
}

async function undo(rollbackId: string, of: RestoreStep) {
  const step: PlanStep = {
    ...restoreStepOf(of),
    kind: "undo",
    id: `undo-${of.id}`,
    ofRollback: rollbackId,
    ofStep: of.id,
  }
  const context = await contextOf({ pool: target.pools.get(target.url), rollbackId: randomUUID() })
  return undoStep.run(step, context)
}

describe("rows that go back", () => {
  const damage = `update everything set c_bool = not c_bool, c_numeric = 1, c_text = 'x', c_jsonb = '1', c_json = '{"b":1,"a":[null]}', c_bytea = '', c_pair = null,
      c_tsv = null, c_ints = '{9}', c_range = null, c_mood = null, c_double = 0.2, c_interval = '1 day' where id = 1;
    delete from everything where id = 2;
    update everything set c_real = 0.0 where id = 3;
    insert into everything (id, c_text) values (9, 'new')`

  it("are what was captured, byte for byte, for every type of column", async () => {
    const kept = snapshots(target, [{ table: "everything", key: ["id"], ignore: [] }])
    await kept.capture()
    const before = await textOf("everything")
    await set(damage)
    const { rehearsed, result } = await restore(restoreStepOf({ table: "everything" }), kept)
    expect(rehearsed).toMatchObject({ outcome: "looked", rows: 4 })
    expect(result).toMatchObject({ outcome: "succeeded", rows: 4, issues: [] })
    expect(await textOf("everything")).toEqual(before)
  })

  it("come again when it is undone, and go back once more when that is undone", async () => {
    const kept = snapshots(target, [{ table: "everything", key: ["id"], ignore: [] }])
    await kept.capture()
    const good = await textOf("everything")
    await set(damage)
    const damaged = await textOf("everything")
    const step = restoreStepOf({ table: "everything" })
    const { context } = await restore(step, kept)
    expect(await textOf("everything")).toEqual(good)
    expect(await undo(context.rollbackId, step)).toMatchObject({ outcome: "succeeded", rows: 4, issues: [] })
    expect(await textOf("everything")).toEqual(damaged)
  })

  it("are done once, however often the step runs", async () => {
    const kept = snapshots(target, [config])
    await kept.capture()
    await set("update config set value = '2' where key = 'a'")
    const step = restoreStepOf({ table: "config" })
    const { context, rehearsed, result } = await restore(step, kept)
    await set("update config set value = '3' where key = 'a'")
    expect(await runStep(step, { ...context, rehearsed })).toMatchObject({ outcome: "succeeded", rows: result.rows })
    expect(await textOf("config")).toContainEqual(expect.stringContaining("(a,3,"))
  })

  it("leave the columns that the plan ignores, and rows that differ in those alone", async () => {
    const kept = snapshots(target, [config])
    await kept.capture()
    await set(
      "update config set updated_at = '2025-05-05' where key in ('a', 'b'); update config set value = '2' where key = 'a'",
    )
    const { rehearsed, result } = await restore(restoreStepOf({ table: "config" }), kept)
    expect(rehearsed.changes).toMatchObject([{ row: "config.a", column: "value", before: "2", after: '"v1"' }])
    expect(result).toMatchObject({ rows: 1 })
    expect((await textOf("config")).slice(0, 2)).toEqual([
      '(a,"""v1""",s-a,"2025-05-05 00:00:00+00")',
      '(b,"""v1""",s-b,"2025-05-05 00:00:00+00")',
    ])
  })

  it("are found by a key beside the primary key", async () => {
    const kept = snapshots(target, [{ table: "named", key: ["name"], ignore: [] }])
    await kept.capture()
    await set(
      "delete from named where name = 'one'; insert into named (name, n) values ('one', 7), ('three', 3); update named set n = 8 where name = 'two'",
    )
    const damaged = await textOf("named")
    const step = restoreStepOf({ table: "named" })
    const { context, result } = await restore(step, kept)
    expect(result).toMatchObject({ outcome: "succeeded", rows: 3 })
    const { rows } = await target.admin.query("select name, n from named order by name")
    expect(rows).toEqual([
      { name: "one", n: 1 },
      { name: "two", n: 2 },
    ])
    await undo(context.rollbackId, step)
    expect(await textOf("named")).toEqual(damaged)
  })

  it("of a table without a primary key go by the baseline's, also where others refer to them", async () => {
    const kept = snapshots(target, [{ table: "keyless", key: ["name"], ignore: [] }])
    await set("insert into keyless values ('one', 1)")
    await kept.capture()
    await set("insert into keyless values ('two', 2)")
    const step = restoreStepOf({ table: "keyless", irreversible: "it has no key" })
    expect((await restore(step, kept)).result).toMatchObject({ outcome: "succeeded", rows: 1 })
    expect(await textOf("keyless")).toEqual(["(one,1)"])
    // A trigger is no reason to look for rows by a key that they do not have.
    await set(`create function still() returns trigger language plpgsql as $$ begin return new; end $$;
      create trigger still before update on keyless for each row execute function still(); update keyless set n = 7`)
    expect((await restore(step, kept)).result).toMatchObject({ outcome: "succeeded", rows: 1, issues: [] })
    expect(await textOf("keyless")).toEqual(["(one,1)"])
    await set("drop function still cascade")
  })

  it("do not take rows of other tables along", async () => {
    const kept = snapshots(target, [{ table: "named", key: ["name"], ignore: [] }])
    await kept.capture()
    await set("insert into named (name) values ('three'); insert into uses values ('three')")
    const step = restoreStepOf({ table: "named" })
    expect((await rehearse(step, kept)).rehearsed).toMatchObject({
      outcome: "unknown",
      note: expect.stringContaining("1 rows of uses refer"),
    })
    await set("delete from uses")
    const { result } = await restore(step, kept, "insert into uses values ('three')")
    expect(result).toMatchObject({ outcome: "failed", failure: { code: "children" } })
  })
})

describe("two-way", () => {
  it("takes back what was shown: a row that changed since is named and left, a new difference too", async () => {
    const kept = snapshots(target, [config])
    await kept.capture()
    await set(
      "update config set value = '2' where key in ('a', 'b'); insert into config (key, value) values ('e', '5')",
    )
    const { rehearsed, result } = await restore(
      restoreStepOf({ table: "config" }),
      kept,
      "update config set value = '3' where key = 'b'; update config set value = '4' where key = 'c'",
    )
    expect(rehearsed).toMatchObject({ rows: 3, changed: 3 })
    expect(rehearsed.changes.map(({ row }) => row)).toEqual(["config.a", "config.b", "config.e"])
    expect(result).toMatchObject({ outcome: "succeeded", rows: 2 })
    expect(result.issues).toEqual([
      expect.stringMatching(/^1 changed again since and left as they are: config\.b$/),
      expect.stringMatching(/^1 differ that were not shown, and are left: config\.c$/),
    ])
    const { rows } = await target.admin.query("select key, value from config order by key")
    expect(rows).toEqual([
      { key: "a", value: "v1" },
      { key: "b", value: 3 },
      { key: "c", value: 4 },
      { key: "d", value: "v1" },
    ])
  })

  it("asks for keys when there are more than can be shown", async () => {
    await set("insert into config (key, value) select 'k' || n, '1' from generate_series(1, 50) n")
    const kept = snapshots(target, [config])
    await kept.capture()
    await set("update config set value = '2'")
    const { rehearsed, context } = await rehearse(restoreStepOf({ table: "config" }), kept)
    expect(rehearsed).toMatchObject({ outcome: "unknown", note: expect.stringContaining("54 rows differ") })
    expect(await runStep(restoreStepOf({ table: "config" }), { ...context, rehearsed })).toMatchObject({
      failure: { code: "refused", message: expect.stringContaining("54 rows differ") },
    })
    const fifty = Array.from({ length: 50 }, (_, index) => `k${index + 1}`)
    const { rehearsed: shown, result } = await restore(restoreStepOf({ table: "config", keys: fifty }), kept)
    expect(shown.changes.map(({ row }) => row).toSorted()).toEqual(fifty.map((key) => `config.${key}`).toSorted())
    expect(result).toMatchObject({ rows: 50, issues: [] })
  })

  it("lists twenty rows however long they are, and fewer than fifty where another step lists some too", async () => {
    await set(
      "insert into config (key, value) select 'k' || n, to_jsonb(repeat('x', 300)) from generate_series(1, 30) n",
    )
    const kept = snapshots(target, [config])
    await kept.capture()
    await set(
      "update config set value = to_jsonb(repeat('y', 300)) where key in (select 'k' || generate_series(1, 20))",
    )
    const step = restoreStepOf({ table: "config" })
    expect((await rehearse(step, kept)).rehearsed).toMatchObject({ outcome: "looked", rows: 20 })
    await set("update config set value = '1' where key like 'k%'")
    expect((await rehearse(step, kept)).rehearsed).toMatchObject({ outcome: "looked", rows: 30 })
    const others: PlanStep[] = [{ ...step, id: "other", table: "elsewhere" }]
    expect((await rehearse(step, kept, others)).rehearsed).toMatchObject({ outcome: "unknown" })
  })

  it("asks for keys when what can be shown of them is too long", async () => {
    await set(
      "insert into config (key, value) select 'k' || n, to_jsonb(repeat('x', 70)) from generate_series(1, 45) n",
    )
    const kept = snapshots(target, [config])
    await kept.capture()
    await set("update config set value = to_jsonb(repeat('y', 70)) where key like 'k%'")
    const { rehearsed } = await rehearse(restoreStepOf({ table: "config" }), kept)
    expect(rehearsed).toMatchObject({ outcome: "unknown", note: expect.stringContaining("45 rows differ") })
  })

  it("shows and freezes nothing of a redacted column", async () => {
    const kept = snapshots(target, [config])
    await kept.capture()
    await set("update config set secret = 'hunter2' where key = 'a'; delete from config where key = 'b'")
    const { rehearsed } = await rehearse(restoreStepOf({ table: "config" }), kept, [], ["secret"])
    expect(rehearsed).toMatchObject({ rows: 2 })
    expect(JSON.stringify(rehearsed)).not.toMatch(/hunter2|s-a|s-b/)
  })
})

describe("three-way", () => {
  async function aligned() {
    const kept = snapshots(target, [config])
    await kept.capture()
    await set(
      "update config set value = '2' where key in ('a', 'b'); delete from config where key = 'c'; insert into config (key, value) values ('e', '5')",
    )
    await kept.capture("after")
    return kept
  }

  it("takes back what the bad version changed, and leaves what changed again or elsewhere", async () => {
    const kept = await aligned()
    await set("update config set value = '3' where key = 'b'; update config set value = '9' where key = 'd'")
    const { rehearsed, result } = await restore(restoreStepOf({ table: "config", after: "after" }), kept)
    expect(rehearsed).toMatchObject({ rows: 3, warnings: ["1 changed again since and left as they are: config.b"] })
    expect(result).toMatchObject({
      outcome: "succeeded",
      rows: 3,
      issues: rehearsed.warnings,
      affected: [
        { did: "restored", rows: 2 },
        { did: "removed", rows: 1 },
      ],
    })
    const { rows } = await target.admin.query("select key, value from config order by key")
    expect(rows).toEqual([
      { key: "a", value: "v1" },
      { key: "b", value: 3 },
      { key: "c", value: "v1" },
      { key: "d", value: 9 },
    ])
  })

  it("does not bring back what the baseline itself has of the bad version", async () => {
    const kept = await aligned()
    await set("update config set value = to_jsonb('v0'::text) where key = 'd'")
    const { result } = await restore(restoreStepOf({ table: "config", after: "after" }), kept)
    expect(result.issues).toEqual([])
    expect(await textOf("config")).toContainEqual(expect.stringContaining('(d,"""v0"""'))
  })

  it("leaves what changed between the card and the run", async () => {
    const kept = await aligned()
    const { result } = await restore(
      restoreStepOf({ table: "config", after: "after" }),
      kept,
      "update config set value = '7' where key = 'a'",
    )
    expect(result).toMatchObject({ outcome: "succeeded", rows: 3, issues: [expect.stringContaining("config.a")] })
  })
})

describe("what it leaves and refuses", () => {
  it("removes rows that refer to each other, and says what triggers made of others", async () => {
    await set(`create table nodes (id integer primary key, parent integer references nodes on delete cascade, v text);
      create function shouts() returns trigger language plpgsql as $$ begin new.v := upper(new.v); return new; end $$;
      insert into nodes values (1, null, 'a')`)
    const kept = snapshots(target, [{ table: "nodes", key: ["id"], ignore: [] }])
    await kept.capture()
    await set(`update nodes set v = 'q'; insert into nodes values (10, 1, 'b'), (11, 10, 'c');
      create trigger shouts before update on nodes for each row execute function shouts()`)
    const { result } = await restore(restoreStepOf({ table: "nodes" }), kept)
    expect(result).toMatchObject({ outcome: "succeeded", rows: 3 })
    expect(result.issues).toEqual(["1 row of nodes came back otherwise than in the baseline: by trigger shouts"])
    expect(await textOf("nodes")).toEqual(["(1,,A)"])
    // Somebody else's row would go along: refused, and no question that comes again.
    await set("drop trigger shouts on nodes; insert into nodes values (10, 1, 'b')")
    await set("create table fans (node integer references nodes on delete cascade); insert into fans values (10)")
    const { context, rehearsed } = await rehearse(restoreStepOf({ table: "nodes" }), kept)
    expect(rehearsed).toMatchObject({ outcome: "unknown", refused: true })
    expect(await runStep(restoreStepOf({ table: "nodes" }), { ...context, rehearsed })).toMatchObject({
      failure: {
        code: "refused",
        message: expect.stringContaining("rows of fans refer to rows that would be removed"),
      },
    })
    await set("drop table fans, nodes; drop function shouts")
  })

  it.each([
    [
      "an update, even where all is so already",
      `- { id: x, title: Set a, sql: "update config set value = '2' where key = 'a'", expect: { rows: 1 } }`,
    ],
    [
      "an insert",
      `- { id: x, title: Set a, sql: "insert into config (value, key) values ('2', 'a') on conflict (key) do nothing", expect: { rows: 0..1 } }`,
    ],
    ["a purge", `- { id: x, title: Set a, purge: { table: config, where: "key = 'a'", at_most: 5, max_share: 100% } }`],
  ])("a key of another step stays that step's: %s", async (_name, yaml) => {
    const kept = snapshots(target, [config])
    await kept.capture()
    await set("update config set value = '2' where key in ('a', 'b')")
    const step = restoreStepOf({ table: "config" })
    const { context, rehearsed } = await rehearse(step, kept, [await stepOf(yaml)])
    expect(rehearsed).toMatchObject({ rows: 1, warnings: ['config.a is left to "Set a"'] })
    const result = await runStep(step, { ...context, rehearsed })
    expect(result).toMatchObject({ rows: 1, issues: [] })
    expect(await textOf("config")).toContainEqual(expect.stringContaining("(a,2,"))
  })

  it("rows that a purge takes along stay that step's, and many are one line", async () => {
    await set(`create table quotes (id int primary key, engine text);
      create table lines (id int primary key, quote int references quotes, note text);
      insert into quotes select i, 'old' from generate_series(1, 40) i;
      insert into lines select i, i, 'then' from generate_series(1, 40) i`)
    const kept = snapshots(target, [{ table: "lines", key: ["id"], ignore: [] }])
    await kept.capture()
    await set("update quotes set engine = 'bad' where id <= 30; update lines set note = 'now' where id in (1, 40)")
    const purge = await stepOf(
      `- { id: x, title: Remove, purge: { table: quotes, where: "engine = 'bad'", cascade: [lines], at_most: 50, max_share: 100% } }`,
    )
    const step = restoreStepOf({ table: "lines" })
    const { context, rehearsed } = await rehearse(step, kept, [purge])
    expect(rehearsed).toMatchObject({ rows: 1, changes: [{ row: "lines.40" }] })
    expect(rehearsed.warnings).toEqual([
      expect.stringMatching(/^30 rows are left to "Remove": lines\.\d+, .* and 10 more$/),
    ])
    await set("delete from lines where id <= 30; delete from quotes where id <= 30")
    expect(await runStep(step, { ...context, rehearsed })).toMatchObject({ rows: 1, issues: [] })
    await set("drop table lines, quotes")
  })

  it("a key that another step writes in its own way stays that step's", async () => {
    await set(`create table odd (u uuid, at timestamptz, v text, primary key (u, at));
      insert into odd values ('b5f1c1a0-0000-4000-8000-000000000001', '2025-09-17T03:30:00Z', 'then')`)
    const kept = snapshots(target, [{ table: "odd", key: ["u", "at"], ignore: [] }])
    await kept.capture()
    await set("delete from odd")
    const other = await stepOf(
      `- { id: x, title: Set it, sql: "insert into odd values ('B5F1C1A0-0000-4000-8000-000000000001', '2025-09-17T05:30:00+02:00', 'new')", expect: { rows: 1 } }`,
    )
    const { rehearsed } = await rehearse(restoreStepOf({ table: "odd" }), kept, [other])
    expect(rehearsed).toMatchObject({ rows: 0, warnings: [expect.stringContaining('is left to "Set it"') as string] })
    await set("drop table odd")
  })

  it("rows of a step that are known only when it runs make the whole unknown", async () => {
    const kept = snapshots(target, [config])
    await kept.capture()
    const other = await stepOf(
      `- { id: x, title: Set one, sql: "update config set value = '2' where key = $1", params: [word], expect: { rows: 1 } }`,
    )
    expect((await rehearse(restoreStepOf({ table: "config" }), kept, [other])).rehearsed).toMatchObject({
      outcome: "unknown",
      note: expect.stringContaining("Set one"),
    })
  })

  it("a snapshot that is gone, forged or of another shape is refused", async () => {
    const kept = snapshots(target, [config])
    const step = restoreStepOf({ table: "config" })
    expect((await rehearse(step, kept)).rehearsed).toMatchObject({
      outcome: "unknown",
      note: expect.stringContaining("no baseline yet"),
    })
    const one = await kept.capture()
    await set("update config set value = '2' where key = 'a'")
    const { context, rehearsed } = await rehearse(step, kept)
    one.content = one.content.replace("v1", "v9")
    expect(await runStep(step, { ...context, rehearsed })).toMatchObject({
      failure: { message: expect.stringContaining("its hash differs") },
    })
    kept.kept.length = 0
    expect(await runStep(step, { ...context, rehearsed })).toMatchObject({ failure: { code: "baseline_gone" } })
    const fresh = snapshots(target, [config])
    await fresh.capture()
    await set("alter table config add column extra text")
    const moved = await rehearse(step, fresh)
    await set("alter table config drop column extra")
    expect(moved.rehearsed).toMatchObject({ outcome: "unknown", note: expect.stringContaining("column extra is new") })
  })

  it("new rows without a key are shown, and do not go back unless others are named", async () => {
    await set("create table loose (id integer generated always as identity primary key, code text unique, n integer)")
    await set("insert into loose (code, n) values ('a', 1)")
    const rule = { table: "loose", key: ["code"], ignore: [] }
    const kept = snapshots(target, [rule])
    const captured = await kept.capture()
    await set("update loose set n = 2; insert into loose (code, n) values (null, 7), (null, 8)")
    const rules = { file: null, maxAgeMs: null, tables: [rule] }
    const comparing = { kept: captured, rules, redact: [], secrets: createSecrets({}) }
    const [difference] = await compareBaseline(target.pools.get(target.url), comparing)
    expect(difference?.changes.map(({ row }) => row)).toEqual(["loose.a", "loose.(null)", "loose.(null)"])
    const { rehearsed } = await rehearse(restoreStepOf({ table: "loose" }), kept)
    expect(rehearsed).toMatchObject({
      outcome: "unknown",
      note: expect.stringContaining("2 rows of loose have no code"),
    })
    expect((await restore(restoreStepOf({ table: "loose", keys: ["a"] }), kept)).result).toMatchObject({ rows: 1 })
    await set("drop table loose")
  })

  it("a table whose rows cannot be told apart is not captured", async () => {
    await set("insert into bare values (1), (1)")
    await expect(snapshots(target, [{ table: "bare", key: ["n"], ignore: [] }]).capture()).rejects.toThrow(
      "n is no key of bare",
    )
    await expect(snapshots(target, [{ table: "nowhere", key: ["n"], ignore: [] }]).capture()).rejects.toThrow(
      "there is no table nowhere",
    )
  })
})
