import type { Socket } from "node:net"
import pg from "pg"
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest"
import type { PlanStep } from "../../src/plans/plan.ts"
import { rehearseStep, runStep } from "../../src/steps/definitions.ts"
import { findTable } from "../../src/steps/catalog.ts"
import { hideCaptured } from "../../src/steps/hidden-captures.ts"
import { findEntry, raiseFence } from "../../src/steps/ledger.ts"
import { contextOf, freshTarget, stepOf, stepsOf, type TargetFixture } from "./steps-fixture.ts"

let target: TargetFixture

beforeAll(async () => {
  target = await freshTarget(`
    create table days (id integer primary key) partition by range (id);
    create table days_1 partition of days for values from (0) to (100);
    create table notes (id integer primary key, day_id integer references days on delete cascade);
    create table people (id integer primary key, email text unique, n integer);
    create table sums (id integer primary key, t bigint, secret text);
    insert into sums select g, 9007199254740993, 'hush' from generate_series(1, 11) g;
    create type contact as (email text, phone text);
    create table boxes (id integer primary key, c contact);
    insert into boxes values (1, row('ann@example.org', '1'));
    insert into people values (1, 'ann@example.org', 1), (2, 'bob@example.org', 2)`)
})
afterAll(() => target.stop())

const context = (facts: Parameters<typeof contextOf>[0] = {}) =>
  contextOf({ pool: target.pools.get(target.url), ...facts })

