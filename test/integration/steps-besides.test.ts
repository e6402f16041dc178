import { afterEach, describe, expect, it } from "vitest"
import type { PlanStep } from "../../src/plans/plan.ts"
import { stepView } from "../../src/plans/step-view.ts"
import { rehearseStep, runStep } from "../../src/steps/definitions.ts"
import { restoreStepOf, snapshots } from "./restore-fixture.ts"
import { contextOf, freshTarget, stepOf, type TargetFixture, undoStepOf } from "./steps-fixture.ts"

/** What a write does besides: by rules, and by triggers that stand elsewhere than on the table that a plan names. */
let target: TargetFixture
afterEach(() => target.stop())

const having = async (schema: string) => void (target = await freshTarget(schema))
const list = async (text: string) =>
  (await target.admin.query(text)).rows.map((row) => Object.values(row as object).join(" "))

async function go(step: PlanStep) {
  const context = await contextOf({ pool: target.pools.get(target.url) })
  const rehearsal = await rehearseStep(step, context)
  const result = await runStep(step, { ...context, rehearsed: rehearsal })
  return { rehearsal, result, undo: undoStepOf(context.rollbackId, step.id) }
}

describe("a rule", () => {
  const schema = `create table other (id integer primary key, n integer); insert into other values (1, 1);
    create table ruled (id integer primary key, n integer); insert into ruled values (1, 1), (2, 2);`

  it("of an UPDATE that writes to another table is told on the card, and nothing is done that could not be taken back", async () => {
    await having(`${schema} create rule also as on update to ruled do also update other set n = 99 where id = new.id`)
    const text = "update ruled set n = 5 where id = 1"
    const { rehearsal, result } = await go(await stepOf(`- { id: u, sql: "${text}", expect: { rows: 1 } }`))
    expect(rehearsal).toMatchObject({ outcome: "unknown", note: expect.stringContaining("(also)") as string })
    expect(result).toMatchObject({ outcome: "failed", failure: { code: "cannot_keep" } })
    expect(await list("select n from other union all select n from ruled")).toEqual(["1", "1", "2"])
    const meant = await go(
      await stepOf(`- { id: u, sql: "${text}", expect: { rows: 1 }, irreversible: other follows it }`),
    )
    expect(meant.rehearsal.warnings).toEqual(["what a write to ruled does is for its rules to say (also)"])
    expect(meant.result).toMatchObject({ outcome: "succeeded" })
    expect(await list("select n from other")).toEqual(["99"])
  })

  it("stands in the way of a DELETE and of a restore, and not of an UPDATE that it does not mean", async () => {
    await having(`${schema} create rule spare as on delete to ruled do instead nothing`)
    const deleted = await go(await stepOf(`- { id: d, sql: "delete from ruled where id = 1", expect: { rows: 1 } }`))
    expect(deleted.rehearsal).toMatchObject({ outcome: "unknown", note: expect.stringContaining("(spare)") as string })
    const baselines = snapshots(target, [{ table: "ruled", key: ["id"], ignore: [] }])
    await baselines.capture()
    const restored = await rehearseStep(
      restoreStepOf({ table: "ruled" }),
      await contextOf({ pool: target.pools.get(target.url), baseline: baselines.context() }),
    )
    expect(restored).toMatchObject({ outcome: "unknown", note: expect.stringContaining("(spare)") as string })
    const updated = await go(
      await stepOf(`- { id: u, sql: "update ruled set n = 5 where id = 1", expect: { rows: 1 } }`),
    )
    expect(updated.result).toMatchObject({ outcome: "succeeded" })
    expect((await go(updated.undo)).result).toMatchObject({ outcome: "succeeded", rows: 1 })
  })

  it.each([
    ["of what comes back", "insert to ruled do also insert into other values (new.id + 10, 0)", "an INSERT"],
    ["of what goes along and comes back", "insert to lines do instead nothing", "an INSERT"],
    ["of what loses its parent", "update to calls do instead nothing", "an UPDATE"],
  ])("%s stands in the way of a purge, which an undo could not take back", async (_name, rule, verb) => {
    await having(`${schema} create table lines (id integer primary key, ruled_id integer references ruled on delete cascade);
      create table calls (id integer primary key, ruled_id integer references ruled on delete set null);
      insert into lines values (1, 1); insert into calls values (1, 1); create rule also as on ${rule}`)
    const { rehearsal, result } = await go(
      await stepOf(
        `- { id: p, purge: { table: ruled, where: "id = 1", cascade: [lines, calls], at_most: 5, max_share: 100% }, expect: { rows: 1 } }`,
      ),
    )
    expect(rehearsal).toMatchObject({
      refused: true,
      note: expect.stringContaining(`says what ${verb} there`) as string,
    })
    expect(result).toMatchObject({ outcome: "failed", failure: { code: "refused" } })
    expect(await list("select count(*) from ruled union all select count(*) from lines")).toEqual(["2", "1"])
  })

  it("of an UPDATE is in nobody's way where rows go and come back", async () => {
    await having(`${schema} create rule also as on update to ruled do instead nothing`)
    const { result, undo } = await go(
      await stepOf(
        `- { id: p, purge: { table: ruled, where: "id = 1", at_most: 5, max_share: 100% }, expect: { rows: 1 } }`,
      ),
    )
    expect(result).toMatchObject({ outcome: "succeeded", rows: 1 })
    expect((await go(undo)).result).toMatchObject({ outcome: "succeeded", rows: 1 })
  })
})

