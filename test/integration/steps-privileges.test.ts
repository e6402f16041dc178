import { afterEach, describe, expect, it } from "vitest"
import type { PlanStep, UndoStep } from "../../src/plans/plan.ts"
import { rehearseStep } from "../../src/steps/definitions.ts"
import { restoreStepOf, snapshots } from "./restore-fixture.ts"
import { contextOf, freshTarget, goThrough, stepOf, type TargetFixture, undoStepOf } from "./steps-fixture.ts"

/** A role that may do some of what a step or its undo does: its card says so, not the run alone. */
let target: TargetFixture
afterEach(() => target.stop())

const tables = `create table t (id integer primary key, v text, w text); insert into t values (1, 'old', 'x');
  create table kids (id integer primary key, t_id integer references t on delete cascade); insert into kids values (1, 1);
  create table calls (id integer primary key, t_id integer references t on delete set null); insert into calls values (1, 1);
  create table days (id integer primary key, v text) partition by range (id); create table days_1 partition of days default; insert into days values (1, 'old');
  create table numbered (id serial primary key, v text);`

const limited = () => Object.assign(new URL(target.url), { username: "limited", password: "l" }).href

/** What a step does as that role, and its undo. */
async function granted(grants: string) {
  target = await freshTarget(`${tables} do $$ begin
      if not exists (select from pg_roles where rolname = 'limited') then create role limited login password 'l'; end if; end $$;`)
  await target.admin.query(`grant select on all tables in schema public to limited; ${grants};
    grant all on schema stepback_ledger to limited; grant all on all tables in schema stepback_ledger to limited`)
  const go = (step: PlanStep | UndoStep) => goThrough({ ...target, url: limited() }, step)
  return async (yaml: string) => {
    const done = await go(await stepOf(yaml))
    return { ...done, undo: () => go(undoStepOf(done.rollbackId, "a")) }
  }
}

describe("what a restore may not do is refused beforehand", () => {
  it.each([
    ["insert, delete", "update t set v = 'new'", "update"],
    ["insert, update", "insert into t values (2, 'new')", "delete"],
    ["update, delete", "delete from t", "insert"],
  ])("grant %s, and then: %s", async (grants, change, missing) => {
    await granted(`truncate kids, calls; grant ${grants} on t to limited`)
    const kept = snapshots(target, [{ table: "t", key: ["id"], ignore: [] }])
    await kept.capture()
    await target.admin.query(change)
    const pool = target.pools.get(limited())
    const card = await rehearseStep(restoreStepOf({ table: "t" }), await contextOf({ pool, baseline: kept.context() }))
    expect(card).toMatchObject({
      refused: true,
      note: `this role may not put them back: grant ${missing} on "public"."t"`,
    })
  })
})

const purge = (table: string, cascade = "") =>
  `- { id: a, purge: { table: ${table}, where: "id = 1", cascade: [${cascade}], at_most: 5, max_share: 100% }, expect: { rows: rehearsed } }`
const written = (sql: string) => `- { id: a, sql: "${sql}", expect: { rows: rehearsed } }`

describe("what a step may not do is refused beforehand", () => {
  it.each([
    ["delete, insert, update on days", purge("days"), 'grant delete on "public"."days_1"'],
    ["delete, insert on t, kids", purge("t", "kids, calls"), 'grant update on "public"."t"'],
    ["delete, insert, update on t", purge("t", "kids, calls"), 'grant delete, update on "public"."kids"'],
    ["delete, insert on t", written("delete from t where id = 2"), "permission denied for table t"],
    [
      "insert, delete on numbered",
      written("insert into numbered (v) select v from t"),
      "this role may not take numbers there: grant usage on sequence public.numbered_id_seq",
    ],
  ])("grant %s: %s", async (grants, yaml, words) => {
    const go = await granted(`grant ${grants} to limited`)
    const { card, result } = await go(yaml)
    expect(card).toMatchObject({ outcome: "unknown", note: expect.stringContaining(words) as string })
    expect(result).toMatchObject({ outcome: "failed" })
    const { rows } = await target.admin.query("select from t, kids, days")
    expect(rows).toHaveLength(1)
  })
})

describe("what an undo may not do is said beforehand", () => {
  it.each([
    ["delete on days, days_1", purge("days"), ["insert", "days_1"]],
    ["delete, insert, update on t, kids", purge("t", "kids, calls"), ["update", "calls"]],
    ["insert on t", written("insert into t values (2, 'new')"), ["delete, update", "t"]],
    ["update (v) on t", written("update t set v = 'new' where id = 1"), ["update", "t"]],
    ["delete on days", written("delete from days where id = 1"), ["insert", "days"]],
  ])("grant %s: %s", async (grants, yaml, [right, table]) => {
    const go = await granted(`grant ${grants} to limited`)
    const { card, result, undo } = await go(yaml)
    const grant = `grant ${right} on "public"."${table}"`
    expect(card.warnings).toContain(`an undo could not be run by this role: ${grant}`)
    expect(result).toMatchObject({ outcome: "succeeded" })
    const refused = await undo()
    expect(refused.card).toMatchObject({ outcome: "unknown", note: expect.stringContaining("42501") as string })
    expect(refused.result).toMatchObject({ outcome: "failed", failure: { code: "42501" } })
    await target.admin.query(`${grant} to limited`)
    expect((await undo()).result).toMatchObject({ outcome: "succeeded" })
  })

  it.each([
    ["delete, insert on days, days_1", purge("days")],
    ["delete, insert, update on t, kids; grant update (t_id) on calls", purge("t", "kids, calls")],
    ["update (v, w) on t", written("update t set v = 'new' where id = 1")],
  ])("and not where it may: grant %s", async (grants, yaml) => {
    const go = await granted(`grant ${grants.replace(";", " to limited;")} to limited`)
    const { card, undo } = await go(yaml)
    expect(card).toMatchObject({ outcome: "looked", warnings: [] })
    expect((await undo()).result).toMatchObject({ outcome: "succeeded" })
  })
})