describe("a check", () => {
  const query =
    "select 9223372036854775807::bigint as big, 1.50 as price, timestamptz '2026-11-22 20:46:34.209303+00' as at"

  it("captures no null: a later statement would be bound to the word", async () => {
    const step = await stepOf(`- { id: a, check: "select null::text as gone", capture: { seen: gone } }`)
    const result = await runStep(step, await context())
    expect(result).toMatchObject({ outcome: "failed", captures: {} })
    expect(result.failure?.message).toBe("gone is null: there is nothing to capture")
  })

  it("captures what Postgres says, to the last digit, and compares numbers and moments by meaning", async () => {
    const step = await stepOf(
      `- { id: a, check: "${query}", capture: { big: big, at: at }, expect: { rows: 1, values: { price: 1.5, at: "2026-11-22T20:46:34.209303Z" } } }`,
    )
    expect(await runStep(step, await context())).toMatchObject({
      outcome: "succeeded",
      captures: { big: "9223372036854775807", at: "2026-11-22 20:46:34.209303+00" },
    })
  })

  it.each([
    [`'{"n": 9007199254740993, "d": [1.5]}'::jsonb`, "jsonb"],
    ["'9007199254740993'::json", "json"],
    ["'\\x00deadbeef'::bytea", "bytea"],
    ["array[12345678901234567890.123, null]", "numeric[]"],
    ["array['a', null, 'b, c']", "text[]"],
    ["array[timestamptz '2026-11-22 20:46:34.209303+00']", "timestamptz[]"],
    ["point(1.5, -2)", "point"],
  ])("captures %s so that a later statement has the same", async (value, type) => {
    const [first, second] = await stepsOf(
      [
        `- { id: a, check: ${JSON.stringify(`select ${value} as v`)}, capture: { v: v }, expect: { rows: 1 } }`,
        `- { id: b, check: ${JSON.stringify(`select ${value} as v, ($1::${type})::text = (${value})::text as same`)}, params: [v], expect: { values: { v: $v, same: true } } }`,
      ].join("\n"),
    )
    const { captures } = await runStep(first as PlanStep, await context())
    expect(await runStep(second as PlanStep, await context({ values: captures }))).toMatchObject({
      outcome: "succeeded",
    })
  })

  it("compares lists and documents by what they mean, and shows them as they are", async () => {
    const step = await stepOf(
      `- { id: a, check: "select array[1, 2] as list, '{\\"b\\": [1, null], \\"a\\": 1.50}'::jsonb as document", expect: { rows: 1, values: { list: [1, 2], document: { a: 1.5, b: [1, null] } } } }`,
    )
    expect(await runStep(step, await context())).toMatchObject({
      outcome: "succeeded",
      evidence: ['1 row: list = {1,2}, document = {"a":1.5,"b":[1,null]}'],
    })
  })

  it.each([
    ["null::text as v", "/./", "v is null, expected to match /./"],
    ["null::text as v", "/^(?!v1.2.1)/", "v is null, expected to match /^(?!v1.2.1)/"],
    ["null::text as v", '"null"', 'v is null, expected the word "null"'],
    ["'null'::text as v", "null", 'v is the word "null", expected null'],
    ["array[null]::text[] as v", '["null"]', 'v is [null], expected ["null"]'],
    ["1 as other", "1", "the query has no column v"],
  ])("takes %s for nothing that is like %s", async (columns, expected, message) => {
    const step = await stepOf(`- { id: a, check: "select ${columns}", expect: { values: { v: ${expected} } } }`)
    expect((await runStep(step, await context())).failure?.message).toBe(message)
  })

  it.each([
    ["7.30::numeric(10,2)", "share", "7.3", true],
    ["1000", "share", "1e3", true],
    ["5.00", "many", "5", true],
    ["9007199254740993::bigint", "many", "9007199254740992", false],
    ["null::integer", "many", "0", false],
    ["'7.30'", "word", "7.3", false],
  ])("compares %s with the parameter $%s of %s by its type", async (value, name, given, holds) => {
    const step = await stepOf(`- { id: a, check: "select ${value} as v", expect: { values: { v: $${name} } } }`)
    const result = await runStep(step, await context({ values: { [name]: given } }))
    expect(result.outcome).toBe(holds ? "succeeded" : "failed")
  })

  it("looks for values in its regular expressions", async () => {
    const step = await stepOf(
      `- { id: a, check: "select 'v1.0 is here' as v", expect: { values: { v: /^v$word is/ }, matches: /$word is here$/ } }`,
    )
    expect(await runStep(step, await context({ values: { word: "1.0" } }))).toMatchObject({ outcome: "succeeded" })
    expect((await runStep(step, await context({ values: { word: "1x0" } }))).failure?.message).toBe(
      "v is v1.0 is here, expected to match /^v$word is/; no row matches /$word is here$/",
    )
  })

  it.each(["null::text as v", "null::text as v, null::integer as n"])(
    "matches no row where there is nothing: %s",
    async (columns) => {
      const step = await stepOf(`- { id: a, check: "select ${columns}", expect: { matches: /\\w/ } }`)
      expect((await runStep(step, await context())).failure?.message).toBe("no row matches /\\w/")
    },
  )

  it.each([
    ["looks for what a card is to say too", {}, 2],
    ["asks once for a watch, which says nothing of it", { patient: true as const }, 1],
  ])("%s", async (_, given, times) => {
    const asked = await context(given)
    const connect = vi.spyOn(asked.target.pool as pg.Pool, "connect")
    const step = await stepOf(
      '- { id: a, check: "select 1 as n where now() > $1", params: [word], expect: { rows: 1 } }',
    )
    const seen = await rehearseStep(step, { ...asked, values: { word: "2020-01-01" } })
    expect(seen).toMatchObject({ holds: true })
    expect(connect).toHaveBeenCalledTimes(times)
    connect.mockRestore()
  })

  it("has no columns but those of its query", async () => {
    const step = await stepOf(
      '- { id: a, check: "select 1 as one", capture: { seen: constructor }, expect: { values: { constructor: 1 } } }',
    )
    expect((await runStep(step, await context())).failure?.message).toBe(
      "the query has no column constructor; there is no constructor to capture",
    )
  })

  it.each([
    ["array[1, 9223372036854775807]::bigint[]", '[1, "9223372036854775807"]'],
    ["array[timestamptz '2026-11-22 20:46:34.209303+00']", "[2026-11-22T20:46:34.209303Z]"],
    ["array[date '2026-10-01', null]", "[2026-10-01, null]"],
    ["array[[1.50, 2]]::numeric[]", "[[1.5, 2]]"],
  ])("compares the items of %s as it compares columns", async (value, expected) => {
    const check = JSON.stringify(`select ${value} as v`)
    const step = await stepOf(`- { id: a, check: ${check}, expect: { values: { v: ${expected} } } }`)
    expect(await runStep(step, await context())).toMatchObject({ outcome: "succeeded", failure: null })
    const other = await stepOf(`- { id: a, check: ${check}, expect: { values: { v: [1, 3] } } }`)
    expect(await runStep(other, await context())).toMatchObject({ outcome: "failed" })
  })

  it("counts every row and reads the first ones only", async () => {
    const rows = "select n, repeat('x', 1000) as pad from generate_series($1::int, 20000) n"
    const step = await stepOf(
      `- { id: a, check: "${rows}", params: [word], capture: { first: n }, expect: { rows: 20000, matches: /^1000 x/ } }`,
    )
    const pool = new pg.Pool({ connectionString: target.url, max: 1 })
    try {
      const asked = await contextOf({ pool, values: { word: "1" } })
      expect(await runStep(step, asked)).toMatchObject({ outcome: "succeeded", rows: 20_000, captures: { first: "1" } })
      const client = await pool.connect()
      const { stream } = (client as unknown as { connection: { stream: Socket } }).connection
      client.release()
      expect(stream.bytesRead).toBeLessThan(2_000_000)
    } finally {
      await pool.end()
    }
  })

  it("tells the place of an error in its own statement", async () => {
    const step = await stepOf(`- { id: a, check: "select nothing from people where id = 1", expect: { rows: 1 } }`)
    expect(await runStep(step, await context())).toMatchObject({ failure: { code: "42703", position: 8 } })
  })

  it("holds the rows against those of its rehearsal", async () => {
    const step = await stepOf(
      `- { id: a, check: "select id from people where n < 10", expect: { rows: rehearsed, tolerance: 0% } }`,
    )
    const facts = await context()
    const rehearsal = await rehearseStep(step, facts)
    expect(await runStep(step, { ...facts, rehearsed: rehearsal })).toMatchObject({ outcome: "succeeded", rows: 2 })
    expect(await runStep(step, { ...facts, rehearsed: { ...rehearsal, rows: 3 } })).toMatchObject({
      failure: { code: "expectation" },
    })
    expect(await runStep(step, facts)).toMatchObject({ outcome: "failed", failure: { code: "not_rehearsed" } })
  })
})

