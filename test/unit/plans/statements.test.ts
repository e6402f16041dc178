import { describe, expect, test } from "vitest"
import { describeCondition, describeStatement } from "../../../src/plans/statements.ts"
import { pasteable } from "../../../src/plans/step-view.ts"
import { bindUsed } from "../../../src/steps/sql-text.ts"

async function facts(sql: string, use: "sql" | "check" = "sql") {
  const described = await describeStatement(sql, use)
  if ("error" in described) throw new Error(described.error)
  return described.facts
}

async function error(sql: string, use: "sql" | "check" = "sql") {
  const described = await describeStatement(sql, use)
  return "error" in described ? described.error : "no error"
}

describe("facts", () => {
  test("of an UPDATE", async () => {
    const sql =
      "update scoring_config set value = '\"v1.2.0\"'::jsonb, updated_at = now() where key = 'results_version'"
    expect(await facts(sql)).toMatchObject({
      verb: "update",
      table: { schema: null, name: "scoring_config", alias: "scoring_config" },
      matching: "from scoring_config where key = 'results_version'",
      set: [
        { column: "value", expression: "'\"v1.2.0\"'::jsonb", volatile: false },
        { column: "updated_at", expression: "now()", volatile: true },
      ],
      reversible: true,
      parameters: 0,
    })
  })

  test("of an UPDATE with schema, alias, WITH, FROM and several ways to set", async () => {
    const sql = `with n as (select 1 as a) update only "S"."T t" as x set a[1] = 2, "b B" = default, (c, d) = ($1, random()),
      (e, f) = (select 1, 2) from n, o where x."Odd" #>> '{}' = any ($2::text[])`
    expect(await facts(sql)).toMatchObject({
      table: { schema: "S", name: "T t", alias: "x" },
      with: "WITH n AS (SELECT 1 AS a)",
      matching: `from ONLY "S"."T t" AS x, n, o where x."Odd" #>> '{}' = any ($2::text[])`,
      set: [
        { column: "a", expression: null },
        { column: "b B", expression: null },
        { column: "c", expression: "$1", volatile: false },
        { column: "d", expression: "random()", volatile: true },
        { column: "e", expression: null },
        { column: "f", expression: null },
      ],
      parameters: 2,
      reversible: true,
    })
  })

  test("of a DELETE with USING and a sub-select", async () => {
    const sql = "delete from a.t using b where t.id = b.id and t.data @> $1::jsonb and b.n > (select avg(n) from b)"
    expect(await facts(sql)).toMatchObject({
      verb: "delete",
      table: { schema: "a", name: "t", alias: "t" },
      matching: "from a.t, b where t.id = b.id and t.data @> $1::jsonb and b.n > (select avg(n) from b)",
    })
  })

  test.each([
    ["a not in (1, 2) and b = all (array[1, 2])"],
    ["a between symmetric 1 and 2 and b at time zone 'utc' > now()"],
    ["json_value(a, '$.b') = 'x'"],
    ["exists (select 1 from u where u.id = t.id)"],
    ["a = ' where b' and c = 1"],
  ])("keep a condition as it was written: %s", async (condition) => {
    expect((await facts(`update t set a = 1 where ${condition} ; `)).matching).toBe(`from t where ${condition}`)
  })

  test("never end in a comment", async () => {
    expect((await facts("delete from t where a = 1 -- the last\n")).matching).toBe("from t where a = 1")
  })

  test.each([
    ["insert into t (a, b) values ($1, 'x')", "VALUES ($1, 'x')", ["a", "b"], null],
    [
      "insert into t select a from u where b = $1 on conflict do nothing",
      "SELECT a FROM u WHERE b = $1",
      [],
      "nothing",
    ],
    ["insert into t default values", null, [], null],
    ["insert into t (a) values (default)", null, ["a"], null],
  ])("%s", async (sql, source, insertColumns, onConflict) => {
    expect(await facts(sql)).toMatchObject({ verb: "insert", source, insertColumns, onConflict, reversible: true })
  })

  test.each([
    ["insert into t (a) values (1) on conflict (a) do update set a = 2"],
    ["with gone as (delete from u where a = 1 returning a) update t set a = 1 from gone where t.a = gone.a"],
    ["update t set a = 1 where b = 2 returning a"],
    ["update t set a = 1 where setval('s', 1) = b"],
  ])("not reversible: %s", async (sql) => expect((await facts(sql)).reversible).toBe(false))

  test.each([
    ["current_timestamp"],
    ["clock_timestamp()"],
    ["gen_random_uuid()"],
    ["nextval('s')"],
    ["'now'::timestamptz"],
  ])("volatile: %s", async (expression) =>
    expect((await facts(`update t set a = ${expression} where b = 1`)).set[0]?.volatile).toBe(true),
  )
})

