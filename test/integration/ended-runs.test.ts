import { randomUUID } from "node:crypto"
import { once } from "node:events"
import { readFile, writeFile } from "node:fs/promises"
import { createServer, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { afterAll, beforeAll, beforeEach, expect, inject, it } from "vitest"

import { approve } from "../../src/commands/approve.ts"
import { retry } from "../../src/commands/reopen.ts"
import { requestUndo } from "../../src/commands/undo.ts"
import { forgetOverdue } from "../../src/jobs/forget.ts"
import { watchOnce } from "../../src/jobs/watch.ts"
import { LostLeaseError } from "../../src/errors.ts"
import { closeStep, openStep, raiseFence } from "../../src/steps/ledger.ts"
import { stepResult } from "../../src/steps/step.ts"
import { createTargetPools, withClient } from "../../src/steps/target.ts"
import type { StoredRollback } from "../../src/store/rows.ts"
import { as, plan, startTown, type Town } from "./two-people-town.ts"

let town: Town

beforeAll(async () => {
  town = await startTown(inject("postgresUrl"))
})
beforeEach(() => town.reset())
afterAll(() => town.stop())

const age = (card: StoredRollback, time: string) =>
  town.state.query("update stepback.rollbacks set ended_at = now() - $2::interval where id = $1", [card.id, time])
const removed = async (card: StoredRollback) => {
  await forgetOverdue(town.workDeps)
  const rows = await town.store.outbox.listUnsent(card.id)
  return rows.flatMap(({ body }) => (body.kind === "text" && body.text.includes("removed") ? [body.text] : []))
}

it("what a run keeps stays while an undo of it is on its way, and is removed after its time", async () => {
  town.written.source = `${plan}archive: { keep: 6h }\n`
  const run = await town.ran()
  expect(run.state).toBe("succeeded")
  await age(run, "7 hours")
  const undo = await requestUndo(run, { channelId: "C0SHOP", actor: as("U0ALICE") }, town.deps)
  if (undo.kind !== "requested") throw new Error(JSON.stringify(undo))
  await town.work(undo.rollback.id)
  expect(await removed(run)).toEqual([])
  await town.press(await town.get(undo.rollback))
  expect(await removed(run)).toEqual([])
  await town.work(undo.rollback.id)
  expect(await town.get(undo.rollback)).toMatchObject({ state: "succeeded" })
  expect(await town.version()).toBe("2")
  expect(await removed(run)).toEqual([
    expect.stringMatching(/^What this run kept \(1 rows\) was removed after 6 hours:/),
  ])
})

it.each(["undo", "Retry"])("what a run keeps stays where its %s comes at the moment of the removal", async (wish) => {
  town.written.source = `${plan}  last: { risk: low, steps: [{ id: last, check: "select 1 as n where false", expect: { rows: 1 } }] }\n`
  const run = await town.ran()
  expect(run.state).toBe("failed")
  await age(run, "31 days")
  const kept = async () => {
    const { rows } = await town.target.query<{ n: number }>(
      "select count(*)::int as n from stepback_ledger.before_images where rollback_id = $1",
      [run.id],
    )
    return rows[0]?.n
  }
  expect(await kept()).toBe(1)
  const listOverdue = async (limit: number) => {
    const listed = await town.store.archives.listOverdue(limit)
    const asked = { actor: as("U0ALICE"), channelId: "C0SHOP" }
    if (wish === "undo") expect(await requestUndo(run, asked, town.deps)).toMatchObject({ kind: "requested" })
    else {
      const again = { actor: "U0ALICE", requestKey: null, skips: null }
      expect(await town.store.rollbacks.reopen(run.id, again)).toMatchObject({ kind: "moved" })
    }
    return listed
  }
  const store = { ...town.store, archives: { ...town.store.archives, listOverdue } }
  await forgetOverdue({ ...town.workDeps, store })
  expect(await kept()).toBe(1)
})

const setsOne = `{ id: one, sql: "update config set value = '1' where key = 'version'", expect: { rows: 1 } }`
/** On top of what the other step left; as the first of two it finds nothing before `quotes` has a row. */
const adds = (more: string, where = "") =>
  `{ id: more, ${more}, sql: "update config set value = value || 'x' where key = 'version'${where}", expect: { rows: 1 } }`
const later = adds("on_failure: continue", " and exists (select from quotes)")

it.each([
  [
    "stands before what it needs",
    `{ data: { risk: low, parallel: true, steps: [${adds("needs: [one]")}, ${setsOne}] } }`,
  ],
  ["was done by a Retry, after a later one", `{ data: { risk: low, steps: [${later}, ${setsOne}] } }`],
  [
    "was done by a Retry, after a later component",
    `{ data: { risk: low, steps: [${later}] }, rest: { risk: low, steps: [${setsOne}] } }`,
  ],
])("an undo takes back first what was done last, where a step %s", async (_, components) => {
  town.written.source = `${plan.slice(0, plan.indexOf("components:"))}components: ${components}\n`
  const run = await town.ran()
  if (run.state === "failed") {
    await town.target.query("insert into quotes values (1, '5')")
    expect(await retry(run, as("U0ALICE"), town.deps)).toMatchObject({ kind: "reopened" })
    await town.work(run.id)
  }
  expect(await town.version()).toBe("1x")
  const undo = await requestUndo(await town.get(run), { channelId: "C0SHOP", actor: as("U0ALICE") }, town.deps)
  if (undo.kind !== "requested") throw new Error(JSON.stringify(undo))
  await town.work(undo.rollback.id)
  await town.press(await town.get(undo.rollback))
  await town.work(undo.rollback.id)
  expect((await town.store.runs.listSteps(undo.rollback.id)).map(({ result }) => result?.issues)).toEqual([[], []])
  expect(await town.version()).toBe("2")
})

it("what two workers remove at once is on record once", async () => {
  const run = await town.ran()
  await age(run, "31 days")
  // The other comes behind the removal and before the word of it.
  const { archives } = town.store
  const markRemoved: typeof archives.markRemoved = async (...said) => {
    await forgetOverdue(town.workDeps)
    await archives.markRemoved(...said)
  }
  await forgetOverdue({ ...town.workDeps, store: { ...town.store, archives: { ...archives, markRemoved } } })
  const entries = (await town.store.audit.list(run.id)).filter(({ kind }) => kind === "archive_removed")
  expect(entries).toHaveLength(1)
})

it("a worker that was frozen before it came to its target does nothing there when it wakes after a Stop", async () => {
  const card = await town.card()
  await town.press(card)
  const frozen = await town.store.runs.claim(card.id, "frozen", 60_000)
  await town.state.query(
    "update stepback.rollbacks set started_at = now() - interval '10 s', lease_until = now() - interval '1 s' where id = $1",
    [card.id],
  )
  expect(await town.store.rollbacks.requestStop(card.id, "U0ALICE", null)).toMatchObject({ kind: "moved" })
  await town.work(card.id)
  expect(await town.get(card)).toMatchObject({ state: "stopped" })
  const pool = createTargetPools(town.workDeps.log).get(town.environment["SHOP_DATABASE_URL"] ?? "")
  const key = { rollbackId: card.id, epoch: frozen?.epoch ?? 0, digest: frozen?.digest ?? "" }
  await expect(raiseFence(pool, key)).rejects.toThrow(LostLeaseError)
  await pool.end()
})

/** A run of which a worker was frozen behind its fence, before its first step in the target; what it begins is begun. */
async function frozenBehindItsFence(begun: string | null) {
  const card = await town.card({ with: ["service"] })
  await town.press(card)
  const frozen = await town.store.runs.claim(card.id, "frozen", 60_000)
  const pool = createTargetPools(town.workDeps.log).get(town.environment["SHOP_DATABASE_URL"] ?? "")
  const key = { rollbackId: card.id, epoch: frozen?.epoch ?? 0, digest: frozen?.digest ?? "" }
  await raiseFence(pool, key)
  if (begun !== null) await town.store.runs.recordIntent(card.id, key.epoch, begun, 1)
  await town.state.query("update stepback.rollbacks set lease_until = now() - interval '1 s' where id = $1", [card.id])
  return { card, pool, key }
}

it.each([
  ["ends, since it cannot go on", "deploy", "failed"],
  ["goes back to its approvers", null, "preparing"],
])("a worker that was frozen behind its fence does nothing when it wakes after its run %s", async (_, begun, state) => {
  const { card, pool, key } = await frozenBehindItsFence(begun)
  await writeFile(join(town.repo, "deploy.sh"), "#!/bin/sh\nexit 0\n")
  await town.work(card.id)
  expect(await town.get(card)).toMatchObject({ state })
  await expect(raiseFence(pool, key)).rejects.toThrow(LostLeaseError)
  await pool.end()
})

it("what a worker that died did in the target is told where its heir cannot go on", async () => {
  const { card, pool, key } = await frozenBehindItsFence("deploy")
  await withClient(pool, async (client) => {
    await openStep(client, key, "set", { timeoutMs: 5_000 })
    const affected = [{ table: "config", did: "changed", rows: 1 } as const]
    await closeStep(client, key, "set", stepResult({ rows: 1, affected }))
  })
  await writeFile(join(town.repo, "deploy.sh"), "#!/bin/sh\nexit 0\n")
  await town.work(card.id)
  expect(await town.get(card)).toMatchObject({ state: "failed", end_reason: expect.stringContaining("a file that") })
  const steps = (await town.store.runs.listSteps(card.id)).map(({ stepId, result }) => [stepId, result?.outcome])
  expect(Object.fromEntries(steps)).toEqual({ deploy: "unknown", set: "succeeded" })
  await pool.end()
})

it("what is another target by now is not written to at the end", async () => {
  const { card, pool } = await frozenBehindItsFence("deploy")
  town.environment["SHOP_DATABASE_URL"] = town.otherUrl
  await town.work(card.id)
  expect(await town.get(card)).toMatchObject({
    state: "failed",
    end_reason: expect.stringContaining("another database"),
  })
  const other = createTargetPools(town.workDeps.log).get(town.otherUrl)
  const { rows } = await other.query("select to_regnamespace('stepback_ledger') as ledger")
  expect(rows).toEqual([{ ledger: null }])
  await Promise.all([pool.end(), other.end()])
})

it("what a run keeps after Retry is removed too", async () => {
  await town.breakTarget()
  const run = await town.ran()
  expect(run.state).toBe("failed")
  await age(run, "31 days")
  expect(await removed(run)).toEqual([expect.stringContaining("(0 rows) was removed after 30 days")])
  await town.mendTarget()
  const asked = { actor: "U0ALICE", requestKey: randomUUID(), skips: null }
  expect(await town.store.rollbacks.reopen(run.id, asked)).toMatchObject({ kind: "moved" })
  await town.work(run.id)
  expect(await town.get(run)).toMatchObject({ state: "succeeded" })
  await age(run, "31 days")
  expect(await removed(run)).toContainEqual(expect.stringContaining("(1 rows) was removed"))
})

it("what came back with the target's backup is removed once more, as the runbook says", async () => {
  const run = await town.ran()
  const images = `stepback_ledger.before_images where rollback_id = '${run.id}'`
  const kept = async () => (await town.target.query(`select from ${images}`)).rowCount
  await town.target.query(`create table backup as select * from ${images}`)
  await age(run, "31 days")
  await removed(run)
  expect(await kept()).toBe(0)
  await town.target.query("insert into stepback_ledger.before_images overriding system value select * from backup")
  await removed(run)
  expect(await kept()).toBe(1)
  const runbook = await readFile(new URL("../../docs/runbook.md", import.meta.url), "utf8")
  const sql = /update stepback\.rollbacks set archive_removed_at = null[^;]*/.exec(runbook)?.[0] ?? ""
  await town.state.query(sql.replace("staging", run.environment).replace("…", "yesterday"))
  expect(await removed(run)).toHaveLength(1)
  expect(await kept()).toBe(0)
})

it("the steps of a watch are probed side by side: slow ones do not add up beyond the time that the watch is held", async () => {
  const held: ServerResponse[] = []
  let together = 1
  const server = createServer((_request, response) => {
    held.push(response)
    if (held.length >= together) for (const each of held.splice(0)) each.end("{}")
  }).listen(0, "127.0.0.1")
  await once(server, "listening")
  const steps = ["a", "b", "c"].map((id) => `      - { id: ${id}, http: { path: /${id} }, timeout: 2s }`)
  town.environment["SHOP_URL"] = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  town.written.source = `${plan}  probes:\n    risk: low\n    steps:\n${steps.join("\n")}\nwatch: { for: 10m, every: 30s, steps: [a, b, c] }\n`
  const run = await town.ran()
  expect(run.state).toBe("succeeded")
  together = 3
  expect(await watchOnce(town.workDeps)).toBe(true)
  server.closeAllConnections()
  server.close()
  const seen = (await town.store.watches.find(run.id))?.seen ?? {}
  expect(Object.entries(seen).map(([id, { probes, failures }]) => ({ id, probes, failures }))).toEqual(
    ["a", "b", "c"].map((id) => ({ id, probes: 1, failures: 0 })),
  )
})

const byHandOf = async ({ id }: StoredRollback) =>
  (await town.store.records.listEscalations(id)).map(({ byHand }) => byHand)

it("a watch hands over what to paste without what was captured from a column that is not shown", async () => {
  town.written.source = `${plan}  seen:
    risk: low
    steps:
      - { id: code, check: select version as code from quotes, capture: { code: code } }
      - id: still
        check: select count(*) as there from quotes where version = $1
        params: [code]
        expect: { values: { there: 1 } }
redact: [version]
watch: { for: 10m, every: 30s, failures: 1, steps: [still] }
`
  await town.target.query("insert into quotes values (1, '4711-hush')")
  const run = await town.ran()
  expect(run.state).toBe("succeeded")
  await town.target.query("truncate quotes")
  expect(await watchOnce(town.workDeps)).toBe(true)
  expect(await byHandOf(run)).toEqual(["select count(*) as there from quotes where version = :'code';"])
})

it("a watch counts the rows of a check against what was rehearsed", async () => {
  const check = `{ id: all, check: select id from quotes, expect: { rows: rehearsed, tolerance: 0% } }`
  town.written.source = `${plan}  seen: { risk: low, steps: [${check}] }
watch: { for: 10m, every: 1ms, failures: 1, steps: [all] }
`
  await town.target.query("insert into quotes values (1, '1'), (2, '1')")
  const run = await town.ran()
  expect(run.state).toBe("succeeded")
  expect(await watchOnce(town.workDeps)).toBe(true)
  expect(await town.store.records.listEscalations(run.id)).toEqual([])
  await town.target.query("delete from quotes where id = 2")
  await town.state.query("update stepback.watches set next_at = now()")
  expect(await watchOnce(town.workDeps)).toBe(true)
  const [call] = await town.store.records.listEscalations(run.id)
  expect(call).toMatchObject({ trigger: "functions_failing", stepId: "all" })
  expect(call?.evidence).toContain("1 rows, 2 expected")
})

it("a Stop at the moment of asking again with new numbers ends the run: nobody is asked", async () => {
  town.written.source = plan.replace("rows: 0..10", "rows: rehearsed")
  await town.target.query("insert into quotes values (1, '1'), (2, '1')")
  const card = await town.card({ with: ["data"] })
  for (const who of ["U0BOB", "U0CAROL"]) await approve({ token: card.token ?? "", actor: as(who) }, town.deps)
  await town.target.query("insert into quotes select n, '1' from generate_series(10, 99) n")
  // With the step's result, after the worker has looked for a Stop.
  await town.state.query(`create function stop_it() returns trigger language plpgsql as $$ begin
      update stepback.rollbacks set stop_requested_at = now(), stop_requested_by = 'U0ALICE'
        where id = new.rollback_id and new.outcome = 'failed';
      return null; end $$;
    create trigger stop_it after insert or update on stepback.step_runs for each row execute function stop_it()`)
  await town.work(card.id)
  await town.state.query("drop function stop_it cascade")
  expect(await town.get(card)).toMatchObject({ state: "failed", stop_requested_by: "U0ALICE" })
})
