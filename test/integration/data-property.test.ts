import { randomUUID } from "node:crypto"
import fc from "fast-check"
import { afterAll, beforeAll, expect, it } from "vitest"
import type { PlanStep } from "../../src/plans/plan.ts"
import { rehearseStep, runStep } from "../../src/steps/definitions.ts"
import { contextOf, freshTarget, stepOf, type TargetFixture, undoStepOf } from "./steps-fixture.ts"

/** PROPERTY_SEED and PROPERTY_PATH, as a failure prints them, play it again. */
const seed = Number(process.env["PROPERTY_SEED"] ?? Math.floor(Math.random() * 2 ** 31))
const path = process.env["PROPERTY_PATH"]
const runs = process.env["STORM"] === "1" ? 1_000 : 60

const types = {
  integer: ["0", "7", "'-2147483648'", "null"],
  numeric: ["1.50", "'NaN'", "'-0.001'", "null"],
  text: ["''", "'a,b'", "e'\"q\\\\'", "null"],
  jsonb: ["'null'", "'{\"n\": 1.10}'", "null"],
  "integer[]": ["'{}'", "'{1,null}'", "null"],
  timestamptz: ["'infinity'", "'2026-10-25 02:30:00+02'", "null"],
  bytea: ["'\\x00ff'", "null"],
  "char(5)": ["'ab'", "null"],
  "double precision": ["'NaN'", "'-0'", "1e-300", "null"],
  interval: ["'1 mon -1 day'", "'-3 mons 00:00:01.5'", "null"],
  int4range: ["'empty'", "'[1,)'", "null"],
  timetz: ["'01:02:03+05:30'", "'24:00:00-02'", "null"],
  inet: ["'10.1.2.3/8'", "'::1'", "null"],
  "bit(3)": ["b'101'", "null"],
  money: ["'-1234.56'", "null"],
  tsvector: ["'a:1A ''it''''s'':2'", "null"],
  mood: ["'calm'", "'cross \"ly\"'", "null"],
  pair: ["row('a,\"b\"', null)", "row(null, '')", "null"],
  positive: ["1", "null"],
} as const
type TypeName = keyof typeof types

const keyActions = ["cascade", "set null", "no action"] as const
type Child = {
  of: "parent" | "child_0"
  action: (typeof keyActions)[number]
  listed: boolean
  rows: number
  fan: number
}
type World = {
  columns: { type: TypeName; values: number[] }[]
  identity: boolean
  generated: boolean
  partitioned: boolean
  rows: number
  bad: number
  children: Child[]
}
type Action =
  | { kind: "purge"; below: number; batch: number }
  | { kind: "update"; column: number; value: number; below: number }
  | { kind: "delete"; below: number }
  | { kind: "insert"; rows: number }

const worlds: fc.Arbitrary<World> = fc.record({
  columns: fc.array(
    fc.record({
      type: fc.constantFrom(...(Object.keys(types) as TypeName[])),
      values: fc.array(fc.nat(3), { minLength: 1, maxLength: 4 }),
    }),
    { minLength: 1, maxLength: 5 },
  ),
  identity: fc.boolean(),
  generated: fc.boolean(),
  partitioned: fc.boolean(),
  rows: fc.integer({ min: 0, max: 300 }),
  bad: fc.integer({ min: 1, max: 9 }),
  children: fc.array(
    fc.record({
      of: fc.constantFrom("parent" as const, "child_0" as const),
      action: fc.constantFrom(...keyActions),
      listed: fc.boolean(),
      rows: fc.integer({ min: 0, max: 200 }),
      fan: fc.integer({ min: 1, max: 5 }),
    }),
    { maxLength: 3 },
  ),
})

const below = fc.integer({ min: 0, max: 320 })
const actions: fc.Arbitrary<Action[]> = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant("purge" as const), below, batch: fc.integer({ min: 1, max: 500 }) }),
    fc.record({ kind: fc.constant("update" as const), column: fc.nat(4), value: fc.nat(3), below }),
    fc.record({ kind: fc.constant("delete" as const), below }),
    fc.record({ kind: fc.constant("insert" as const), rows: fc.integer({ min: 1, max: 30 }) }),
  ),
  { minLength: 1, maxLength: 4 },
)

const literal = (type: TypeName, value: number) => `${types[type][value % types[type].length]}::${type}`

function schemaOf(world: World): string {
  const key = world.identity ? "id integer generated always as identity" : "id integer"
  const columns = world.columns.map(({ type }, n) => `c${n} ${type}`)
  const generated = world.generated ? ["twice integer generated always as (id * 2) stored"] : []
  const body = [key, "kind text not null", ...columns, ...generated, "primary key (id)"].join(", ")
  const names = ["id", "kind", ...world.columns.map((_one, n) => `c${n}`)].join(", ")
  const values = world.columns.map(
    ({ type, values: chosen }) =>
      `(array[${chosen
        .map((value) => literal(type, value))
        .map((text) => (type === "integer[]" ? `array_to_string(${text}, ',', 'null')` : text))
        .join(", ")}])[n % ${chosen.length} + 1]`,
  )
  const cast = world.columns.map(({ type }, n) =>
    type === "integer[]" ? `string_to_array(${values[n]}, ',', 'null')::integer[]` : (values[n] ?? "null"),
  )
  const partitions = world.partitioned
    ? `create table parent_low partition of parent for values from (minvalue) to (150);
       create table parent_high partition of parent for values from (150) to (maxvalue);`
    : ""
  const children = world.children.map((child, n) => {
    const of = n === 0 ? "parent" : child.of
    return `create table child_${n} (id serial primary key, up integer references ${of} on delete ${child.action}, word text);
      insert into child_${n} (up, word) select p.id, 'w' || p.id from (select id from ${of} where id % ${child.fan} = 0 order by id limit ${child.rows}) p;`
  })
  return `create type mood as enum ('calm', 'cross "ly"'); create type pair as (x text, y text);
    create domain positive as integer check (value > 0);
    create table parent (${body}) ${world.partitioned ? "partition by range (id)" : ""};
    ${partitions}
    insert into parent (${names}) overriding system value select n, case when n % 10 < ${world.bad} then 'bad' else 'good' end, ${cast.join(", ")} from generate_series(1, ${world.rows}) n;
    ${children.join("\n")}`
}

