import { afterAll, beforeAll, beforeEach, expect, it } from "vitest"
import { rehearseStep, runStep } from "../../src/steps/definitions.ts"
import { contextOf, freshTarget, stepOf, type TargetFixture, undoStepOf } from "./steps-fixture.ts"

let target: TargetFixture
const sql = (text: string) => target.admin.query(text)
const list = async (text: string) => (await target.admin.query<{ v: unknown }>(text)).rows.map(({ v }) => v)

beforeAll(async () => {
  target = await freshTarget("select 1")
})
afterAll(() => target.stop())
beforeEach(() =>
  sql(`drop table if exists marks, answers, people, teams cascade;
    create table teams (id integer primary key, name text);
    create table people (id integer primary key, mail text, left_at date, team_id integer references teams on delete set null, nick text unique deferrable);
    create unique index on people (lower(mail)) where left_at is null;
    create table answers (id integer primary key, person integer, question integer, v text, unique (person, question));
    create table marks (id integer primary key, answer_id integer references answers on delete cascade, note text);
    insert into teams values (1, 'one'), (2, 'two');
    insert into people select n, 'P' || n, null, 1 + n % 2, 'n' || n from generate_series(1, 6) n;
    insert into answers select n, n % 10, n / 10, 'bad' from generate_series(1, 40) n;
    insert into marks select n, n, 'm' from generate_series(1, 40, 2) n`),
)

/** Steps of one run, in order; what comes back is that run, whose steps can be taken back. */
async function ran(...yaml: string[]) {
  const context = await contextOf({ pool: target.pools.get(target.url) })
  for (const one of yaml) {
    const step = await stepOf(one)
    const result = await runStep(step, { ...context, rehearsed: await rehearseStep(step, context) })
    expect(result).toMatchObject({ outcome: "succeeded" })
  }
  return context.rollbackId
}

async function undo(rollbackId: string, id: string) {
  const step = undoStepOf(rollbackId, id)
  const context = await contextOf({ pool: target.pools.get(target.url) })
  const card = await rehearseStep(step, context)
  return { rollbackId: context.rollbackId, card, run: () => runStep(step, { ...context, rehearsed: card }) }
}

const purge = `- { id: p, purge: { table: answers, where: "v = 'bad'", cascade: [marks], at_most: 100, max_share: 100% }, expect: { rows: rehearsed } }`

it("of removed rows leaves out one whose unique value another row has by now, and what hangs on it", async () => {
  const of = await ran(purge)
  await sql("insert into answers values (103, 3, 0, 'again'), (105, 5, 0, 'again')")
  const { card, run } = await undo(of, "p")
  const said =
    "2 cannot come back: answers.3 (another row has its person, question), answers.5 (another row has its person, question)"
  expect(card.warnings).toEqual([said])
  expect(card.note).toContain("38 rows of answers given back")
  const result = await run()
  expect(result).toMatchObject({ outcome: "succeeded", rows: 38 + 18 })
  expect(result.issues).toEqual([
    `4${said.slice(1)}, marks.3 (its row of answers is gone), marks.5 (its row of answers is gone)`,
  ])
  expect(await list("select id as v from answers where id in (3, 5, 103, 105) order by 1")).toEqual([103, 105])
  expect(await list("select count(*)::int as v from marks")).toEqual([18])
  // What was left out can still come back: the other row goes, and it is asked for again.
  await sql("delete from answers where id > 100")
  const again = await undo(of, "p")
  expect(await again.run()).toMatchObject({ outcome: "succeeded", rows: 4, issues: [] })
  expect(await list("select count(*)::int as v from answers")).toEqual([40])
})

it("of changed rows goes by an index of an expression with a condition, and undo of undo takes back the rest", async () => {
  await sql("update people set left_at = '2026-01-01' where id = 4")
  const of = await ran(`- { id: u, sql: "update people set mail = 'was ' || mail where id < 5", expect: { rows: 4 } }`)
  // One that is in the way; one that the index does not have, and one that it will not have.
  await sql(
    "insert into people (id, mail, left_at) values (12, 'p2', null), (13, 'p3', '2026-01-01'), (14, 'p4', null)",
  )
  const { card, run, rollbackId } = await undo(of, "u")
  const said = "1 cannot come back: people.2 (another row has its mail, left_at)"
  expect(card).toMatchObject({ rows: 3, warnings: [said] })
  expect(card.changes.map(({ row }) => row)).not.toContain("people.2")
  expect(await run()).toMatchObject({ outcome: "succeeded", rows: 3, issues: [said] })
  expect(await list("select mail as v from people where id < 5 order by id")).toEqual(["P1", "was P2", "P3", "P4"])
  const back = await undo(rollbackId, "undo-u")
  expect(await back.run()).toMatchObject({ outcome: "succeeded", rows: 3, issues: [] })
  expect(await list("select count(*)::int as v from people where mail like 'was %'")).toEqual([4])
})

