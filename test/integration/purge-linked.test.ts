import pg from "pg"
import { afterEach, describe, expect, it } from "vitest"
import type { PlanStep } from "../../src/plans/plan.ts"
import { rehearseStep, runStep } from "../../src/steps/definitions.ts"
import { contextOf, freshTarget, stepOf, type TargetFixture, undoStepOf } from "./steps-fixture.ts"

/** Purges of a table whose rows refer to each other. */
let target: TargetFixture
afterEach(() => target.stop())

/** Threads of ten comments, one under the other, each far from the last in the table, and likes of some. */
const comments = (onDelete: string, more = "") => `
  create table comments (id integer primary key, parent integer references comments ${onDelete}, kind text not null, pad text);
  create table likes (id integer primary key, comment integer not null references comments on delete cascade);
  insert into comments select n, case when n >= 100 then n - 100 end, case when n < 100 and n % 4 = 0 then 'spam' else 'good' end, repeat('x', 300)
    from generate_series(0, 999) n;
  insert into likes select n, n from generate_series(0, 999, 3) n; ${more}`

const all = async () =>
  (
    await target.admin.query(
      "select (select array_agg(c order by id) from comments c)::text, (select array_agg(l order by id) from likes l)::text",
    )
  ).rows

const count = async (of: string) =>
  (await target.admin.query<{ n: number }>(`select count(*)::int as n from ${of}`)).rows[0]?.n

const purging = ({ where = "kind = 'spam'", cascade = "comments, likes", more = "" } = {}) =>
  stepOf(
    `- { id: p, purge: { table: comments, where: "${where}", cascade: [${cascade}], at_most: 900, max_share: 90%, batch: 5${more} }, expect: { rows: rehearsed } }`,
  )

async function rehearse(step: PlanStep) {
  const context = await contextOf({ pool: target.pools.get(target.url) })
  const rehearsal = await rehearseStep(step, context)
  return { context, rehearsal, run: () => runStep(step, { ...context, rehearsed: rehearsal }) }
}

