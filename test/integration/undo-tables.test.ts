import { randomUUID } from "node:crypto"
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest"
import { rehearseStep } from "../../src/steps/definitions.ts"
import { restoreStepOf, snapshots } from "./restore-fixture.ts"
import { contextOf, freshTarget, goThrough, stepOf, textsOf, type TargetFixture, undoStepOf } from "./steps-fixture.ts"

let target: TargetFixture
const sql = (text: string) => target.admin.query(text)
const texts = (table: string) => textsOf(target, table)

beforeAll(async () => {
  target = await freshTarget("select 1")
})
afterAll(() => target.stop())
beforeEach(() => sql("drop schema public cascade; create schema public"))

const go = async (yaml: string) => goThrough(target, await stepOf(yaml))
const undo = (rollbackId: string) => goThrough(target, undoStepOf(rollbackId, "a"))

const written = (text: string) => `- { id: a, sql: "${text}", expect: { rows: rehearsed, tolerance: 0% } }`
const purge = `- { id: a, purge: { table: t, where: "id > 0", at_most: 10, max_share: 100% }, expect: { rows: rehearsed } }`
const steps = [written("update t set v = 'new' where id > 0"), written("delete from t where id > 0"), purge]

it.each([
  ["one row and no more", "create unique index on t ((true))"],
  ["an index of whole rows", "create unique index on t (word(t))"],
  ["a rule for whole rows", "alter table t add check (word(t) <> 'x')"],
  ["a rule that names no column", "alter table t add check (1 > 0)"],
])("rows of a table with %s come back", async (_, ddl) => {
  await sql(`create table t (id integer primary key, v text);
    create function word(t) returns text language sql immutable as 'select $1.v';
    ${ddl}; insert into t values (1, 'old')`)
  for (const step of steps) {
    const { rollbackId, result } = await go(step)
    expect(result).toMatchObject({ outcome: "succeeded", rows: 1 })
    const back = await undo(rollbackId)
    expect(back.card).toMatchObject({ outcome: "looked", rows: 1, warnings: [] })
    expect(back.result).toMatchObject({ outcome: "succeeded", rows: 1, issues: [] })
    expect(await texts("t")).toEqual(["(1,old)"])
  }
})

it("the only row that may be there does not come back beside another", async () => {
  await sql(`create table t (id integer primary key, v text); create unique index on t ((true));
    insert into t values (1, 'old')`)
  const { rollbackId } = await go(written("delete from t where id > 0"))
  await sql("insert into t values (2, 'mine')")
  const { result } = await undo(rollbackId)
  expect(result.issues).toEqual(["1 cannot come back: t.1 (it may be there only once, and another row is)"])
  expect(await texts("t")).toEqual(["(2,mine)"])
})

it("rows of heirs come back, whatever the keys and rules are that only their parent has", async () => {
  await sql(`create table t (id integer primary key, v text unique, p integer references t, check (v <> 'old') no inherit);
    create table t1 (more integer, primary key (id)) inherits (t); create table t2 (primary key (id)) inherits (t);
    insert into t1 values (1, 'old', 77, 5); insert into t2 values (2, 'old', 77)`)
  const { rollbackId, result } = await go(written("update t set v = 'new' || id where id > 0"))
  expect(result).toMatchObject({ outcome: "succeeded", rows: 2 })
  const back = await undo(rollbackId)
  expect(back.result).toMatchObject({ outcome: "succeeded", rows: 2, issues: [] })
  expect([await texts("t1"), await texts("t2")]).toEqual([["(1,old,77,5)"], ["(2,old,77)"]])
})

it.each([
  ["changed", "update t set v = 'new' where id > 0"],
  ["made", "insert into t select n, 'new' from generate_series(11, 14) n"],
])(
  "the card counts rows that a step %s and a later purge of that run removed: the purge is undone first",
  async (_, text) => {
    for (const by of ["", "partition by range (id)"]) {
      await sql(`drop table if exists t; create table t (id integer primary key, v text) ${by};
      ${by === "" ? "" : "create table t_1 partition of t for values from (0) to (3); create table t_2 partition of t default;"}
      insert into t values (1, 'old'), (2, 'old'), (3, 'old'), (4, 'old')`)
      const [before, rollbackId, undoing] = [await texts("t"), randomUUID(), randomUUID()]
      const first = await goThrough(target, await stepOf(written(text)), { rollbackId })
      const removes = `- { id: p, purge: { table: t, where: "v = 'new' and id % 2 = 0", at_most: 10, max_share: 100% }, expect: { rows: rehearsed } }`
      const second = await goThrough(target, await stepOf(removes), { rollbackId })
      expect([first.result.rows, second.result.rows]).toEqual([4, 2])
      const back = undoStepOf(rollbackId, "a")
      const card = await rehearseStep(
        back,
        await contextOf({ pool: target.pools.get(target.url), rollbackId: undoing }),
      )
      expect(card).toMatchObject({ outcome: "looked", rows: 4, warnings: [] })
      await goThrough(target, undoStepOf(rollbackId, "p"), { rollbackId: undoing })
      expect((await goThrough(target, back, { rollbackId: undoing })).result).toMatchObject({ rows: 4, issues: [] })
      expect(await texts("t")).toEqual(before)
    }
  },
)

