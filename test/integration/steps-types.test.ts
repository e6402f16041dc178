import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { runStep } from "../../src/steps/definitions.ts"
import { prologue } from "../../src/steps/target.ts"
import { contextOf, freshTarget, stepOf, type TargetFixture } from "./steps-fixture.ts"

/** Column -> type and values that are easily spoiled on their way through text. */
const columns: Record<string, [type: string, ...values: string[]]> = {
  c_smallint: ["smallint", "-32768", "0"],
  c_bigint: ["bigint", "9223372036854775807", "-9223372036854775808"],
  c_numeric: ["numeric", "1.50", "'NaN'", "-0.00000000000000000001", "'Infinity'"],
  c_real: ["real", "0.1", "'-Infinity'", "16777217"],
  c_double: ["double precision", "0.1 + 0.2", "'-0'", "5e-324"],
  c_text: ["text", "''", "e'quote\" comma, (paren) back\\\\slash \\n tab\\t é 😀'", "'null'"],
  c_char: ["char(5)", "'ab'", "'  x'"],
  c_bytea: ["bytea", "'\\x00ff5c27'", "''"],
  c_boolean: ["boolean", "true", "false"],
  c_date: ["date", "'2026-02-03'", "'infinity'", "'0044-03-15 BC'"],
  c_time: ["time", "'24:00:00'", "'01:02:03.456789'"],
  c_timetz: ["timetz", "'01:02:03+05:30'"],
  c_timestamp: ["timestamp", "'2026-02-03 04:05:06.789012'", "'-infinity'"],
  c_timestamptz: ["timestamptz", "'2026-10-25 02:30:00+02'", "'2026-10-25 02:30:00+01'"],
  c_interval: ["interval", "'-1 year -2 mons +3 days -04:05:06.7'", "'1 mon -1 day'"],
  c_uuid: ["uuid", "gen_random_uuid()"],
  c_json: ["json", '\'{"b": 1,  "a":"\\u00e9", "b":2}\'', "'null'"],
  c_jsonb: ["jsonb", "'null'", "'\"\"'", "'{\"n\": 1.10}'"],
  c_inet: ["inet", "'10.1.2.3/8'", "'::1'"],
  c_macaddr: ["macaddr", "'08:00:2b:01:02:03'"],
  c_point: ["point", "'(0.1,-2e300)'"],
  c_ints: ["integer[]", "'{{1,2},{3,null}}'", "'[5:6]={7,8}'", "'{}'"],
  c_texts: ["text[]", "array['', 'NULL', null, 'a,b', 'q\"', e'b\\\\s', '{}']"],
  c_tsvector: ["tsvector", "'a:1A ''it''''s'':2'"],
  c_range: ["tstzrange", "'[2026-01-01 00:00+00,)'", "'empty'"],
  c_enum: ["mood", "'so, so'", "'bad \"mood\"'"],
  c_composite: ["pair", "row('a,\"b\"', null)", "row(null, '')"],
  c_domain: ["positive", "7"],
  c_varbit: ["varbit", "b'0101'"],
  c_money: ["money", "-1234.56"],
}
const names = Object.keys(columns)

function schema(): string {
  const rows = Math.max(...Object.values(columns).map((column) => column.length - 1))
  const valuesOf = (row: number) =>
    Object.values(columns).map(([type, ...values]) => `(${values[row] ?? "null"})::${type}`)
  return `create type mood as enum ('so, so', 'bad "mood"');
    create type pair as (first text, second text);
    create domain positive as integer check (value > 0);
    create table kept (id integer primary key generated always as identity, ${names.map((name) => `${name} ${columns[name]?.[0]}`).join(", ")},
      "odd ""name""" text default 'x', doubled numeric generated always as (c_numeric * 2) stored, note text);
    ${Array.from({ length: rows + 1 }, (_, row) => `insert into kept (${names.join(", ")}) select ${valuesOf(row).join(", ")}`).join(";\n")};
    create table original as select * from kept`
}

let target: TargetFixture

beforeAll(async () => {
  target = await freshTarget(schema())
  // What a target may be set to, and what makes text ambiguous.
  const { rows } = await target.admin.query<{ name: string }>("select quote_ident(current_database()) as name")
  for (const setting of [
    "datestyle = 'SQL, DMY'",
    "intervalstyle = 'sql_standard'",
    "timezone = 'Australia/Lord_Howe'",
    "extra_float_digits = 0",
    "bytea_output = 'escape'",
  ])
    await target.admin.query(`alter database ${rows[0]?.name} set ${setting}`)
})
afterAll(() => target.stop())

/** The rows kept for a step that are not, to the last bit, the rows that there were. */
async function spoiled(rollbackId: string): Promise<{ kept: number; spoiled: string[] }> {
  const client = await target.admin.connect()
  try {
    await client.query(prologue({ timeoutMs: 10_000 }))
    const { rows } = await client.query<{ id: number; same: boolean }>(
      `select (b.r).id as id, coalesce(b.r *= o, false) as same
       from (select row_text::kept as r from stepback_ledger.before_images where rollback_id = $1) b left join original o on o.id = (b.r).id`,
      [rollbackId],
    )
    return { kept: rows.length, spoiled: rows.filter((row) => !row.same).map((row) => `row ${row.id}`) }
  } finally {
    await client.query("rollback")
    client.release()
  }
}

describe(`rows of ${names.length} column types`, () => {
  it("are kept exactly before an update, and so before their removal", async () => {
    for (const sql of ["update kept set note = 'touched' where id > 0", "delete from kept where id > 0"]) {
      // The rows as they are before this step are what is compared with.
      await target.admin.query("drop table original; create table original as select * from kept")
      const context = await contextOf({ pool: target.pools.get(target.url) })
      const step = await stepOf(`- { id: a, sql: "${sql}", expect: { rows: 1..99 } }`)
      const result = await runStep(step, context)
      expect(result).toMatchObject({ outcome: "succeeded", failure: null })
      expect(await spoiled(context.rollbackId)).toEqual({ kept: result.rows, spoiled: [] })
    }
  })
})
