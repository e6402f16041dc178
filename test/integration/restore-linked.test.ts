import { afterAll, beforeAll, expect, it } from "vitest"
import { restoreStepOf, snapshots } from "./restore-fixture.ts"
import { freshTarget, goThrough, textsOf, type TargetFixture, undoStepOf } from "./steps-fixture.ts"

let target: TargetFixture
const sql = (text: string) => target.admin.query(text)
const texts = () => textsOf(target, "menu")

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
  const { rollbackId, card, result } = await goThrough(target, step, { baseline: snaps.context() })
  expect(result).toMatchObject({ outcome: "succeeded", rows: card.rows, failure: null, issues: [] })
  expect(await texts()).toEqual(before)
  const undone = await goThrough(target, undoStepOf(rollbackId, "a"))
  expect(undone.result).toMatchObject({ outcome: "succeeded", rows: card.rows })
  expect(await texts()).toEqual(after)
})