it("rows that handed their values on to one another are in nobody's way", async () => {
  const of = await ran(`- { id: u, sql: "update people set nick = 'n' || id + 1 where id > 0", expect: { rows: 6 } }`)
  const { card, run } = await undo(of, "u")
  expect(card).toMatchObject({ rows: 6, warnings: [] })
  expect(await run()).toMatchObject({ outcome: "succeeded", rows: 6, issues: [] })
  expect(await list("select nick as v from people order by id")).toEqual(["n1", "n2", "n3", "n4", "n5", "n6"])
})

it("a row whose parent is gone since stays away, and a foreign key that was emptied stays so", async () => {
  const of = await ran(
    `- { id: d, sql: "delete from people where id in (1, 2)", expect: { rows: 2 } }`,
    `- { id: p, purge: { table: teams, where: "id = 1", cascade: [people], at_most: 9, max_share: 100% }, expect: { rows: 1 } }`,
  )
  await sql("insert into teams values (9, 'other')")
  await sql("delete from teams where id = 2")
  const removed = await undo(of, "d")
  // Person 2 was of team 1, which a later step of that run removed and its undo brings first; person 1 was of team 2.
  expect(removed.card.warnings).toEqual([])
  const team = await undo(of, "p")
  expect(await team.run()).toMatchObject({ outcome: "succeeded", rows: 1 + 2, issues: [] })
  expect(await removed.run()).toMatchObject({
    outcome: "succeeded",
    rows: 1,
    issues: ["1 cannot come back: people.1 (its row of teams is gone)"],
  })
  const alone = await ran(`- { id: d, sql: "delete from people where id = 2", expect: { rows: 1 } }`)
  await sql("delete from teams where id = 1")
  const { card, run } = await undo(alone, "d")
  expect(card).toMatchObject({ rows: 0, warnings: ["1 cannot come back: people.2 (its row of teams is gone)"] })
  expect(await run()).toMatchObject({ outcome: "succeeded", rows: 0 })
})

it("a row that lost its parent and is gone since is named, and the others have their parent again", async () => {
  const of = await ran(
    `- { id: p, purge: { table: teams, where: "id = 1", cascade: [people], at_most: 9, max_share: 100% }, expect: { rows: 1 } }`,
  )
  await sql("delete from people where id = 4")
  const { card, run } = await undo(of, "p")
  const said = "1 changed since and left as they are: people.4"
  expect(card.warnings).toEqual([said])
  expect(await run()).toMatchObject({ outcome: "succeeded", rows: 1 + 2, issues: [said] })
  expect(await list("select id as v from people where team_id = 1 order by 1")).toEqual([2, 6])
})

it("a row that lost its parent and was removed by a later step of the same run is back when it is its turn", async () => {
  const of = await ran(
    `- { id: p, purge: { table: teams, where: "id = 1", cascade: [people], at_most: 9, max_share: 100% }, expect: { rows: 1 } }`,
    `- { id: d, sql: "delete from people where id = 4", expect: { rows: 1 } }`,
  )
  const { card, run } = await undo(of, "p")
  expect(card).toMatchObject({ rows: 1 + 3, warnings: [] })
  expect(await (await undo(of, "d")).run()).toMatchObject({ outcome: "succeeded", rows: 1, issues: [] })
  expect(await run()).toMatchObject({ outcome: "succeeded", rows: 1 + 3, issues: [] })
})

it("a value that a later step of the same run gave to another row is no obstacle on the card, nor at its turn", async () => {
  const of = await ran(
    `- { id: d, sql: "delete from answers where id = 8", expect: { rows: 1 } }`,
    `- { id: i, sql: "insert into answers values (208, 8, 0, 'new')", expect: { rows: 1 } }`,
  )
  const first = await undo(of, "d")
  expect(first.card).toMatchObject({ rows: 1, warnings: [] })
  expect(await (await undo(of, "i")).run()).toMatchObject({ outcome: "succeeded", rows: 1, issues: [] })
  expect(await first.run()).toMatchObject({ outcome: "succeeded", rows: 1, issues: [] })
})

