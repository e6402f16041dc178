import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest"
import { startPostgresProxy, type PostgresProxy } from "../../playground/faults/proxy.ts"
import type { PlanStep } from "../../src/plans/plan.ts"
import { runStep } from "../../src/steps/definitions.ts"
import { listEntries } from "../../src/steps/ledger.ts"
import { contextOf, freshTarget, stepOf, stepsOf, type TargetFixture } from "./steps-fixture.ts"

let target: TargetFixture
let proxy: PostgresProxy
let step: PlanStep

beforeAll(async () => {
  target = await freshTarget(
    "create table counters (id integer primary key, n integer not null); insert into counters values (1, 0)",
  )
  proxy = await startPostgresProxy(Number(new URL(target.url).port))
  step = await stepOf(`- { id: once, sql: "update counters set n = n + 1 where id = 1", expect: { rows: 1 } }`)
})
afterAll(async () => {
  await proxy.stop()
  await target.stop()
})
beforeEach(() => target.admin.query("update counters set n = 0"))

const counted = async () => (await target.admin.query<{ n: number }>("select n from counters where id = 1")).rows[0]?.n

describe("a link that is cut at COMMIT", () => {
  it.each([
    ["before", 1],
    ["before", 3],
    ["after", 1],
  ] as const)("%s it reached the server, %i times: the effect is there once", async (when, times) => {
    const context = await contextOf({ pool: target.pools.get(proxy.url(target.url)) })
    const before = proxy.cuts()
    proxy.cutAtCommit(when, times)
    expect(await runStep(step, context)).toMatchObject({ outcome: "succeeded", rows: 1, changed: 1 })
    expect(proxy.cuts() - before).toBe(times)
    expect(await counted()).toBe(1)
    expect(await listEntries(target.admin, context.rollbackId)).toEqual(new Set(["once"]))
  })

  it("under steps side by side, now before and now after: each is there once", async () => {
    const steps = await stepsOf(
      Array.from(
        { length: 20 },
        (_, n) => `- { id: s${n}, sql: "update counters set n = n + 1 where id = 1", expect: { rows: 1 } }`,
      ).join("\n"),
    )
    const context = await contextOf({ pool: target.pools.get(proxy.url(target.url)) })
    for (const [n, each] of steps.entries()) {
      proxy.cutAtCommit(n % 2 === 0 ? "before" : "after", 1)
      expect(await runStep(each, context)).toMatchObject({ outcome: "succeeded" })
    }
    proxy.cutAtCommit("after", 10)
    const again = await Promise.all(steps.map((each) => runStep({ ...each, id: `${each.id}-again` }, context)))
    proxy.cutAtCommit("before", 0)
    expect(again.map((result) => result.outcome)).toEqual(steps.map(() => "succeeded"))
    expect(await counted()).toBe(40)
  })
})

describe("a link that is cut in the middle", () => {
  it("is opened again, and the effect is there once", async () => {
    const holder = await target.admin.connect()
    await holder.query("begin; update counters set n = n where id = 1")
    const context = await contextOf({ pool: target.pools.get(proxy.url(target.url)) })
    const running = runStep(step, context)
    await waitingForLock(target)
    proxy.cutAll()
    await holder.query("rollback")
    holder.release()
    expect(await running).toMatchObject({ outcome: "succeeded" })
    expect(await counted()).toBe(1)
  })
})

async function waitingForLock({ admin }: TargetFixture): Promise<void> {
  for (;;) {
    const { rows } = await admin.query(
      "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    )
    if (rows.length > 0) return
  }
}
