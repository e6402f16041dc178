import { execFile } from "node:child_process"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { Pool } from "pg"
import { afterAll, beforeAll, expect, it, vi } from "vitest"
import { compileCache } from "../../playground/stepback-process.ts"
import type { PlanStep } from "../../src/plans/plan.ts"
import { rehearseStep, runStep } from "../../src/steps/definitions.ts"
import { forgetRun } from "../../src/steps/forget.ts"
import type { Store } from "../../src/store/store.ts"
import { contextOf, freshTarget, stepOf, type TargetFixture, undoStepOf } from "./steps-fixture.ts"
import { freshState, running } from "./store-fixture.ts"

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 })

const root = fileURLToPath(new URL("../..", import.meta.url))
const node = join(root, "node_modules", ".bin", "node")
const bob = "bob, o'neil@example.com"

const plan = `version: 1
environment: shop
title: Shop
target: { postgres: "\${SHOP_URL}" }
approve: { low: { count: 1, from: anyone }, medium: { count: 1, from: anyone }, high: { count: 1, from: anyone } }
components:
  data:
    title: Data
    risk: low
    steps:
      - { id: look, check: "select 1 as one", expect: { values: { one: 1 } } }
`

let target: TargetFixture
let state: { url: string; pool: Pool; store: Store }
let folder: string

beforeAll(async () => {
  target = await freshTarget(`
    create table people (id serial primary key, email text not null, kind text, born date);
    create table letters (id serial primary key, person_id integer references people on delete cascade, words text);
    create table calls (id serial primary key, person_id integer references people on delete set null, email text);
    create index on letters (person_id); create index on calls (person_id);
    insert into people (email, kind) select case when n % 10 = 0 then $$${bob}$$ else 'p' || n || '@example.com' end, 'bad' from generate_series(1, 30) n;
    insert into letters (person_id, words) select id, 'dear ' || id from people;
    insert into calls (person_id, email) select id, email from people;
    insert into people (email, kind) values ($$${bob}$$, 'good'), ('eve@example.com', 'good')`)
  state = await freshState()
  folder = await mkdtemp(join(tmpdir(), "stepback-erase-"))
  await writeFile(join(folder, "shop.yaml"), plan)
})
afterAll(async () => {
  await Promise.all([target.stop(), state.pool.end(), rm(folder, { recursive: true, force: true })])
})

function stepback(...words: string[]): Promise<{ code: number; out: string; err: string }> {
  const env = {
    PATH: process.env["PATH"],
    NODE_COMPILE_CACHE: compileCache,
    DATABASE_URL: state.url,
    SHOP_URL: target.url,
    STEPBACK_PLANS: folder,
  }
  return new Promise((resolve) => {
    const child = execFile(node, ["src/cli.ts", ...words], { cwd: root, env }, (_error, out, err) =>
      resolve({ code: child.exitCode ?? -1, out, err }),
    )
  })
}

const erase = (...words: string[]) => stepback("archive", "erase", "shop", ...words)
const count = async (sql: string) =>
  (await target.admin.query<{ n: number }>(`select count(*)::int as n from ${sql}`)).rows[0]?.n
const end = (id: string) =>
  state.pool.query(
    "update stepback.rollbacks set state = 'succeeded', ended_at = now(), frozen = '{\"keepMs\": 86400000}' where id = $1",
    [id],
  )

/** Runs the step as a worker does, under a rollback of the state database. */
async function go(step: PlanStep, ended = true) {
  const { id } = await running(state.store, { environment: "shop" })
  const context = await contextOf({ pool: target.pools.get(target.url), rollbackId: id })
  const rehearsal = await rehearseStep(step, context)
  const result = await runStep(step, { ...context, rehearsed: rehearsal })
  expect(result).toMatchObject({ outcome: "succeeded", failure: null })
  if (ended) await end(id)
  return { id, step, rehearsal, result }
}

const undoOf = ({ id, step }: { id: string; step: PlanStep }) => undoStepOf(id, step.id)

