import { randomUUID } from "node:crypto"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import pg from "pg"
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest"
import { findFreePort, startPostgres } from "../../playground/postgres.ts"
import { prepareRun } from "../../src/jobs/rehearse.ts"
import { checkPlanSource } from "../../src/plans/load.ts"
import { rehearseStep, runStep } from "../../src/steps/definitions.ts"
import { contextOf, freshTarget, stepOf, type TargetFixture, undoStepOf } from "./steps-fixture.ts"
import { log } from "./store-fixture.ts"

const schema = `
  create table settings (name text primary key, value text);
  insert into settings values ('engine', '2');
  create table quotes (id integer generated always as identity primary key, kind text, at timestamp, twice integer generated always as (id * 2) stored);
  create table lines (id serial primary key, quote_id integer references quotes on delete cascade);`
const fill = `truncate quotes, lines restart identity;
  insert into quotes (kind, at) select case when n % 10 = 0 then 'bad' else 'good' end, '2026-10-01 09:30' from generate_series(1, 500) n;
  insert into lines (quote_id) select id from quotes`

const purge = `- { id: p, purge: { table: quotes, where: "kind = 'bad'", cascade: [lines], at_most: 1000 }, expect: { rows: rehearsed } }`
const update = `- { id: u, sql: "update settings set value = '1' where name = 'engine'", expect: { rows: 1 } }`

let target: TargetFixture

beforeAll(async () => {
  target = await freshTarget(schema)
})
afterAll(() => target.stop())
beforeEach(() => target.admin.query(fill))

/** The whole rehearsal of a plan with these steps, as a worker makes it. */
async function rehearsePlan(steps: string[], url: string, timeout = "60s") {
  const source = `version: 1
environment: shop
title: Shop
target: { postgres: "\${SHOP_DATABASE_URL}" }
approve: { low: { count: 1, from: anyone }, medium: { count: 1, from: anyone }, high: { count: 2, from: anyone } }
components:
  all:
    risk: low
    steps:
${steps.map((step) => `      ${step.replace("{ id:", `{ timeout: ${timeout}, id:`)}`).join("\n")}
`
  const { plan, problems } = await checkPlanSource("shop.yaml", source)
  if (plan === null) throw new Error(JSON.stringify(problems))
  const selection = { only: null, with: [], parameters: {} }
  const asked = { id: randomUUID(), kind: "rollback" as const, environment: "shop", selection }
  return prepareRun(asked, new AbortController().signal, {
    plans: { load: async () => ({ plans: new Map([["shop", plan]]), invalid: [] }) },
    targets: target.pools,
    environment: { SHOP_DATABASE_URL: url },
    log,
  })
}

async function go(yaml: string) {
  const step = await stepOf(yaml)
  const context = await contextOf({ pool: target.pools.get(target.url) })
  const rehearsal = await rehearseStep(step, context)
  return { step, context, rehearsal, run: () => runStep(step, { ...context, rehearsed: rehearsal }) }
}

const count = async (sql: string) =>
  (await target.admin.query<{ n: number }>(`select count(*)::int as n from ${sql}`)).rows[0]?.n