it("a unique value goes back from row to row in the order in which it becomes free", async () => {
  await sql("create table if not exists places (id integer primary key, place integer unique); truncate places")
  await sql("insert into places select n, n from generate_series(1, 50) n")
  const of = await ran(`- { id: u, sql: "update places set place = place - 1 where id > 0", expect: { rows: 50 } }`)
  // The rows stand in their old order again: the first to be met would take the place of the second.
  await sql("cluster places using places_pkey")
  const { card, run } = await undo(of, "u")
  expect(card).toMatchObject({ rows: 50, warnings: [] })
  expect(await run()).toMatchObject({ outcome: "succeeded", rows: 50, issues: [] })
  expect(await list("select place as v from places order by id")).toEqual(Array.from({ length: 50 }, (_, n) => n + 1))
})

it("a row that waits for the value of one that stays is left too and named, the others come back", async () => {
  await sql("drop table if exists places; create table places (id integer primary key, place integer unique)")
  await sql("insert into places values (1, 10), (2, 20), (3, 30), (4, 400), (5, 500)")
  const of = await ran(`- { id: u, sql: "update places set place = place - 10 where id > 0", expect: { rows: 5 } }`)
  await sql("insert into places values (9, 30)")
  const { run } = await undo(of, "u")
  const said =
    "3 cannot come back: places.1 (another row has its place), places.2 (another row has its place), places.3 (another row has its place)"
  expect(await run()).toMatchObject({ outcome: "succeeded", rows: 2, issues: [said] })
  await sql("delete from places where id = 9")
  const again = await undo(of, "u")
  expect(await again.run()).toMatchObject({ outcome: "succeeded", rows: 3, issues: [] })
  expect(await list("select place as v from places order by id")).toEqual([10, 20, 30, 400, 500])
})

it("a row that refers to another for a part of its time is no orphan", async () => {
  const knows = await list("select current_setting('server_version_num')::int >= 180000 as v")
  if (knows[0] !== true) return
  await sql(`create extension if not exists btree_gist; drop table if exists uses, rates;
    create table rates (id integer, valid daterange, primary key (id, valid without overlaps));
    create table uses (id integer primary key, rate integer, valid daterange, foreign key (rate, period valid) references rates (id, period valid));
    insert into rates values (1, '[2026-01-01,2026-02-01)'); insert into uses values (1, 1, '[2026-01-05,2026-01-08)')`)
  const of = await ran(`- { id: d, sql: "delete from uses where id = 1", expect: { rows: 1 } }`)
  const { card, run } = await undo(of, "d")
  expect(card).toMatchObject({ rows: 1, warnings: [] })
  expect(await run()).toMatchObject({ outcome: "succeeded", rows: 1, issues: [] })
})

it.each([
  [
    "a rule that came since",
    "alter table places add constraint small check (place < 3) not valid",
    "small forbids it now",
  ],
  [
    "a rule that older rows need not meet",
    "alter table places add check (place <> 4) not valid",
    "places_place_check forbids it now",
  ],
  [
    "a column that may not be empty any more",
    "update places set note = ''; alter table places alter note set not null",
    "note may not be empty now",
  ],
  [
    "an exclusion",
    "alter table places add exclude using gist (during with &&); insert into places values (9, 9, 'x', '[30,50)')",
    "another row is in the way of its during",
  ],
])("%s keeps a row away, and no other", async (_name, ddl, why) => {
  await sql(`drop table if exists places; create table places (id integer primary key, place integer, note text, during int4range);
    insert into places select n, n, case when n = 4 then null else 'x' end, int4range(n * 10, n * 10 + 5) from generate_series(1, 4) n`)
  const removed = await ran(`- { id: d, sql: "delete from places where id > 1", expect: { rows: 3 } }`)
  await sql(ddl)
  const { card, run } = await undo(removed, "d")
  const left = await run()
  expect(left.issues).toEqual(card.warnings)
  expect(left.issues).toEqual([expect.stringContaining(`places.4 (${why})`)])
  expect(left).toMatchObject({ outcome: "succeeded", rows: card.rows })
  expect(await list("select id as v from places where id = 2")).toEqual([2])
})

