import { randomUUID } from "node:crypto"
import pg from "pg"
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest"
import type { PlanStep } from "../../src/plans/plan.ts"
import { rehearseStep, runStep } from "../../src/steps/definitions.ts"
import { contextOf, freshTarget, stepOf, type TargetFixture, undoStepOf } from "./steps-fixture.ts"

/** What people set for a role or a database by `alter role … set`: the steps' transactions begin with it. */
let target: TargetFixture
let database: string

beforeAll(async () => {
  target = await freshTarget(`
    create table words (id integer primary key, texts text[], b bytea, w text);
    create table parents (id integer primary key, bad boolean);
    create table children (id integer primary key, parent_id integer references parents on delete set null);
    create table slow (id integer primary key, n integer);
    create function dawdle() returns trigger language plpgsql as $$ begin perform pg_sleep(0.3); return new; end $$;
    create trigger dawdles before update on slow for each row execute function dawdle()`)
  const { rows } = await target.admin.query<{ name: string }>("select quote_ident(current_database()) as name")
  database = rows[0]?.name ?? ""
})
afterAll(() => target.stop())
beforeEach(async () => {
  await target.admin.query(`alter database ${database} reset all;
    truncate words, parents, children, slow;
    insert into words values (1, '{a,null,"NULL"}', '\\x00ff5c', 'w');
    insert into parents select n, n < 3 from generate_series(1, 20) n;
    insert into children select n, n from generate_series(1, 20) n;
    insert into slow select n, 0 from generate_series(1, 3) n`)
  await target.pools.close()
})

/** From here on new connections of the steps have it. */
async function set(...settings: string[]) {
  for (const setting of settings) await target.admin.query(`alter database ${database} set ${setting}`)
  await target.pools.close()
}

async function go(step: PlanStep, url = target.url) {
  const context = await contextOf({ pool: target.pools.get(url) })
  const rehearsal = await rehearseStep(step, context)
  const result = await runStep(step, { ...context, rehearsed: rehearsal })
  return { rehearsal, result, undo: undoStepOf(context.rollbackId, step.id) }
}

const all = async (table: string) =>
  (await target.admin.query<{ t: string }>(`select t::text from ${table} t order by id`)).rows.map(({ t }) => t)

it("a null in an array comes back as a null, and a word NULL as a word", async () => {
  await set("array_nulls = off")
  const before = await all("words")
  const { result, undo } = await go(
    await stepOf(`- { id: u, sql: "update words set w = 'x' where id = 1", expect: { rows: 1 } }`),
  )
  expect(result).toMatchObject({ outcome: "succeeded", changed: 1 })
  expect((await go(undo)).result).toMatchObject({ outcome: "succeeded", rows: 1, issues: [] })
  expect(await all("words")).toEqual(before)
})

it("what was kept under one form of bytea is known again under another", async () => {
  await set("bytea_output = 'escape'")
  const { undo } = await go(
    await stepOf(`- { id: u, sql: "update words set w = 'x' where id = 1", expect: { rows: 1 } }`),
  )
  await set("bytea_output = 'hex'")
  expect((await go(undo)).result).toMatchObject({ outcome: "succeeded", rows: 1, issues: [] })
})

it("a backslash in a plan's text is a backslash", async () => {
  await set("standard_conforming_strings = off")
  const { rehearsal, result } = await go(
    await stepOf(`- { id: u, sql: 'update words set w = ''a\\b'' where id = 1', expect: { rows: 1 } }`),
  )
  expect(rehearsal.changes).toMatchObject([{ before: '"w"', after: String.raw`"a\\b"` }])
  expect(result).toMatchObject({ outcome: "succeeded" })
  expect((await all("words"))[0]).toContain(String.raw`"a\\b"`)
})

it("foreign keys that sleep for the role are awake in a purge", async () => {
  await set("session_replication_role = replica")
  const before = [await all("parents"), await all("children")]
  const purge = await stepOf(
    `- { id: p, purge: { table: parents, where: "bad", cascade: [children], at_most: 10 }, expect: { rows: rehearsed } }`,
  )
  const { result, undo } = await go(purge)
  expect(result).toMatchObject({ outcome: "succeeded", rows: 2 })
  expect((await all("children")).slice(0, 3)).toEqual(["(1,)", "(2,)", "(3,3)"])
  expect((await go(undo)).result).toMatchObject({ outcome: "succeeded", issues: [] })
  expect([await all("parents"), await all("children")]).toEqual(before)
})

it("a role that may not wake them gets nothing done, and its card says so", async () => {
  const role = `narrow_${randomUUID().slice(0, 8)}`
  await target.admin
    .query(`create role ${role} login password 'x'; alter role ${role} set session_replication_role = replica;
    grant usage on schema stepback_ledger to ${role}; grant all on all tables in schema stepback_ledger, public to ${role}`)
  const url = Object.assign(new URL(target.url), { username: role, password: "x" }).href
  const pool = new pg.Pool({ connectionString: url, max: 2 })
  try {
    const context = await contextOf({ pool: target.pools.get(target.url) })
    const step = await stepOf(`- { id: d, sql: "delete from parents where id = 3", expect: { rows: 1 } }`)
    const refused = "permission denied to set parameter"
    const narrow = { ...context, target: { pool, httpBase: null } }
    expect(await rehearseStep(step, narrow)).toMatchObject({
      outcome: "unknown",
      note: expect.stringContaining(refused) as string,
    })
    expect(await runStep(step, narrow)).toMatchObject({
      failure: { message: expect.stringContaining(refused) as string },
    })
    expect(await all("parents")).toHaveLength(20)
  } finally {
    await pool.end()
    await target.admin.query(`drop owned by ${role}; drop role ${role}`)
  }
})

it("a step has the time that its plan gives it, not what the role gives a transaction", async () => {
  const { rows } = await target.admin.query<{ there: boolean }>(
    "select current_setting('server_version_num')::int >= 170000 as there",
  )
  if (rows[0]?.there) await set("transaction_timeout = '500ms'")
  const { result } = await go(
    await stepOf(`- { id: s, sql: "update slow set n = 1 where id > 0", expect: { rows: 3 } }`),
  )
  expect(result).toMatchObject({ outcome: "succeeded", attempts: 1, changed: 3 })
})
