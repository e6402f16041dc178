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

const rows = 24
const some = fc.record({ of: fc.integer({ min: 2, max: 5 }), at: fc.nat(4) })
const what = fc.oneof(
  fc.record({ kind: fc.constantFrom("purge" as const, "name" as const, "value" as const, "children" as const), some }),
  fc.record({ kind: fc.constant("insert" as const) }),
)
type What = typeof what extends fc.Arbitrary<infer T> ? T : never

/** What others do between the run and its undo. `n`: a row of the run's. */
const meddling = fc.record({
  kind: fc.constantFrom("take" as const, "take child" as const, "change" as const, "remove" as const, "anew" as const),
  n: fc.integer({ min: 1, max: rows }),
  name: fc.constantFrom("u", "x"),
})
type Meddling = typeof meddling extends fc.Arbitrary<infer T> ? T : never

let target: TargetFixture
beforeAll(async () => {
  target = await freshTarget("select 1")
})
afterAll(() => target.stop())

const schemaOf = (action: string) => `drop table if exists child, parent;
  create table parent (id integer primary key, name text unique, v text);
  create table child (id integer primary key, up integer references parent on delete ${action}, word text, unique (word));
  insert into parent select n, 'u' || n, 'bad' from generate_series(1, ${rows}) n;
  insert into child select n, 1 + n % ${rows}, 'w' || n from generate_series(1, ${rows}) n`

function stepFor(one: What, n: number): Promise<PlanStep> {
  const where = one.kind === "insert" ? "" : `id % ${one.some.of} = ${one.some.at % one.some.of} and id < 1000`
  const sql = {
    purge: "",
    name: `update parent set name = 'x' || id where ${where}`,
    value: `update parent set v = 's${n}' where ${where}`,
    children: `delete from child where ${where}`,
    insert: `insert into parent select ${1_000 * (n + 1)} + g, 'n${n}' || g, 'new' from generate_series(1, 3) g`,
  }[one.kind]
  return stepOf(
    one.kind === "purge"
      ? `- { id: s${n}, purge: { table: parent, where: "${where}", cascade: [child], at_most: 100, max_share: 100% }, expect: { rows: rehearsed } }`
      : `- { id: s${n}, sql: "${sql}", expect: { rows: rehearsed } }`,
  )
}

function textOf({ kind, n, name }: Meddling, at: number): string {
  const id = 100_000 + at
  switch (kind) {
    case "take":
      return `insert into parent values (${id}, '${name}${n}', 'mine') on conflict do nothing`
    case "take child":
      return `insert into child values (${id}, null, 'w${n}') on conflict do nothing`
    case "change":
      return `update parent set v = 'mine' where id = ${n}`
    case "remove":
      return `delete from parent where id = ${n}`
    case "anew":
      return `insert into parent values (${n}, 'anew${n}', 'mine') on conflict do nothing`
  }
}

type Row = { id: number; text: string; name: string; up: number | null }
type State = Map<string, Row>

async function stateNow(): Promise<State> {
  const { rows: found } = await target.admin.query<Row & { at: string }>(
    `select 'parent.' || id as at, id, p::text as text, name, null::integer as up from parent p
     union all select 'child.' || id, id, c::text, word, up from child c`,
  )
  return new Map(found.map(({ at, ...row }) => [at, row]))
}

async function go(step: PlanStep, rollbackId: string) {
  const context = await contextOf({ pool: target.pools.get(target.url), rollbackId })
  const rehearsed = await rehearseStep(step, context)
  return { step, rehearsed, result: await runStep(step, { ...context, rehearsed }) }
}

/** The names that a row ever had: an undo of several steps may end at any of them. */
const namesOf = (at: string, before: State) => {
  const id = at.split(".")[1] ?? ""
  return [before.get(at)?.name, ...(at.startsWith("parent") ? [`u${id}`, `x${id}`] : [])]
}

async function meddled(action: string, plan: What[], others: Meddling[]): Promise<void> {
  await target.admin.query(schemaOf(action))
  const before = await stateNow()
  const [rollbackId, undoId] = [randomUUID(), randomUUID()]
  const done: Awaited<ReturnType<typeof go>>[] = []
  for (const [n, one] of plan.entries()) {
    const ran = await go(await stepFor(one, n), rollbackId)
    expect(ran.result).toMatchObject({ outcome: "succeeded" })
    if (ran.result.rows !== 0) done.push(ran)
  }
  const after = await stateNow()
  for (const [n, one] of others.entries()) await target.admin.query(textOf(one, n))
  const then = await stateNow()
  const named = new Set<string>()
  for (const { step } of done.toReversed()) {
    const { result } = await go(undoStepOf(rollbackId, step.id), undoId)
    expect(result).toMatchObject({ outcome: "succeeded", failure: null })
    for (const issue of result.issues.filter((text) => text.includes("cannot come back")))
      for (const [at] of issue.matchAll(/(?:parent|child)\.\d+(?= \()/g)) named.add(at)
  }
  const end = await stateNow()
  const touched = (at: string) => after.get(at)?.text !== then.get(at)?.text
  for (const at of new Set([...before.keys(), ...then.keys(), ...end.keys()])) {
    const [was, is] = [before.get(at), end.get(at)]
    // What others did is theirs.
    if (touched(at)) expect([at, is?.text]).toEqual([at, then.get(at)?.text])
    else if (!named.has(at)) expect([at, is?.text]).toEqual([at, was?.text])
    else {
      const names = namesOf(at, before)
      const inTheWay = [...end].some(([other, { name }]) => other !== at && touched(other) && names.includes(name))
      const orphan = was?.up != null && end.get(`parent.${was.up}`) === undefined
      expect([at, inTheWay || orphan]).toEqual([at, true])
    }
  }
}

it(
  `an undo gives back all that others left room for, and nothing of theirs (seed ${seed})`,
  {
    timeout: runs * 2_000,
  },
  async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom("cascade", "set null"),
        fc.array(what, { minLength: 1, maxLength: 3 }),
        fc.array(meddling, { minLength: 1, maxLength: 8 }),
        meddled,
      ),
      {
        numRuns: runs,
        seed,
        ...(path === undefined ? {} : { path }),
        interruptAfterTimeLimit: runs * 1_500,
        markInterruptAsFailure: false,
      },
    )
  },
)