describe("a purge of rows that refer to each other", () => {
  it("does not count none as rows that go along", async () => {
    target = await freshTarget(comments("on delete cascade"))
    const { rows } = await target.admin.query<{ id: number }>("select max(id) as id from comments")
    const { rehearsal } = await rehearse(await purging({ where: `id = ${rows[0]?.id}` }))
    expect(rehearsal).toMatchObject({ rows: 1 })
    expect(rehearsal.warnings).toContain("no other row refers to these: all of them go in one transaction")
  })

  it.each(["on delete cascade", "", "on delete restrict", "deferrable initially deferred"])(
    "takes those below such as match, with what refers to them, and all come back, and go again: %s",
    async (onDelete) => {
      target = await freshTarget(comments(onDelete))
      const before = await all()
      const { context, rehearsal, run } = await rehearse(await purging())
      expect(rehearsal).toMatchObject({
        outcome: "looked",
        note: null,
        rows: 250,
        children: [{ table: "likes", rows: 84 }],
        warnings: ["225 of these rows do not match, but refer to such as do: all of them go in one transaction"],
      })
      expect(await run()).toMatchObject({ outcome: "succeeded", rows: 250, issues: [] })
      expect(await run()).toMatchObject({ outcome: "succeeded", rows: 250 })
      expect([await count("comments"), await count("comments where id % 4 = 0"), await count("likes")]).toEqual([
        750, 0, 250,
      ])
      const undone = await rehearse(undoStepOf(context.rollbackId, "p"))
      expect(await undone.run()).toMatchObject({ outcome: "succeeded", issues: [] })
      expect(await all()).toEqual(before)
      const again = await rehearse(undoStepOf(undone.context.rollbackId, "undo-p"))
      expect(await again.run()).toMatchObject({ outcome: "succeeded", issues: [] })
      expect([await count("comments"), await count("likes")]).toEqual([750, 250])
    },
  )

  it("follows each of its keys to itself, and rows that refer in a ring", async () => {
    target = await freshTarget(
      comments(
        "on delete cascade",
        `alter table comments add thread integer references comments on delete cascade;
         update comments set thread = 0 where id in (7, 11); update comments set parent = 907 where id = 7`,
      ),
    )
    const before = await all()
    // 0 and the nine below it, 7 and 11 that belong to its thread, and the nine below each of those.
    const { context, rehearsal, run } = await rehearse(await purging({ where: "id = 0" }))
    expect(rehearsal).toMatchObject({ outcome: "looked", rows: 30 })
    expect(await run()).toMatchObject({ outcome: "succeeded", rows: 30, issues: [] })
    const undone = await rehearse(undoStepOf(context.rollbackId, "p"))
    expect(await undone.run()).toMatchObject({ outcome: "succeeded", issues: [] })
    expect(await all()).toEqual(before)
  })

  it("takes nothing where more refer to them by now than were approved", async () => {
    target = await freshTarget(comments("on delete cascade"))
    const { run } = await rehearse(await purging())
    await target.admin.query("insert into comments select 5000 + n, 904, 'good', '' from generate_series(1, 30) n")
    const before = await all()
    expect(await run()).toMatchObject({ outcome: "failed", failure: { code: "row_count", statement: "kind = 'spam'" } })
    expect(await all()).toEqual(before)
  })

  it("takes along and keeps what comes to refer to them while it finds them", async () => {
    target = await freshTarget(comments("on delete cascade"))
    const other = new pg.Client({ connectionString: target.url })
    await other.connect()
    await other.query(
      "begin; insert into comments values (5000, 904, 'good', ''); insert into likes values (5000, 5000)",
    )
    const { context, run } = await rehearse(await purging())
    const running = run()
    await expect.poll(() => count("pg_stat_activity where wait_event_type = 'Lock'"), { timeout: 10_000 }).toBe(1)
    await other.query("commit")
    await other.end()
    expect(await running).toMatchObject({ outcome: "succeeded", rows: 251, issues: [] })
    const undone = await rehearse(undoStepOf(context.rollbackId, "p"))
    expect(await undone.run()).toMatchObject({ outcome: "succeeded", issues: [] })
    expect([await count("comments"), await count("likes where id = 5000")]).toEqual([1001, 1])
  })

  it("comes back, and goes not again where that would take along what somebody changed since", async () => {
    target = await freshTarget(comments("on delete cascade"))
    const { context, run } = await rehearse(await purging())
    await run()
    const undone = await rehearse(undoStepOf(context.rollbackId, "p"))
    await undone.run()
    await target.admin.query("update comments set pad = 'changed since' where id = 500")
    const before = await all()
    const again = await rehearse(undoStepOf(undone.context.rollbackId, "undo-p"))
    expect(await again.run()).toMatchObject({
      outcome: "failed",
      failure: {
        code: "children",
        message: expect.stringContaining("1 rows of comments refer to rows that undo would remove"),
      },
    })
    expect(await all()).toEqual(before)
  })

  it("counts them all against its caps", async () => {
    target = await freshTarget(comments("on delete cascade"))
    const { rehearsal } = await rehearse(await purging({ where: "kind = 'spam' or id < 97" }))
    expect(rehearsal).toMatchObject({
      outcome: "unknown",
      note: expect.stringMatching(/970 rows match, at most 900 may go/),
    })
  })

  it.each([
    ["", "likes", "25 rows of comments refer to them: list it in cascade, or remove those first"],
    [
      "on delete set null",
      "comments, likes",
      "comments refers to itself and its rows are only cut loose, which a purge cannot follow",
    ],
  ])("is refused: %s, cascade: [%s]", async (onDelete, cascade, said) => {
    target = await freshTarget(comments(onDelete))
    const before = await all()
    const { rehearsal, run } = await rehearse(await purging({ cascade }))
    expect(rehearsal).toMatchObject({ outcome: "unknown", note: expect.stringContaining(said) })
    expect(await run()).toMatchObject({ outcome: "failed", affected: [] })
    expect(await all()).toEqual(before)
  })
})