describe("at the rehearsal", () => {
  it("a target that is down is said, raises the risk, and leaves absolute expectations approvable", async () => {
    const url = `postgres://nobody:x@127.0.0.1:${await findFreePort()}/none`
    const run = await rehearsePlan([update, purge, "- { id: c, check: select 1 as one }"], url)
    expect(run.policy).toMatchObject({ risk: "medium", count: 1 })
    expect(run.policy.riskReasons[0]).toMatch(/the target database could not be looked at: .*ECONNREFUSED/)
    const unseen = { outcome: "unknown", rows: null, note: "the target database is not reachable" }
    expect(run.rehearsal.steps).toMatchObject([unseen, unseen, unseen])
    const context = await contextOf({ pool: target.pools.get(target.url) })
    // The database is back: a count that nobody saw is nobody's approval.
    const [absolute, rehearsed] = [await stepOf(update), await stepOf(purge)]
    expect(await runStep(absolute, { ...context, rehearsed: run.rehearsal.steps[0] ?? null })).toMatchObject({
      outcome: "succeeded",
    })
    expect(await runStep(rehearsed, { ...context, rehearsed: run.rehearsal.steps[1] ?? null })).toMatchObject({
      outcome: "failed",
      affected: [],
      failure: { code: "not_rehearsed" },
    })
    expect(await count("quotes")).toBe(500)
  })

  it("a standby is refused, with what to do", { timeout: 60_000 }, async () => {
    const dataDir = await mkdtemp(join(tmpdir(), "stepback-standby-"))
    const first = await startPostgres({ dataDir })
    await first.stop()
    await writeFile(join(dataDir, "data", "standby.signal"), "")
    const standby = await startPostgres({ dataDir })
    try {
      await expect(rehearsePlan([update], standby.url())).rejects.toThrow(
        "the target is a standby and takes no writes: point the plan at the primary",
      )
    } finally {
      await standby.stop()
      await rm(dataDir, { recursive: true, force: true })
    }
  })

  it("a database that takes no writes by default is refused, before anybody approves what cannot run", async () => {
    const { rows } = await target.admin.query<{ name: string }>("select quote_ident(current_database()) as name")
    await target.admin.query(`alter database ${rows[0]?.name} set default_transaction_read_only = on`)
    await target.pools.close()
    try {
      await expect(rehearsePlan([update], target.url)).rejects.toThrow(
        "the target takes no writes: default_transaction_read_only is on for this role or database: find out why, and switch it off",
      )
    } finally {
      await target.admin.query(`alter database ${rows[0]?.name} reset default_transaction_read_only`)
      await target.pools.close()
    }
  })

  it("a table too large to count in time is unknown, and the risk goes up", async () => {
    const slow = purge.replace("kind = 'bad'", "kind = 'bad' and pg_sleep(0.2) is not null")
    const run = await rehearsePlan([slow], target.url, "1s")
    expect(run.rehearsal.steps[0]).toMatchObject({
      outcome: "unknown",
      rows: null,
      note: "too many rows to count in time",
    })
    expect(run.policy.risk).toBe("medium")
  })

  it("triggers are listed; one that calls out raises the risk", async () => {
    await target.admin.query(`create function stamp() returns trigger language plpgsql as 'begin return old; end';
      create trigger stamps before delete on quotes for each row execute function stamp()`)
    const calm = await rehearsePlan([purge], target.url)
    expect(calm.rehearsal.steps[0]?.warnings).toEqual(["trigger stamps on quotes fires"])
    expect(calm.policy.risk).toBe("low")
    await target.admin
      .query(`create function call_out() returns trigger language plpgsql as 'begin perform pg_notify(''gone'', old.id::text); return old; end';
      create trigger calls before delete on lines for each row execute function call_out()`)
    const loud = await rehearsePlan([purge], target.url)
    expect(loud.policy).toMatchObject({
      risk: "medium",
      riskReasons: [expect.stringContaining("trigger calls on lines reaches beyond the database")],
    })
    await target.admin.query("drop function stamp, call_out cascade")
  })

  it("a timestamp without a zone, by which rows are chosen, is a warning; one that is only written is none", async () => {
    const by = { purge: "kind = 'bad' and at > '2026-10-01T09:00:00Z'", update: "at = '2026-10-01 09:30' and id = 1" }
    const run = await rehearsePlan(
      [
        purge.replace("kind = 'bad'", by.purge),
        `- { id: u, sql: "update quotes set kind = 'x' where ${by.update}", expect: { rows: 1 } }`,
        `- { id: w, sql: "update quotes set at = now() where id = 2", expect: { rows: 1 } }`,
        `- { id: j, sql: "delete from lines l using quotes q where q.id = l.quote_id and q.at > now() and l.id < 0", expect: { rows: 0 } }`,
        `- { id: s, purge: { table: lines, where: "quote_id in (select id from quotes where at > now())", at_most: 9 } }`,
        `- { id: c, check: "select count(*) as n from quotes as q join lines as l on l.quote_id = q.id and q.at < now() where l.id > 0", expect: { rows: 1 } }`,
        `- { id: d, check: "select at from quotes where id = 1", expect: { rows: 1 } }`,
      ],
      target.url,
    )
    const said = ["quotes.at has no time zone: rows are chosen by it as if it were UTC"]
    expect(run.rehearsal.steps.map(({ warnings }) => warnings)).toEqual([said, said, [], said, said, said, []])
    expect(run.policy.risk).toBe("low")
  })

  it("row-level security that hides rows is an error, never a smaller count", async () => {
    const role = `app_${randomUUID().slice(0, 8)}`
    await target.admin
      .query(`create role ${role} login password 'app'; grant all on all tables in schema public to ${role}; grant usage, create on schema public to ${role};
      grant usage on schema stepback_ledger to ${role}; grant all on all tables in schema stepback_ledger to ${role};
      alter table lines enable row level security; create policy mine on lines using (id % 2 = 0)`)
    const url = Object.assign(new URL(target.url), { username: role, password: "app" }).href
    try {
      const run = await rehearsePlan([purge], url)
      expect(run.rehearsal.steps[0]).toMatchObject({
        outcome: "unknown",
        rows: null,
        note: expect.stringContaining("row-level security"),
      })
      const step = await stepOf(purge)
      const context = await contextOf({ pool: target.pools.get(url) })
      const rehearsal = {
        ...(run.rehearsal.steps[0] as NonNullable<(typeof run.rehearsal.steps)[0]>),
        rows: 50,
        total: 500,
      }
      expect(await runStep(step, { ...context, rehearsed: rehearsal })).toMatchObject({
        outcome: "failed",
        failure: { code: "42501" },
      })
      expect(await count("quotes")).toBe(500)
    } finally {
      await target.admin.query(
        `alter table lines disable row level security; drop policy mine on lines; drop owned by ${role}; drop role ${role}`,
      )
    }
  })
})