const purge = `- { id: p, purge: { table: people, where: "kind = 'bad'", cascade: [letters, calls], at_most: 1000, max_share: 100% }, expect: { rows: rehearsed } }`
const update = `- { id: u, sql: "update people set kind = 'seen' where kind = 'good'", expect: { rows: rehearsed } }`

it("takes one person out of archives, before-images and texts; undo brings back the others and says so", async () => {
  const changed = await go(await stepOf(update))
  const purged = await go(await stepOf(purge))
  await state.pool.query("insert into stepback.notes (rollback_id, user_id, text) values ($1, 'U1', $2)", [
    purged.id,
    `lost the mail of ${bob} again`,
  ])
  await target.admin.query(
    "update stepback_ledger.entries set result = jsonb_set(result, '{evidence}', to_jsonb(array[$1::text]))",
    [`saw ${bob}`],
  )
  const listed = await stepback("archive", "list")
  expect(listed.out).toMatch(/^ {2}R-2 {2}people: 30 rows archived, .*, kept until \d{4}-\d\d-\d\d$/m)
  expect(listed.out).toMatch(/^ {2}R-1 {2}people: 2 rows before-images/m)

  const before = await count("stepback_ledger.before_images")
  const asked = await erase("people", `email=${bob}`)
  expect(asked).toMatchObject({ code: 0, err: "" })
  expect(asked.out).toContain("R-1: 1 row of people (before-image) would be erased")
  expect(asked.out).toContain("R-2: 3 rows of people (archived) would be erased")
  expect(asked.out).toContain("R-2: 3 rows of letters (archived, refers to a row that goes) would be erased")
  expect(asked.out).toContain("R-2: 3 rows of calls (archived, refers to a row that goes) would be erased")
  expect(asked.out).toContain("run the same with --yes")
  expect(await count("stepback_ledger.before_images")).toBe(before)

  const done = await erase("people", `email=${bob}`, "--yes")
  expect(done).toMatchObject({ code: 0, err: "" })
  expect(done.out).toContain("R-2: 3 rows of people (archived) erased")
  const { rows: dump } = await target.admin.query<{ table: string }>(
    "select format('%I.%I', schemaname, tablename) as table from pg_tables where schemaname = 'stepback_ledger'",
  )
  for (const { table } of dump) expect(await count(`${table} t where position('o''neil' in t::text) > 0`)).toBe(0)
  const { rows: kept } = await state.pool.query("select text from stepback.notes")
  expect(kept).toEqual([{ text: "lost the mail of (erased) again" }])
  const { rows: audit } = await state.pool.query<{ facts: string }>(
    "select facts from stepback.audit where kind = 'archive_erased' order by rollback_id, entry",
  )
  expect(audit).toHaveLength(4)
  expect(JSON.stringify(audit)).not.toContain("neil")
  expect(await state.store.audit.verify()).toMatchObject({ intact: true })
  expect((await erase("people", `email=${bob}`, "--yes")).out).toContain("Nothing is kept of people with this email.")

  const undone = await go(undoOf(purged))
  const line = /3 rows of people were erased on \d{4}-\d\d-\d\d and are not brought back/
  expect(undone.rehearsal).toMatchObject({ outcome: "looked", rows: 27 + 27 + 27 })
  expect(undone.rehearsal.warnings.join("\n")).toMatch(line)
  expect(undone.result.issues.join("\n")).toMatch(line)
  expect(await count("people where kind = 'bad'")).toBe(27)
  expect(await count("letters")).toBe(27)
  const updated = await go(undoOf(changed))
  expect(updated.result.issues.join("\n")).toMatch(/1 row of people was erased/)
  expect(await count("people where kind = 'good'")).toBe(1)
})

it("says so when everything that a step kept was erased", async () => {
  const changed = await go(
    await stepOf(update.replace("'seen'", "'x'").replace("kind = 'good'", "email = 'eve@example.com'")),
  )
  expect((await erase("public.people", "email=eve@example.com", "--yes")).code).toBe(0)
  const { rehearsal, result } = await go(undoOf(changed))
  expect(rehearsal).toMatchObject({ outcome: "looked", rows: 0, note: expect.stringContaining("erased") })
  expect(result).toMatchObject({ rows: 0, evidence: [expect.stringContaining("1 row of people was erased on")] })
})