describe("refusals", () => {
  test.each([
    ["update t set a = 1", "UPDATE without WHERE"],
    ["with g as (delete from t returning id) update u set a = 1 where id = 2", "DELETE without WHERE"],
    ["with g as (update t set a = 1 where true returning id) insert into u select id from g", "holds for every row"],
    [
      "with g as (merge into t using u on true when matched then delete returning 1) delete from u where id = 1",
      "MERGE",
    ],
    ["delete from t where id = 1; -- done", "follows its semicolon"],
    ["delete from t where true", "holds for every row"],
    ["delete from t where 1 = 1", "holds for every row"],
    ["delete from t where a = 1 or true", "holds for every row"],
    ["delete from t where a = a", "holds for every row"],
    ["delete from t where current of c", "needs a cursor"],
    ["delete from t where a = 1; delete from u where a = 1", "2 statements"],
    ["truncate t", "found TRUNCATE"],
    ["vacuum t", "found VACUUM"],
    ["create index concurrently i on t (a)", "runs in a transaction"],
    ["copy t from stdin", "found COPY"],
    ["begin", "found TRANSACTION"],
    ["call p()", "found CALL"],
    ["do $$ begin end $$", "found DO"],
    ["merge into t using u on t.a = u.a when matched then delete", "found MERGE"],
    ["select 1", 'make it a "check" step'],
    ["update pg_class set relname = 'x' where oid = 1", "belongs to Postgres itself"],
    ["update stepback_ledger.fence set epoch = 9 where epoch > 0", "what Stepback keeps for itself"],
    [
      "with g as (delete from stepback_ledger.entries where batch = 1 returning batch) update t set a = 1 from g where t.b = g.batch",
      "what Stepback keeps for itself",
    ],
    ["delete from t where pg_terminate_backend(a)", "pg_terminate_backend()"],
    ["-- nothing", "no statement"],
    ["", "empty"],
  ])("sql: %s", async (sql, message) => expect(await error(sql)).toContain(message))

  test.each([
    ["update t set a = 1 where b = 2", "found UPDATE"],
    ["with gone as (delete from t where a = 1 returning a) select a from gone", "found DELETE in a WITH"],
    ["select 1 into x", "SELECT INTO"],
    ["select a from t for update", "FOR UPDATE"],
    ["select a from (select a from t for share) s", "FOR UPDATE"],
    ["select nextval('s')", "nextval()"],
    ["select pg_catalog.set_config('a', 'b', false)", "set_config()"],
    ["select dblink_exec('x', 'y')", "dblink_exec()"],
    ["select lo_import('/etc/passwd')", "lo_import()"],
    ["select pg_read_file('x')", "pg_read_file()"],
    ["select pg_advisory_lock(1)", "pg_advisory_lock()"],
    ["select * from pg_logical_slot_get_changes('s', null, null)", "pg_logical_slot_get_changes()"],
    ["explain analyze delete from t", "found DELETE"],
    ["show all", "found VARIABLE SHOW"],
  ])("check: %s", async (sql, message) => expect(await error(sql, "check")).toContain(message))

  test.each([
    ["values (1)"],
    ["table t"],
    ["with x as (select 1) select * from x;"],
    ["select 1 union select 2"],
    ["select pg_sleep(0)"],
  ])("none for check: %s", async (sql) => expect(await error(sql, "check")).toBe("no error"))

  test("with the character at which the grammar gave up", async () => {
    expect(await describeStatement("select 'ä' frm x where", "check")).toMatchObject({ position: 15 })
    const deep = `select ${"(".repeat(20_000)}`
    expect(await describeStatement(deep, "check")).toHaveProperty("error")
    expect(await error("select 1", "check")).toBe("no error")
  })
})

test("a condition is read inside the DELETE that it stands for", async () => {
  expect(await describeCondition("public.quotes", "engine = $1 and at > $2")).toMatchObject({
    facts: { parameters: 2, matching: "from public.quotes where engine = $1 and at > $2" },
  })
  expect(await describeCondition("quotes", "a = 1 frob 2")).toMatchObject({ position: 6 })
  expect(await describeCondition("quotes", "a = 1 returning a")).toHaveProperty("error")
  expect(await describeCondition("quotes", "a = 1;")).toHaveProperty("error")
  expect(await describeCondition("quotes", "a = 1 -- the first")).not.toHaveProperty("error")
  expect(await describeCondition("quotes", "true")).toHaveProperty("error")
  // Evaluated batch by batch, it would mean something else each time.
  const own = "id in (select max(id) from public.quotes group by k)"
  expect(await describeCondition("quotes", own)).toMatchObject({ reads: ["quotes"] })
  const child = "not exists (select from lines l where l.quote_id = quotes.id)"
  expect(await describeCondition("quotes", child)).toMatchObject({ reads: [] })
  expect(await describeCondition("quotes", child, ["shop.lines"])).toMatchObject({ reads: ["shop.lines"] })
})

describe("parameters in a text", () => {
  test.each([
    [
      "a > $2 -- don't\n and b = $1 and c = 'x'",
      "a > $1 -- don't\n and b = $2 and c = 'x'",
      "a > 'two' -- don't\n and b = 'one' and c = 'x';",
    ],
    ["/* it's /* nested */ $1 */ a = $2", "/* it's /* nested */ $1 */ a = $1", "/* it's /* nested */ $1 */ a = 'two';"],
    ["a = $$it's $1$$ and b = $2", "a = $$it's $1$$ and b = $1", "a = $$it's $1$$ and b = 'two';"],
    ["a = $x$ $$ ' $x$ and b = $2", "a = $x$ $$ ' $x$ and b = $1", "a = $x$ $$ ' $x$ and b = 'two';"],
    [String.raw`a = E'\' $1' and b = $2`, String.raw`a = E'\' $1' and b = $1`, String.raw`a = E'\' $1' and b = 'two';`],
    [
      `"it's" = '/*' and "$1" = 'a''$1' and b$1 = $2`,
      `"it's" = '/*' and "$1" = 'a''$1' and b$1 = $1`,
      `"it's" = '/*' and "$1" = 'a''$1' and b$1 = 'two';`,
    ],
  ])("%s", (text, bound, pasted) => {
    expect(bindUsed(text, ["one", "two"]).text).toBe(bound)
    expect(pasteable(text, ["a", "b"], { a: "one", b: "two" })).toBe(pasted)
  })

  test("keep the values that they had", () => {
    const text = "created_at > $2 -- don't\n and version = $1 and kind = 'x'"
    expect(bindUsed(text, ["v1", "today"]).values).toEqual(["today", "v1"])
  })
})