describe("a trigger", () => {
  const outward = `create function outward() returns trigger language plpgsql as $$ begin
      perform pg_notify('elsewhere', 'x');
      if tg_op = 'UPDATE' and pg_trigger_depth() < 2 then update days set stamp = coalesce(stamp, 0) + 1 where id = new.id; end if;
      return null; end $$;`

  it.each([
    [
      "partition",
      "create table days (id integer primary key, n integer, stamp integer) partition by range (id); create table one partition of days for values from (0) to (100); create table two partition of days for values from (100) to (200)",
    ],
    [
      "heir",
      "create table days (id integer primary key, n integer, stamp integer); create table one (primary key (id)) inherits (days)",
    ],
  ])("of a %s alone is named, raises the risk, and its writes are nobody else's change", async (_name, tables) => {
    await having(`${tables}; ${outward} create trigger tells after update on one for each row execute function outward();
      insert into one values (1, 1)`)
    const { rehearsal, result, undo } = await go(
      await stepOf(`- { id: u, sql: "update days set n = 5 where id > 0", expect: { rows: 1 } }`),
    )
    expect(rehearsal).toMatchObject({
      warnings: ["trigger tells of one on days fires"],
      raises: ["trigger tells of one on days reaches beyond the database"],
    })
    expect(result).toMatchObject({ outcome: "succeeded", changed: 1 })
    const undone = await go(undo)
    expect(undone.rehearsal).toMatchObject({ rows: 1, raises: rehearsal.raises })
    // The trigger stamps what comes back too.
    expect(undone.result).toMatchObject({ issues: [expect.stringContaining("by trigger tells of one") as string] })
    expect(await list("select n from days")).toEqual(["1"])
  })

  it("of a partitioned table is named once, whatever partitions have copies of it", async () => {
    await having(`create table days (id integer primary key, n integer, stamp integer) partition by range (id);
      create table one partition of days for values from (0) to (100); create table two partition of days for values from (100) to (200);
      ${outward} create trigger tells after update on days for each row execute function outward();
      create trigger all_at_once after update on one execute function outward(); insert into days values (1, 1)`)
    const { rehearsal } = await go(
      await stepOf(`- { id: u, sql: "update days set n = 5 where id > 0", expect: { rows: 1 } }`),
    )
    expect(rehearsal.warnings).toEqual(["trigger tells on days fires"])
  })

  it.each([
    ["an UPDATE", `sql: "update t set n = 5 where id = 1"`, "1 105"],
    ["an INSERT", `sql: "insert into t values (2, 5)"`, "2 105"],
  ])("that waits for the commit is a part of what %s does, and of what is taken back", async (_name, text, made) => {
    await having(`create table t (id integer primary key, n integer); insert into t values (1, 1);
      create function late() returns trigger language plpgsql as $$ begin update t set n = n + 100 where id = new.id and n < 100; return null; end $$;
      create constraint trigger late after insert or update on t deferrable initially deferred for each row execute function late()`)
    const { result, undo } = await go(await stepOf(`- { id: u, ${text}, expect: { rows: 1 } }`))
    expect(result).toMatchObject({ outcome: "succeeded", rows: 1 })
    expect(await list("select id, n from t")).toContain(made)
    if (text.includes("update")) expect(result.changes).toMatchObject([{ before: "1", after: "105" }])
    const undone = await go(undo)
    expect(undone.rehearsal).toMatchObject({ rows: 1, note: expect.not.stringContaining("changed since") as string })
    expect(undone.result).toMatchObject({ outcome: "succeeded", rows: 1 })
    if (text.includes("update"))
      expect(undone.result.issues).toEqual(["1 row of t came back otherwise than as kept: by trigger late"])
    const again = await go(undone.undo)
    expect(again.result).toMatchObject({
      outcome: "succeeded",
      rows: 1,
      issues: expect.not.arrayContaining([expect.stringContaining("changed since")]) as string[],
    })
  })

  it("that moves the key of a row, or removes it, is told as what stands in the way, and nothing is done", async () => {
    await having(`create table t (id integer primary key, n integer); insert into t values (1, 1), (2, 2);
      create function moves() returns trigger language plpgsql as $$ begin new.id = new.id + 100; return new; end $$;
      create trigger moves before update on t for each row execute function moves()`)
    const { result } = await go(
      await stepOf(`- { id: u, sql: "update t set n = 5 where id = 1", expect: { rows: 1 } }`),
    )
    expect(result).toMatchObject({
      outcome: "failed",
      failure: {
        code: "cannot_keep",
        message: expect.stringContaining("1 of 1 rows are not there under their key") as string,
      },
    })
    expect(await list("select id, n from t order by id")).toEqual(["1 1", "2 2"])
  })
})

