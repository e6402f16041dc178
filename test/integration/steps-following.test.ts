import { afterAll, beforeAll, beforeEach, expect, it } from "vitest"
import pg from "pg"
import { rehearseStep, runStep } from "../../src/steps/definitions.ts"
import { contextOf, freshTarget, goThrough, stepOf, textsOf, type TargetFixture, undoStepOf } from "./steps-fixture.ts"

let target: TargetFixture
const sql = (text: string) => target.admin.query(text)
const texts = (table: string) => textsOf(target, table)

beforeAll(async () => {
  target = await freshTarget("select 1")
})
afterAll(() => target.stop())
// Keys that mean something: a code is referred to, and what refers to it is referred to in turn.
beforeEach(() =>
  sql(`drop schema public cascade; create schema public;
    create table plans (id integer primary key, code text unique, was text);
    create table seats (plan text primary key references plans (code) on update cascade, n integer);
    insert into plans values (1, 'a'), (2, 'b'); insert into seats values ('a', 1), ('b', 2)`),
)

const update = (text: string) => stepOf(`- { id: a, sql: "${text}", expect: { rows: rehearsed, tolerance: 0% } }`)

const go = async (text: string) => goThrough(target, await update(text))

const users = `create table users (id integer primary key, plan text references seats (plan) on update cascade);
  insert into users values (1, 'a'), (2, 'a'), (3, 'b')`

it("rows that get the new value of what they refer to are counted: on the card, in the result, for the way back", async () => {
  await sql(users)
  // The second has that code already.
  const { card, result, rollbackId } = await go("update plans set code = 'b' || substr(code, 2) || 'x' where id = 1")
  const along = [
    { table: "seats", rows: 1, action: "cascade" },
    { table: "users", rows: 2, action: "cascade" },
  ]
  expect(card).toMatchObject({ outcome: "looked", rows: 1, children: along })
  expect(result).toMatchObject({
    affected: [
      { table: "plans", did: "changed", rows: 1 },
      { table: "seats", did: "changed", rows: 1 },
      { table: "users", did: "changed", rows: 2 },
    ],
    evidence: ["1 row of plans changed", "1 in seats with them, by cascade", "2 in users with them, by cascade"],
  })
  const { card: back, result: undone } = await goThrough(target, undoStepOf(rollbackId, "a"))
  const said = "1 in seats with them, by cascade, 2 in users with them, by cascade"
  expect(back.note).toBe(`1 row of plans given back, ${said}`)
  expect(undone).toMatchObject({ outcome: "succeeded", rows: 1 })
  expect(undone.evidence.join(", ")).toBe(`1 row of plans restored, ${said}`)
  expect(await texts("users")).toEqual(["(1,a)", "(2,a)", "(3,b)"])
})

it("rows whose value stays what it was take nothing along", async () => {
  const { card, result } = await go("update plans set code = 'b', was = 'x' where code = 'b'")
  expect([card.children, result.affected]).toEqual([[], [{ table: "plans", did: "changed", rows: 1 }]])
})

it("what empties rows behind those that follow is refused, since nothing keeps them", async () => {
  await sql(users.replace("on update cascade", "on update set null"))
  const { card, result } = await go("update plans set code = 'z' where id = 1")
  const why = "rows of users that refer to plan would lose that unkept: say irreversible and why"
  expect(card).toMatchObject({ outcome: "unknown", note: why })
  expect(result).toMatchObject({ outcome: "failed", failure: { code: "cannot_keep", message: why } })
  expect(await texts("users")).toEqual(["(1,a)", "(2,a)", "(3,b)"])
})