describe("a check's redacted column", () => {
  // [what is asked, what of it is shown all the same]
  it.each([
    ["select email, n from people where id = 1", "n = 1"],
    ["select n, email as who from people where id = 1", "n = 1"],
    ["select p.email as who, n from people as p where id = 1", "n = 1"],
    ["select n, lower(email) as low from people where id = 1", "n = 1"],
    ["select n, (select max(email) from people) as most from people where id = 1", "n = 1"],
    ["select n, to_jsonb(p) as all from people p where id = 1", "n = 1"],
    ["select n, row_to_json(p.*) as all from people p where id = 1", "n = 1"],
    ["select * from people where id = 1", "n = 1"],
    ["select * from (select n, email as who from people where id = 1) q", ""],
    ["with q as (select email as who from people where id = 1) select who from q", ""],
    ["with q (who) as (select email from people where id = 1) select who from q", ""],
    ["with q (a, b, c) as (select * from people where id = 1) select b from q", ""],
    ["select b from people as p (a, b, c) where a = 1", ""],
    ["select n::text as word from people where n > 5 union select email from people where id = 1", ""],
    ["select value from people p, jsonb_each_text(to_jsonb(p)) where id = 1 and key = 'email'", ""],
    ["select upper(email) from people where id = 1", ""],
    ["select people from people where id = 1", ""],
    ["values ((select email from people where id = 1))", ""],
    ["select x from people p, lateral (values (p.email)) v(x) where p.id = 1", ""],
    ["with q as (values ((select email from people where id = 1))) select column1 as x from q", ""],
    ["select b from (people p join boxes x on p.id = x.id) as j(a, b)", ""],
    ["select to_jsonb(j) as all from people p join people q using (email) as j where p.id = 1", ""],
    ["select p.to_jsonb from people p where id = 1", ""],
    ["select (b.c).email as x from boxes b", ""],
    [
      "select x.v from people p, xmltable('//e' passing xmlelement(name e, email) columns v text path '.') x limit 1",
      "",
    ],
    ["select x.v from people p, json_table(to_jsonb(p), '$' columns (v text path '$.email')) x where id = 1", ""],
    ["select exists (select * from people where email is null) as gone", "gone = false"],
    ["select sum(s) as total from generate_series(1, 3) as s", "total = 6"],
    ["select n, count(*) as m from people group by n order by max(email) limit 1", "n = 1, m = 1"],
    ["select count(email) as n from people where email like '%.org'", "n = 2"],
    ["select n from people where email in (select email as other from people) and id = 1", "n = 1"],
  ])("is not shown by %s", async (query, shown) => {
    const step = await stepOf(`- { id: a, check: ${JSON.stringify(query)}, expect: { rows: 1 } }`)
    for (const act of [rehearseStep, runStep] as const) {
      const told = JSON.stringify(await act(step, await context({ redact: ["email"] })))
      expect(told).not.toMatch(/ann@|bob@/i)
      expect(told).toContain(shown)
    }
  })

  it("is a secret for later steps when it was captured, as for whoever takes the run over", async () => {
    const step = await stepOf(
      `- { id: a, check: "select email as who, n from people where id = 1", capture: { who: who, n: n }, expect: { rows: 1 } }`,
    )
    const facts = await context({ redact: ["email"] })
    const { captures } = await runStep(step, facts)
    expect(facts.secrets.redact(`got ${captures["who"]}, ${captures["n"]}`)).toBe("got •••, 1")
    const later = await context({ redact: ["email"] })
    await hideCaptured([step], captures, later)
    expect(later.secrets.redact(`got ${captures["who"]}`)).toBe("got •••")
  })

  it.each(["who", "low"])("is not shown by a complaint about %s", async (name) => {
    const query = "select email as who, lower(email) as low from people where id = 1"
    const step = await stepOf(`- { id: a, check: "${query}", expect: { values: { ${name}: x } } }`)
    const told = await runStep(step, await context({ redact: ["email"] }))
    expect(told.failure?.message).toBe(`${name} is not as expected`)
    expect((await runStep(step, await context())).failure?.message).toContain("ann@example.org")
  })
})