it("finds rows that do not fit their table any more", async () => {
  await go(await stepOf(update.replace("'seen'", "'y'").replace("kind = 'good'", "email = 'p1@example.com'")))
  await target.admin.query("alter table people add column since date")
  const { out } = await erase("people", "email=p1@example.com")
  expect(out).toMatch(/1 row of people \(before-image\) would be erased/)
  await target.admin.query("alter table people drop column since")
})

it("takes a person out of follow-ups, of what a watch saw and of the rows of a diff", async () => {
  const { id } = await go(
    await stepOf(update.replace("'seen'", "'z'").replace("kind = 'good'", "email = 'p2@example.com'")),
  )
  const mail = "p2@example.com"
  const write = (text: string, ...values: unknown[]) => state.pool.query(text, [id, ...values])
  await write(
    `insert into stepback.analyses (rollback_id, facts, follow_ups, follow_up_list) values ($1, '{}', $2, $3)
     on conflict (rollback_id) do update set follow_ups = excluded.follow_ups, follow_up_list = excluded.follow_up_list`,
    `call ${mail}`,
    JSON.stringify([{ text: `call ${mail}`, owner: "U1", due: null }]),
  )
  await write(
    "insert into stepback.watches (rollback_id, until, seen, ended_at) values ($1, now(), $2, now())",
    JSON.stringify({ look: { probes: 1, last: `answered ${mail}` } }),
  )
  await write(
    `insert into stepback.confirmations (id, rollback_id, step_id, attempt, instruction, expires_at, kind, answer, answered_by, answered_at, reason)
     values (gen_random_uuid(), $1, 'u', 1, '', now(), 'failure', 'skip', 'U1', now(), $2)`,
    `${mail} is told`,
  )
  await state.pool.query(
    `insert into stepback.baseline_requests (id, environment, what, name, requester_id, channel_id, state, answer)
     select gen_random_uuid(), e, 'diff', 'baseline', 'U1', 'C1', 'posted', $1 from unnest(array['shop', 'other']) e`,
    [JSON.stringify({ kind: "compared", tables: [{ table: "people", changes: [{ before: mail, after: null }] }] })],
  )
  expect((await erase("people", `email=${mail}`)).out).toContain("5 records of what steps did and people wrote")
  expect((await erase("people", `email=${mail}`, "--yes")).code).toBe(0)
  const { rows } = await write(
    `select a.follow_ups, a.follow_up_list -> 0 ->> 'text' as follow_up, w.seen #>> '{look,last}' as seen, c.reason,
       array(select answer #>> '{tables,0,changes,0,before}' from stepback.baseline_requests order by environment) as diffs
     from stepback.analyses a join stepback.watches w using (rollback_id) join stepback.confirmations c using (rollback_id)
     where rollback_id = $1`,
  )
  expect(rows).toEqual([
    {
      follow_ups: "call (erased)",
      follow_up: "call (erased)",
      seen: "answered (erased)",
      reason: "(erased) is told",
      diffs: [mail, "(erased)"],
    },
  ])
})

it("removes snapshots that nothing needs and names the one that stays", async () => {
  const tables = [
    {
      table: "people",
      key: ["id"],
      columns: [{ name: "id" }, { name: "email" }],
      rows: [{ key: ["1"], row: `(1,"${bob}")` }],
    },
  ]
  for (const sha256 of ["a", "b"])
    await state.store.baselines.keep({
      environment: "shop",
      name: "baseline",
      sha256,
      content: JSON.stringify({ tables }),
      tables: [],
      capturedAt: new Date().toISOString(),
      capturedBy: "U1",
    })
  const { out } = await erase("people", `email=${bob}`, "--yes")
  expect(out).toMatch(/^snapshot "baseline" of .* removed$/m)
  expect(out).toMatch(/^! snapshot "baseline" of .* stays/m)
  const { rows } = await state.pool.query("select sha256 from stepback.baselines")
  expect(rows).toEqual([{ sha256: "b" }])
})