it.each([
  [
    "a column that the server computes",
    "alter table plans add twice text generated always as (was || was) stored unique",
  ],
  [
    "a column that a trigger sets",
    `alter table plans add twice text unique; create function fill() returns trigger language plpgsql as
       'begin new.twice := new.was; return new; end'; create trigger fill before update on plans for each row execute function fill()`,
  ],
])("rows that refer to %s are not emptied unkept", async (_, ddl) => {
  await sql(`${ddl}; update plans set was = 'w' where id = 1;
    create table bills (id integer primary key, twice text references plans (twice) on update set null);
    insert into bills select 1, twice from plans where id = 1`)
  const before = await texts("bills")
  const { result } = await go("update plans set was = 'v' where id = 1")
  expect(result).toMatchObject({ outcome: "failed", failure: { code: "cannot_keep" } })
  expect(await texts("bills")).toEqual(before)
})

it("a purge does not empty what refers to rows that it cuts loose", async () => {
  await sql(`create table desks (id integer primary key, plan integer unique references plans (id) on delete set null);
    create table lamps (id integer primary key, plan integer references desks (plan) on update cascade);
    insert into desks values (1, 1); insert into lamps values (1, 1)`)
  const step = await stepOf(
    `- { id: a, purge: { table: plans, where: "id = 1", cascade: [desks, seats], at_most: 5, max_share: 100% }, expect: { rows: rehearsed } }`,
  )
  const context = await contextOf({ pool: target.pools.get(target.url) })
  const card = await rehearseStep(step, context)
  expect(card).toMatchObject({ refused: true })
  expect(card.note).toBe(
    "lamps refers to what desks loses, and would lose it unkept: purge it by a step of its own first",
  )
})

it("raises the risk where the role may not see how many rows follow", async () => {
  await sql(`do $$ begin if not exists (select from pg_roles where rolname = 'half_blind') then
      create role half_blind login password 'x'; end if; end $$;
    grant usage on schema public, stepback_ledger to half_blind; grant select, update on plans to half_blind;
    grant select, insert, update on all tables in schema stepback_ledger to half_blind`)
  const url = new URL(target.url)
  Object.assign(url, { username: "half_blind", password: "x" })
  const pool = new pg.Pool({ connectionString: url.href, max: 2 })
  try {
    const context = await contextOf({ pool })
    const step = await update("update plans set code = 'z' where id = 1")
    const card = await rehearseStep(step, context)
    const why = "rows of seats change with it by cascade, and this role cannot see how many"
    expect(card).toMatchObject({ outcome: "looked", rows: 1, children: [], raises: [why] })
    expect(await runStep(step, { ...context, rehearsed: card })).toMatchObject({ outcome: "succeeded", rows: 1 })
    expect(await texts("seats")).toEqual(["(b,2)", "(z,1)"])
  } finally {
    await pool.end()
  }
})

it("tells of triggers that fire where rows follow, and raises the risk for one that calls out", async () => {
  await sql(`create function tell() returns trigger language plpgsql as 'begin perform pg_notify(''x'', ''y''); return new; end';
    create trigger tells after update on seats for each row execute function tell()`)
  const step = await update("update plans set code = 'z' where id = 1")
  const card = await rehearseStep(step, await contextOf({ pool: target.pools.get(target.url) }))
  expect(card).toMatchObject({
    warnings: ["trigger tells on seats fires"],
    raises: ["trigger tells on seats reaches beyond the database"],
  })
  const other = await update("update plans set was = 'z' where id = 1")
  const quiet = await rehearseStep(other, await contextOf({ pool: target.pools.get(target.url) }))
  expect(quiet).toMatchObject({ warnings: [], raises: [] })
})

it("a foreign key that is not enforced takes nothing along", async ({ skip }) => {
  const { rows } = await target.admin.query<{ v: number }>("select current_setting('server_version_num')::int as v")
  skip((rows[0]?.v ?? 0) < 180_000, "Postgres 18 is the first to have such")
  await sql(`alter table seats drop constraint seats_plan_fkey;
    alter table seats add foreign key (plan) references plans (code) on update cascade on delete cascade not enforced`)
  expect((await go("update plans set code = 'z' where id = 1")).card).toMatchObject({ outcome: "looked", children: [] })
  expect((await go("delete from plans where id = 2")).result).toMatchObject({ outcome: "succeeded", rows: 1 })
  expect(await texts("seats")).toEqual(["(a,1)", "(b,2)"])
})