describe("what a statement would change", () => {
  const shown = async (sql: string, rows: number) =>
    rehearseStep(
      await stepOf(`- { id: a, sql: "${sql}", expect: { rows: ${rows} } }`),
      await context({ redact: ["secret"] }),
    )

  it("is shown to the last digit", async () => {
    const { changes, changed } = await shown("update sums set t = 9007199254740992 where id = 1", 1)
    expect(changed).toBe(1)
    expect(changes).toMatchObject([{ column: "t", before: "9007199254740993", after: "9007199254740992" }])
  })

  it("is shown and kept of as many columns as a statement sets", async () => {
    const names = Array.from({ length: 120 }, (_each, n) => `c${n}`)
    await target.admin.query(
      `create table wide (id integer primary key, ${names.map((name) => `${name} text`).join(", ")}); insert into wide (id) values (1)`,
    )
    const sql = `update wide set ${names.map((name) => `${name} = 'x'`).join(", ")} where id = 1`
    const { changes, changed } = await shown(sql, 1)
    expect(changed).toBe(1)
    expect(changes).toHaveLength(120)
    expect(changes).toContainEqual({ row: "wide.1", column: "c119", before: "null", after: '"x"', afterKnown: true })
    const step = await stepOf(`- { id: a, sql: "${sql}", expect: { rows: 1 } }`)
    expect(await runStep(step, await context())).toMatchObject({ outcome: "succeeded", changed: 1, changes })
  })

  it("is a change whatever the column's collation takes for equal, and between columns of two collations", async () => {
    await target.admin
      .query(`create collation no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
      create table names (id integer primary key, a text collate no_case, b text collate "C");
      insert into names values (1, 'abc', 'abc'), (2, 'ABC', 'ABC')`)
    const sql = "update names set a = upper(a), b = a where id > 0"
    expect(await shown(sql, 2)).toMatchObject({ outcome: "looked", rows: 2, changed: 1 })
    const step = await stepOf(`- { id: a, sql: "${sql}", expect: { rows: 2 } }`)
    expect(await runStep(step, await context())).toMatchObject({
      outcome: "succeeded",
      rows: 2,
      changed: 1,
      affected: [{ table: "names", did: "changed", rows: 1 }],
    })
  })

  it("names a few rows that would go, without what is not shown; of many the number", async () => {
    const few = await shown("delete from sums where id = 1", 1)
    expect(few.changes).toEqual([
      { row: "sums.1", column: "", before: '{"t": 9007199254740993, "id": 1}', after: null, afterKnown: true },
    ])
    expect(await shown("delete from sums where id > 0", 11)).toMatchObject({ rows: 11, changes: [] })
  })

  it("of an INSERT that may meet a row is not called an insert", async () => {
    const yaml = `- { id: a, sql: "insert into sums values (1, 1, 'x') on conflict (id) do update set t = sums.t", expect: { rows: 1 }, irreversible: a test }`
    const result = await runStep(await stepOf(yaml), await context())
    expect(result).toMatchObject({ affected: [{ table: "sums", did: "changed", rows: 1 }] })
    expect(result.evidence).toEqual(["1 row of sums inserted or changed"])
  })
})