describe("during the run", () => {
  it("a lock that somebody holds: pid, age and query are named, and what is gone by then is told", async () => {
    const holder = new pg.Client({ connectionString: target.url })
    await holder.connect()
    const { rows } = await holder.query<{ pid: number }>("select pg_backend_pid() as pid")
    await holder.query("begin; update quotes set at = at where id = 10 /* a colleague's */")
    const { run } = await go(purge.replace("{ id:", "{ timeout: 1s, id:"))
    const result = await run()
    await holder.query("rollback")
    await holder.end()
    expect(result).toMatchObject({ outcome: "failed", affected: [], failure: { code: "55P03" } })
    expect(result.failure?.detail).toMatch(new RegExp(`held by pid ${rows[0]?.pid} for 00:00:\\d\\d .*a colleague's`))
    expect(await run()).toMatchObject({ outcome: "succeeded", rows: 50 })
  })

  it("a table that somebody locks: the same at the look, for a check, and for a purge that only counts", async () => {
    const check = `- { id: look, check: "select count(*) as n from quotes", timeout: 1s, expect: { values: { n: 500 } } }`
    const [counting, looking] = [await go(purge.replace("{ id:", "{ timeout: 1s, id:")), await go(check)]
    const holder = new pg.Client({ connectionString: target.url })
    await holder.connect()
    const { rows } = await holder.query<{ pid: number }>("select pg_backend_pid() as pid")
    await holder.query("begin; lock table quotes /* a colleague's */")
    const named = expect.stringMatching(new RegExp(`held by pid ${rows[0]?.pid} for .*a colleague's`)) as unknown
    const results = [await counting.run(), await looking.run()]
    const rehearsal = (await go(purge.replace("{ id:", "{ timeout: 1s, id:"))).rehearsal
    await holder.query("rollback")
    await holder.end()
    for (const result of results)
      expect(result).toMatchObject({ outcome: "failed", affected: [], failure: { code: "55P03", detail: named } })
    expect(rehearsal).toMatchObject({ outcome: "unknown", note: named })
  })

  it.each([
    [purge, "alter table lines add column extra integer"],
    [purge, "alter table quotes alter column kind type varchar(10)"],
    [update, "alter table settings add column extra integer"],
  ])("a schema that changed since the rehearsal is refused and told: %s after %s", async (yaml, ddl) => {
    const { run } = await go(yaml)
    await target.admin.query(ddl)
    const result = await run()
    expect(result).toMatchObject({
      outcome: "failed",
      affected: [],
      failure: { message: expect.stringContaining("changed since the rehearsal") },
    })
    expect([await count("quotes"), await count("settings where value = '9'")]).toEqual([500, 0])
  })

  it("sequences are never rewound, identity and generated columns come back as they were", async () => {
    const { run, context } = await go(purge)
    expect(await run()).toMatchObject({ outcome: "succeeded", rows: 50 })
    await target.admin.query("insert into quotes (kind) values ('new')")
    const undo = undoStepOf(context.rollbackId, "p")
    const undone = await contextOf({ pool: target.pools.get(target.url) })
    expect(await runStep(undo, undone)).toMatchObject({ outcome: "succeeded", rows: 100 })
    const { rows } = await target.admin.query("insert into quotes (kind) values ('newer') returning id, twice")
    expect(rows).toEqual([{ id: 502, twice: 1004 }])
    expect(await count("quotes where id = 10 and twice = 20")).toBe(1)
  })

  it("a target that was restored meanwhile has lost ledger and effect together: the run says so, undo has nothing", async () => {
    const { run, context, step } = await go(purge)
    await target.admin.query("delete from stepback_ledger.fence where rollback_id = $1", [context.rollbackId])
    expect(await run()).toMatchObject({
      outcome: "failed",
      affected: [],
      failure: { code: "ledger_lost", message: expect.stringContaining("restored or replaced meanwhile") },
    })
    expect(await count("quotes")).toBe(500)
    const undo = undoStepOf(context.rollbackId, step.id)
    const looked = await contextOf({ pool: target.pools.get(target.url) })
    expect(await rehearseStep(undo, looked)).toMatchObject({
      outcome: "unknown",
      note: expect.stringContaining("there is no way back"),
    })
    expect(await runStep(undo, looked)).toMatchObject({ outcome: "failed", failure: { code: "nothing_kept" } })
  })

  it("a state database that was rebuilt: the same step of another rollback is another step", async () => {
    const first = await go(purge)
    expect(await first.run()).toMatchObject({ outcome: "succeeded", rows: 50 })
    await target.admin.query("insert into quotes (kind) select 'bad' from generate_series(1, 7)")
    const second = await go(purge)
    expect(await second.run()).toMatchObject({ outcome: "succeeded", rows: 7 })
    const undone = await contextOf({ pool: target.pools.get(target.url) })
    expect(await runStep(undoStepOf(second.context.rollbackId, "p"), undone)).toMatchObject({
      outcome: "succeeded",
      rows: 7,
    })
  })

  it("everything is UTC, whatever the database is set to", async () => {
    const { rows } = await target.admin.query<{ name: string }>("select quote_ident(current_database()) as name")
    await target.admin.query(`alter database ${rows[0]?.name} set timezone = 'Australia/Lord_Howe'`)
    await target.pools.close()
    const { rehearsal, run } = await go(
      `- { id: t, sql: "update quotes set at = timestamptz '2026-10-01T09:30:00Z' where at = '2026-10-01T09:30:00Z'::timestamptz::timestamp and id = 1", expect: { rows: 1 } }`,
    )
    expect(rehearsal).toMatchObject({ rows: 1, changed: 0 })
    expect(await run()).toMatchObject({ outcome: "succeeded", rows: 1, changed: 0 })
    await target.admin.query(`alter database ${rows[0]?.name} reset timezone`)
  })
})