describe("a function that writes", () => {
  const schema = `create table t (id integer primary key, n integer); insert into t values (1, 1), (2, 2);
    create table log (n integer);
    create function writes(i integer) returns integer language plpgsql as $$ begin insert into log values (i); return i; end $$`

  it.each([
    "update t set n = writes(5) where id = 1",
    "delete from t where id = writes(1)",
    "insert into t select 3, writes(3)",
  ])("is refused where its doing would not be kept: %s", async (text) => {
    await having(schema)
    const { rehearsal, result } = await go(await stepOf(`- { id: u, sql: "${text}", expect: { rows: 1 } }`))
    expect(rehearsal).toMatchObject({ outcome: "unknown", refused: true })
    expect(result).toMatchObject({ failure: { code: "cannot_keep", message: rehearsal.note } })
    expect(await list("select count(*) from log")).toEqual(["0"])
    const meant = `- { id: u, sql: "${text}", expect: { rows: 1 }, irreversible: it is written down }`
    expect((await go(await stepOf(meant))).result).toMatchObject({ outcome: "succeeded" })
  })

  it.each([
    ["insert into t select nextval('numbers'), 7", true],
    ["insert into t values (nextval('numbers'), 7)", true],
    ["insert into t select nextval('numbers'), writes(7)", false],
  ])("is not a sequence that gives its next number: %s", async (text, done) => {
    await having(`${schema}; create sequence numbers start 3`)
    const { rehearsal, result, undo } = await go(await stepOf(`- { id: i, sql: "${text}", expect: { rows: 1 } }`))
    expect(rehearsal).toMatchObject({ outcome: "unknown", ...(done ? {} : { refused: true }) })
    expect(result.outcome).toBe(done ? "succeeded" : "failed")
    expect(await list("select id, n from t where n = 7")).toEqual(done ? ["3 7"] : [])
    if (!done) return
    expect(rehearsal.note).toBe("it takes numbers of a sequence, which cannot be looked at")
    expect((await go(undo)).result).toMatchObject({ outcome: "succeeded", rows: 1 })
    expect(await list("select count(*) from t")).toEqual(["2"])
  })

  it("is named where it cannot be seen writing; Postgres's own, and those that only give a value, are not", async () => {
    await having(`${schema}; create table u (id uuid primary key, v text); create function plain(i integer) returns integer immutable language sql as 'select i';
      create function tells(i integer) returns integer language plpgsql as $$ begin perform pg_notify('elsewhere', i::text); return i; end $$`)
    const { rehearsal } = await go(
      await stepOf(
        `- { id: u, sql: "update t set (id, n) = (select 1, writes(plain(1)) + tells(2)) where id = 1", expect: { rows: 1 }, irreversible: x }`,
      ),
    )
    expect(rehearsal).toMatchObject({
      warnings: ["tells", "writes"].map(
        (name) => `function ${name} is called: what it does besides giving a value is not kept`,
      ),
      raises: ["function tells reaches beyond the database"],
    })
    const own = await go(
      await stepOf(`- { id: i, sql: "insert into u values (gen_random_uuid(), lower('A'))", expect: { rows: 1 } }`),
    )
    expect(own.rehearsal.warnings).toEqual([])
  })
})

describe("what a person pastes in a purge's place", () => {
  it("is about the table that the plan names, and no other whose name differs in its capitals", async () => {
    await having(`create schema "Odd"; create table "Odd"."Days" (id integer primary key); insert into "Odd"."Days" values (1), (20);
      create schema odd; create table odd.days (id integer primary key); insert into odd.days values (1), (2)`)
    const step = await stepOf(`- { id: p, purge: { table: Odd.Days, where: "id < 9", at_most: 5, max_share: 100% } }`)
    const { paste, count } = stepView(step, {}, null)
    expect(await list(count ?? "")).toEqual(["1"])
    await target.admin.query(paste ?? "")
    expect(
      await list('select (select count(*) from "Odd"."Days") as meant, (select count(*) from odd.days) as other'),
    ).toEqual(["1 2"])
  })

  it.each([
    [
      "a partition",
      "create table days (id integer primary key) partition by range (id); create table one partition of days for values from (0) to (100); create table notes (day_id integer references one on delete cascade)",
    ],
    [
      "an heir",
      "create table days (id integer primary key); create table one (extra text) inherits (days); create table notes (day_id integer)",
    ],
  ])("takes nothing along that hangs on %s", async (_name, tables) => {
    await having(`${tables}; insert into one values (1); insert into notes values (1)`)
    const step = await stepOf(`- { id: p, purge: { table: days, where: "id < 9", at_most: 5, max_share: 100% } }`)
    const client = await target.admin.connect()
    await expect(client.query(stepView(step, {}, null).paste ?? "")).rejects.toThrow("would go along")
    await client.query("rollback")
    client.release()
    expect(await list("select (select count(*) from days) as days, (select count(*) from notes) as notes")).toEqual([
      "1 1",
    ])
  })
})
