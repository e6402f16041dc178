import { afterAll, beforeAll, expect, it } from "vitest"
import { rehearseStep, runStep } from "../../src/steps/definitions.ts"
import { restoreStepOf, snapshots } from "./restore-fixture.ts"
import { contextOf, freshTarget, type TargetFixture, undoStepOf } from "./steps-fixture.ts"

let target: TargetFixture
const sql = (text: string) => target.admin.query(text)
const texts = async () =>
  (await target.admin.query<{ v: string }>("select m::text as v from menu m order by id")).rows.map(({ v }) => v)

beforeAll(async () => {
  target = await freshTarget("select 1")
})
afterAll(() => target.stop())

it.each([
  "",
  "on delete restrict",
  "on delete set null",
  "on delete set null deferrable initially deferred",
  "deferrable initially deferred",
])("rows that refer to others of their table go back with them, and undo takes that back: %s", async (how) => {
  await sql(`drop table if exists menu; create table menu (id integer primary key, up integer references menu ${how}, v text);
      insert into menu values (1, null, 'a'), (2, 1, 'a'), (3, 2, 'a'), (4, 3, 'a')`)
  const snaps = snapshots(target, [{ table: "menu", key: ["id"], ignore: [] }])
  await snaps.capture()
  const before = await texts()
  // What one hung on is gone, and it hangs elsewhere.
  await sql("update menu set up = 1, v = 'b' where id = 4; delete from menu where id = 3")
  if (!how.includes("set null")) await sql("insert into menu values (9, 1, 'new'); update menu set up = 9 where id = 2")
  const after = await texts()
  const step = restoreStepOf({ table: "menu", id: "a" })
  const context = await contextOf({ pool: target.pools.get(target.url), baseline: snaps.context() })
  const card = await rehearseStep(step, context)
  const result = await runStep(step, { ...context, rehearsed: card })
  expect(result).toMatchObject({ outcome: "succeeded", rows: card.rows, failure: null, issues: [] })
  expect(await texts()).toEqual(before)
  const undo = await contextOf({ pool: target.pools.get(target.url) })
  const back = undoStepOf(context.rollbackId, "a")
  const seen = await rehearseStep(back, undo)
  expect(await runStep(back, { ...undo, rehearsed: seen })).toMatchObject({ outcome: "succeeded", rows: card.rows })
  expect(await texts()).toEqual(after)
})