describe("a database error", () => {
  it.each([
    ["23505", "update people set email = 'ann@example.org' where id = 2"],
    ["22P02", "update people set n = email::integer where id = 2"],
  ])("%s shows no value when columns are redacted", async (code, sql) => {
    const step = await stepOf(`- { id: a, sql: "${sql}", expect: { rows: 1 } }`)
    const { failure } = await runStep(step, await context({ redact: ["email"] }))
    expect(failure).toMatchObject({ code, detail: null })
    expect(failure?.message).not.toContain("example.org")
  })
})

describe("the catalog", () => {
  it.each(["days", "days_1"])("knows who refers to %s, once", async (name) => {
    const client = await target.admin.connect()
    const table = await findTable(client, null, name)
    client.release()
    expect(table?.children.map((child) => child.table)).toEqual(["notes"])
  })
})

describe("a fence that somebody holds", () => {
  it("leaves the outcome unknown to who asks, and is waited for until Stop", async () => {
    const { key } = await context()
    const pool = target.pools.get(target.url)
    const holder = await target.admin.connect()
    await holder.query("begin")
    await holder.query("select 1 from stepback_ledger.fence where rollback_id = $1 for update", [key.rollbackId])
    const stop = new AbortController()
    const raising = raiseFence(pool, { ...key, epoch: 2 }, stop.signal)
    const stopped = raiseFence(pool, { ...key, epoch: 2 }, AbortSignal.abort())
    await Promise.all([
      expect(findEntry(pool, key, "a")).rejects.toMatchObject({ code: "08007" }),
      expect(stopped).rejects.toMatchObject({ code: "55P03" }),
    ])
    await holder.query("rollback")
    holder.release()
    await raising
  })
})