it("keeps the newest snapshots, and those that a run may still need", async () => {
  const hash = (n: number) => String(n).padStart(64, "0")
  for (let n = 1; n <= 6; n++)
    await state.store.baselines.keep({
      environment: "prune",
      name: "baseline",
      sha256: hash(n),
      content: "{}",
      tables: [],
      capturedAt: new Date().toISOString(),
      capturedBy: "U1",
    })
  const { id } = await running(state.store, { environment: "prune" })
  await state.pool.query("update stepback.rollbacks set state = 'failed', ended_at = now() where id = $1", [id])
  await state.pool.query("update stepback.rollbacks set frozen = $2 where id = $1", [
    id,
    JSON.stringify({ baseline: hash(2) }),
  ])
  const left = async () =>
    (
      await state.pool.query<{ n: number }>(
        "select sha256::int as n from stepback.baselines where environment = 'prune' order by 1",
      )
    ).rows.map((row) => row.n)
  await state.store.baselines.prune(3)
  expect(await left()).toEqual([2, 4, 5, 6])
  await state.pool.query("update stepback.rollbacks set archive_removed_at = now() where id = $1", [id])
  await state.store.baselines.prune(3)
  expect(await left()).toEqual([4, 5, 6])
})

it("refuses while a rollback goes on, and what names nothing", async () => {
  const { id } = await go(await stepOf(update.replace("'good'", "'nobody'").replace("rehearsed", "0..9")), false)
  expect(await erase("people", "email=x", "--yes")).toMatchObject({
    code: 1,
    err: expect.stringMatching(/^R-\d+ goes on/),
  })
  await end(id)
  for (const [words, sentence] of [
    [["peple", "email=x"], "There is no table peple; rows are kept of"],
    [["people", "mail=x"], "has no column mail"],
    [["people", "id=x"], "cannot be read as integer"],
    [["people", "email"], "is no COLUMN=VALUE"],
    [["people"], "A table and one COLUMN=VALUE"],
    [["people", "email=x", "--yse"], "--yse is no option here"],
  ] as const)
    expect(await erase(...words)).toMatchObject({ code: 1, out: "", err: expect.stringContaining(sentence) })
})

it("takes no name of the ledger's list into a statement that is no archive's", async () => {
  await target.admin.query("create table victim ()")
  const purged = await go(await stepOf(purge.replace("'bad'", "'good'")))
  const forged = "(select 1) x; drop table public.victim; commit; select 1 as rows"
  const known = await target.admin.query<{ name: string }>(
    "select name from stepback_ledger.archives where rollback_id = $1 limit 1",
    [purged.id],
  )
  const rename = "update stepback_ledger.archives set name = $2 where name = $1"
  await target.admin.query(rename, [known.rows[0]?.name, forged])
  const pool = target.pools.get(target.url)
  await expect(forgetRun(pool, purged.id)).rejects.toThrow("no archive of Stepback's, so nothing was done")
  for (const { code, err } of [await stepback("archive", "list"), await erase("people", "email=x", "--yes")]) {
    expect(code).toBe(1)
    expect(err).toContain("no archive of Stepback's")
  }
  const seen = await rehearseStep(undoOf(purged), await contextOf({ pool }))
  expect(seen).toMatchObject({
    outcome: "unknown",
    note: expect.stringMatching(/^the target's stepback_ledger.archives/),
  })
  expect(await count("victim")).toBe(0)
  await target.admin.query(rename, [forged, known.rows[0]?.name])
  await forgetRun(pool, purged.id)
  expect((await stepback("archive", "list")).code).toBe(0)
})

it("lists what is kept wherever it can look, and names the environments where it cannot", async () => {
  const away = plan.replace("environment: shop", "environment: away").replace("SHOP_URL", "AWAY_URL")
  await writeFile(join(folder, "away.yaml"), away)
  try {
    const { code, out, err } = await stepback("archive", "list")
    expect(code).toBe(1)
    expect(err).toMatch(/^away: AWAY_URL is missing/m)
    expect(out).toMatch(/^shop: /m)
  } finally {
    await rm(join(folder, "away.yaml"))
  }
})