it("many rows that keep their unique values, or gave them to each other, are looked at and given back as a whole", async () => {
  await sql(`drop table if exists slots;
    create table slots (id integer primary key, mail text unique, place integer unique deferrable);
    insert into slots select n, 'm' || n, n from generate_series(1, 10000) n; analyze slots`)
  const of = await ran(`- { id: u, sql: "update slots set place = place + 1 where id > 0", expect: { rows: 10000 } }`)
  // One by one, or each against all others, they would need minutes.
  const step = { ...undoStepOf(of, "u"), timeoutMs: 10_000 }
  const context = await contextOf({ pool: target.pools.get(target.url) })
  const card = await rehearseStep(step, context)
  expect(card).toMatchObject({ rows: 10_000, warnings: [] })
  const result = await runStep(step, { ...context, rehearsed: card })
  expect(result).toMatchObject({ outcome: "succeeded", rows: 10_000, issues: [] })
  expect(await list("select count(*)::int as v from slots where place = id")).toEqual([10_000])
}, 120_000)

it("a value that a row of the same step was given since stays there, and who had it before is named", async () => {
  const of = await ran(`- { id: u, sql: "update people set nick = 'z' || id where id < 4", expect: { rows: 3 } }`)
  await sql("update people set nick = 'n2' where id = 1")
  const { run } = await undo(of, "u")
  expect(await run()).toMatchObject({
    outcome: "succeeded",
    rows: 1,
    issues: [
      "1 changed since and left as they are: people.1",
      "1 cannot come back: people.2 (another row has its nick)",
    ],
  })
  expect(await list("select nick as v from people where id < 4 order by id")).toEqual(["n2", "z2", "n3"])
})

it("a type whose operators are in a schema that is not searched is compared by them", async () => {
  await sql(`drop schema if exists elsewhere cascade; create schema elsewhere; create extension citext schema elsewhere; create extension ltree schema elsewhere;
    create table elsewhere.trees (path elsewhere.ltree primary key);
    drop table if exists leaves; create table leaves (id integer primary key, name elsewhere.citext unique, path elsewhere.ltree unique references elsewhere.trees, note text);
    insert into elsewhere.trees values ('a.b'), ('a.c'), ('a.d');
    insert into leaves values (1, 'One', 'a.b', 'x'), (2, 'Two', 'a.c', 'x'), (3, 'Three', 'a.d', 'x')`)
  const of = await ran(`- { id: d, sql: "delete from leaves where id > 0", expect: { rows: 3 } }`)
  await sql("insert into leaves values (4, 'ONE', null, 'y'); delete from elsewhere.trees where path::text = 'a.c'")
  const { card, run } = await undo(of, "d")
  const said = "2 cannot come back: leaves.1 (another row has its name), leaves.2 (its row of trees is gone)"
  expect(card).toMatchObject({ rows: 1, warnings: [said] })
  expect(await run()).toMatchObject({ outcome: "succeeded", rows: 1, issues: [said] })
})

it("a time that another row takes by now is no place to come back to", async () => {
  await sql(`create extension if not exists btree_gist; drop table if exists bookings;
    create table bookings (id integer primary key, room integer, span daterange, exclude using gist (room with =, span with &&));
    insert into bookings values (1, 1, '[2026-01-01,2026-01-05)'), (2, 2, '[2026-01-01,2026-01-05)'), (3, 3, '[2026-01-01,2026-01-05)')`)
  const of = await ran(`- { id: d, sql: "delete from bookings where id > 0", expect: { rows: 3 } }`)
  await sql("insert into bookings values (4, 1, '[2026-01-04,2026-01-09)'), (5, 2, '[2026-01-05,2026-01-09)')")
  const { card, run } = await undo(of, "d")
  const said = "1 cannot come back: bookings.1 (another row is in the way of its room, span)"
  expect(card).toMatchObject({ rows: 2, warnings: [said] })
  expect(await run()).toMatchObject({ outcome: "succeeded", rows: 2, issues: [said] })
})

it("of many rows that each took the next one's value all come back, however they lie", async () => {
  await sql(`drop table if exists slots; create table slots (id integer primary key, place integer unique);
    insert into slots select n, n from generate_series(1, 5000) n order by n desc; analyze slots`)
  const of = await ran(`- { id: u, sql: "update slots set place = place + 1 where id > 0", expect: { rows: 5000 } }`)
  await sql("analyze slots; analyze stepback_ledger.before_images")
  const { card, run } = await undo(of, "u")
  expect(card).toMatchObject({ rows: 5_000, warnings: [] })
  expect(await run()).toMatchObject({ outcome: "succeeded", rows: 5_000, issues: [] })
  expect(await list("select count(*)::int as v from slots where place = id")).toEqual([5_000])
})