async function stepFor(action: Action, world: World, n: number): Promise<PlanStep> {
  const listed = world.children.flatMap((child, index) => (child.listed ? [`child_${index}`] : []))
  const where = `kind = 'bad' and id < ${"below" in action ? action.below : 0}`
  const columns = world.columns.length
  switch (action.kind) {
    case "purge":
      return stepOf(
        `- { id: s${n}, purge: { table: parent, where: "${where}", cascade: [${listed.join(", ")}], at_most: 1000, max_share: 100%, batch: ${action.batch} }, expect: { rows: rehearsed, tolerance: 0% } }`,
      )
    case "update": {
      const type = world.columns[action.column % columns]?.type ?? "text"
      const sql = `update parent set c${action.column % columns} = ${literal(type, action.value)} where ${where}`
      return stepOf(`- { id: s${n}, sql: ${JSON.stringify(sql)}, expect: { rows: rehearsed, tolerance: 0% } }`)
    }
    case "delete":
      return stepOf(
        `- { id: s${n}, sql: "delete from parent where ${where}", expect: { rows: rehearsed, tolerance: 0% } }`,
      )
    case "insert": {
      const head = world.identity
        ? "insert into parent (id, kind) overriding system value"
        : "insert into parent (id, kind)"
      const sql = `${head} select ${1_000 * (n + 1)} + g, 'bad' from generate_series(1, ${action.rows}) g`
      return stepOf(`- { id: s${n}, sql: "${sql}", expect: { rows: rehearsed, tolerance: 0% } }`)
    }
  }
}

let target: TargetFixture

beforeAll(async () => {
  target = await freshTarget("create schema if not exists public")
})
afterAll(() => target.stop())

async function checksums(world: World): Promise<string[]> {
  const sums: string[] = []
  for (const table of ["parent", ...world.children.map((_child, n) => `child_${n}`)]) {
    const { rows } = await target.admin.query<{ sum: string | null }>(
      `select count(*) || md5(string_agg(t::text, '|' order by id)) as sum from ${table} t`,
    )
    sums.push(`${table} ${rows[0]?.sum}`)
  }
  return sums
}

async function go(step: PlanStep, rollbackId: string) {
  const context = await contextOf({ pool: target.pools.get(target.url), rollbackId })
  const rehearsal = await rehearseStep(step, context)
  const result = await runStep(step, { ...context, rehearsed: rehearsal })
  return { step, rehearsal, result }
}

/** Runs the steps as one rollback, then takes them back as another, the last first. */
async function thereAndBack(world: World, plan: Action[]): Promise<void> {
  await target.admin.query(`drop schema public cascade; create schema public; ${schemaOf(world)}`)
  const states = [await checksums(world)]
  const [rollbackId, undoId] = [randomUUID(), randomUUID()]
  const done: Awaited<ReturnType<typeof go>>[] = []
  for (const [n, action] of plan.entries()) {
    const one = await go(await stepFor(action, world, n), rollbackId)
    const now = await checksums(world)
    // A key that acts in no way refuses a plain delete when it runs.
    const referred = action.kind === "delete" && one.result.failure?.code === "23503"
    if (one.rehearsal.outcome === "looked" && !referred) {
      expect(one.result).toMatchObject({ outcome: "succeeded", rows: one.rehearsal.rows, failure: null })
      if (one.rehearsal.changed !== null) expect(one.result.changed).toBe(one.rehearsal.changed)
      for (const { table, rows, action: what } of one.rehearsal.children)
        expect(one.result.affected.find((item) => item.table === table)?.rows ?? 0, `${what} ${table}`).toBe(rows)
      done.push(one)
      states.push(now)
    } else {
      // What the rehearsal refuses, the run refuses, and nothing has changed.
      expect(one.result).toMatchObject({ outcome: "failed", affected: [] })
      expect(now).toEqual(states.at(-1))
    }
  }
  for (const one of done.reverse()) {
    states.pop()
    if (one.result.rows === 0) continue
    const undone = await go(undoStepOf(rollbackId, one.step.id), undoId)
    expect(undone.result).toMatchObject({ outcome: "succeeded", failure: null, issues: [] })
    expect(await checksums(world)).toEqual(states.at(-1))
  }
}

it(`what is rehearsed is what runs, and undo is its inverse (seed ${seed})`, { timeout: runs * 2_000 }, async () => {
  await fc.assert(fc.asyncProperty(worlds, actions, thereAndBack), {
    numRuns: runs,
    seed,
    ...(path === undefined ? {} : { path }),
    interruptAfterTimeLimit: runs * 1_500,
    markInterruptAsFailure: false,
  })
})