it("the card counts a row that a restore put in the place of another with its primary key", async () => {
  await sql("create table t (id integer primary key, v text unique); insert into t values (1, 'old')")
  const kept = snapshots(target, [{ table: "t", key: ["v"], ignore: [] }])
  await kept.capture()
  await sql("update t set v = 'new'")
  const { rollbackId, result } = await goThrough(target, restoreStepOf({ table: "t", id: "a" }), {
    baseline: kept.context(),
  })
  expect(result).toMatchObject({ outcome: "succeeded", rows: 2 })
  const back = await undo(rollbackId)
  expect(back.card).toMatchObject({ outcome: "looked", rows: 2, warnings: [] })
  expect(back.result).toMatchObject({ outcome: "succeeded", rows: 2, issues: [] })
  expect(await texts("t")).toEqual(["(1,new)"])
})

it("the card of an undo counts no rows that its step did not change, whatever a later one did to them", async () => {
  await sql("create table t (id integer primary key, v text); insert into t values (1, 'new'), (2, 'old')")
  const rollbackId = randomUUID()
  await goThrough(target, await stepOf(written("update t set v = 'new' where id > 0")), { rollbackId })
  const next = written("update t set v = 'newer' where id > 0").replace("id: a", "id: b")
  await goThrough(target, await stepOf(next), { rollbackId })
  const { rows, note } = await rehearseStep(
    undoStepOf(rollbackId, "a"),
    await contextOf({ pool: target.pools.get(target.url) }),
  )
  expect({ rows, note }).toEqual({ rows: 1, note: "1 row of t given back" })
})

it.each([
  ["only writes it down", "insert into log values (old.id)", []],
  ["makes another row of it", "if new.t_id is not null then new.t_id := 2; end if", ["1 row of calls came back"]],
  ["lets it have no parent", "new.t_id := null", ["1 row of calls came back"]],
])("of rows that get their parent back it is said what a trigger made of them, which %s", async (_, does, said) => {
  await sql(`create table t (id integer primary key, v text); insert into t values (1, 'old'), (2, 'old'), (3, 'old');
    create table calls (id integer primary key, t_id integer references t on delete set null, v text);
    insert into calls values (1, 1, 'x'), (2, 3, 'x'); create table log (id integer)`)
  const step = `- { id: a, purge: { table: t, where: "id <> 2", cascade: [calls], at_most: 10, max_share: 100% }, expect: { rows: 2 } }`
  const { rollbackId } = await go(step)
  await sql(`update calls set t_id = 2 where id = 2;
    create function does() returns trigger language plpgsql as $$ begin ${does}; return new; end $$;
    create trigger does before update on calls for each row execute function does()`)
  const { result } = await undo(rollbackId)
  expect(result).toMatchObject({ outcome: "succeeded", rows: 3 })
  const [left, ...others] = result.issues
  expect(left).toBe("1 changed since and left as they are: calls.2")
  expect(others).toEqual(said.map((words) => expect.stringContaining(words) as string))
})

it("a row that a trigger makes again what the step had left is said not to be as it was", async () => {
  await sql(`create table t (id integer primary key, v text); insert into t values (1, 'old'), (2, 'older');
    create function keeps() returns trigger language plpgsql as $$ begin
      if old.v = 'new' and new.id = 1 then new.v := 'new'; end if; return new; end $$;
    create trigger keeps before update on t for each row execute function keeps()`)
  const { rollbackId } = await go(written("update t set v = 'new' where id > 0"))
  const { result } = await undo(rollbackId)
  expect(result.issues).toEqual(["1 row of t came back otherwise than as kept: by trigger keeps"])
  expect(await texts("t")).toEqual(["(1,new)", "(2,older)"])
})

it("a table may be called as our own statements call their rows", async () => {
  await sql(`create table held (id integer primary key, v text); insert into held values (1, 'old'), (2, 'old');
    create table a (id integer primary key, held_id integer references held); insert into a values (1, 1);
    create function passes() returns trigger language plpgsql as $$ begin return old; end $$;
    create trigger passes before delete on a for each row execute function passes()`)
  const { rollbackId, result } = await go(
    `- { id: a, purge: { table: held, where: "id = 1", cascade: [a], at_most: 10, max_share: 100% }, expect: { rows: 1 } }`,
  )
  expect(result).toMatchObject({ outcome: "succeeded", rows: 1 })
  expect((await undo(rollbackId)).result).toMatchObject({ outcome: "succeeded", rows: 2, issues: [] })
  expect([await texts("held"), await texts("a")]).toEqual([["(1,old)", "(2,old)"], ["(1,1)"]])
})
