import { afterAll, beforeAll, beforeEach, expect, inject, it } from "vitest"

import { until } from "../../playground/faults/until.ts"
import { cancel } from "../../src/commands/cancel.ts"
import { decideFailure } from "../../src/commands/confirm.ts"
import { retry, skip } from "../../src/commands/reopen.ts"
import { requestRollback } from "../../src/commands/request.ts"
import { requestUndo } from "../../src/commands/undo.ts"
import { loadView, readRun } from "../../src/commands/view.ts"
import { telling } from "../../src/jobs/telling.ts"
import { watchOnce } from "../../src/jobs/watch.ts"
import { createWorkshop } from "../../src/jobs/work.ts"
import type { StoredRollback } from "../../src/store/rows.ts"
import { as, plan, startTown, type Town } from "./two-people-town.ts"

let town: Town

beforeAll(async () => {
  town = await startTown(inject("postgresUrl"))
})
beforeEach(() => town.reset())
afterAll(() => town.stop())

/** Approved, and worked on to its end. */
const pressed = async (card: StoredRollback) => {
  await town.press(card)
  await town.work(card.id)
  return town.get(card)
}
const asked = async (rehearsalOnly = false) => {
  const request = {
    environment: "shop",
    selection: { only: null, with: [], parameters: {} },
    reason: "prices are off",
    channelId: "C0SHOP",
    actor: as("U0ALICE"),
    rehearsalOnly,
  }
  const outcome = await requestRollback(request, town.deps)
  if (outcome.kind !== "requested") throw new Error(JSON.stringify(outcome))
  return outcome.rollback
}
const passes = (card: { id: string }, time: string) =>
  town.state.query(
    `update stepback.rollbacks set due_at = due_at - $2::interval, expires_at = expires_at - $2::interval where id = $1`,
    [card.id, time],
  )
/** Its time is over, and whoever is to hear of that has. */
const ranOut = async (card: StoredRollback) => {
  await passes(card, "1 hour")
  await town.store.waiting.expire()
  await tell().nobodyApproved()
}
type Call = {
  facts: { trigger: string; headline: string; evidence: string[]; mention: string[] }
  resolved_at: Date | null
}
const callsOf = async ({ id }: { id: string }) =>
  (await town.state.query<Call>("select facts, resolved_at from stepback.escalations where rollback_id = $1", [id]))
    .rows
const tell = () => telling({ ...town.deps, log: town.workDeps.log })
const withMention = `${plan}escalate: { channel: C0OPS, mention: [S0ONCALL] }\n`

it("a request that nobody looks at is said to the people of the plan, and does not hold the environment for good", async () => {
  town.written.source = withMention
  const request = await asked()
  expect(await tell().lostWorkers(30_000)).toBe(0)
  await passes(request, "31 seconds")
  expect(await tell().lostWorkers(30_000)).toBe(1)
  expect(await tell().lostWorkers(30_000)).toBe(0)
  expect((await callsOf(request))[0]?.facts).toMatchObject({ trigger: "worker_lost", mention: ["S0ONCALL"] })
  expect(await town.store.waiting.expire()).toEqual([])
  await passes(request, "1 hour")
  expect(await town.store.waiting.expire()).toEqual([request.id])
  expect(await town.get(request)).toMatchObject({ state: "expired", end_reason: "no worker looked at it in time" })
  expect(await tell().nobodyApproved()).toBe(1)
  expect((await callsOf(request)).map(({ facts }) => facts.headline)).toContain(
    "no worker looked at it in time, nothing was changed",
  )
  await asked()
})

it("a rehearsal that nobody looks at is over after the same time, and nobody is called for it", async () => {
  const rehearsal = await asked(true)
  await passes(rehearsal, "1 hour")
  expect(await tell().lostWorkers(30_000)).toBe(0)
  expect(await town.store.waiting.expire()).toEqual([rehearsal.id])
  expect(await tell().nobodyApproved()).toBe(0)
  expect(await callsOf(rehearsal)).toEqual([])
})

it.each([
  ["taken up", (card: StoredRollback) => town.work(card.id)],
  ["cancelled", (card: StoredRollback) => cancel(card, as("U0ALICE"), town.deps)],
  ["expired", (card: StoredRollback) => ranOut(card)],
])("that nobody goes on with a request is not said any more when it is %s", async (_, end) => {
  const request = await asked()
  await passes(request, "31 seconds")
  expect(await tell().lostWorkers(30_000)).toBe(1)
  await end(request)
  const lost = (await callsOf(request)).find(({ facts }) => facts.trigger === "worker_lost")
  expect(lost?.resolved_at).toBeInstanceOf(Date)
})

it("a run that asked again in its middle and found nobody is not told as one that changed nothing", async () => {
  const more = "  more: { risk: low, steps: [{ id: probe, http: { path: / }, expect: { status: 204 } }] }\n"
  town.written.source = withMention.replace(plan, plan + more)
  const failed = await town.ran()
  expect(failed).toMatchObject({ state: "failed" })
  expect(await skip(failed, "it is another team's", as("U0CAROL"), town.deps)).toMatchObject({ kind: "reopened" })
  await town.work(failed.id)
  const again = await town.get(failed)
  expect(again).toMatchObject({
    state: "awaiting_approval",
    moved: ['step "Probe" will be skipped: it is another team\'s'],
  })
  await passes(again, "2 days")
  expect(await town.store.waiting.expire()).toEqual([failed.id])
  expect(await tell().nobodyApproved()).toBe(1)
  const call = (await callsOf(failed)).find(({ facts }) => facts.trigger === "nobody_approved")
  expect(call?.facts.headline).toBe("it asked again and nobody approved it in time: it is done in part, and stays so")
  expect(call?.facts.evidence[1]).toBe("1 of 2 steps done, the last of them: Set")
})

it("nobody is called any more for a step that went well since, though another goes on failing", async () => {
  const more = "  more: { risk: low, steps: [{ id: probe, http: { path: / }, expect: { status: 204 } }] }\n"
  const goesOn = "expect: { rows: 1 }\n        on_failure: continue\n"
  town.written.source = withMention.replace(plan, plan.replace("expect: { rows: 1 }\n", goesOn) + more)
  await town.breakTarget()
  const failed = await town.ran()
  const open = async () => {
    const calls = await town.store.records.listEscalations(failed.id)
    return new Set(calls.filter(({ resolvedAt }) => resolvedAt === null).map(({ stepId }) => stepId))
  }
  expect(await open()).toEqual(new Set(["set", "probe"]))
  await town.mendTarget()
  expect(await retry(failed, as("U0ALICE"), town.deps)).toMatchObject({ kind: "reopened" })
  await town.work(failed.id)
  expect((await town.get(failed)).state).toBe("failed")
  expect(await open()).toEqual(new Set(["probe"]))
})

it("the clock of the RTO begins with the newest approval, not with a Retry before it", async () => {
  await town.breakTarget()
  const failed = await town.ran()
  expect(failed.state).toBe("failed")
  expect(await retry(failed, as("U0ALICE"), town.deps)).toMatchObject({ kind: "reopened" })
  await town.work(failed.id)
  await town.state.query("update stepback.rollbacks set resumed_at = now() - interval '1 hour' where id = $1", [
    failed.id,
  ])
  expect(await skip(await town.get(failed), "by hand", as("U0CAROL"), town.deps)).toMatchObject({ kind: "reopened" })
  await town.work(failed.id)
  const card = await town.get(failed)
  await town.press(card)
  const claimed = await town.store.runs.claim(failed.id, "other", 60_000)
  const { runningMs } = await town.store.runs.renew(claimed ?? failed, 60_000)
  expect(runningMs).toBeLessThan(60_000)
})

it("a later rollback ends the watch of the earlier one, its success the calls", async () => {
  town.written.source = `${withMention.replace("    optional: true\n    steps:\n      - id: ask", "    steps:\n      - id: ask")}watch: { for: 10m, every: 1s, failures: 1, steps: [ask] }\n`
  const first = await town.ran()
  expect(first.state).toBe("succeeded")
  town.site.answer.status = 500
  expect(await watchOnce(town.workDeps)).toBe(true)
  expect(await callsOf(first)).toMatchObject([{ facts: { trigger: "functions_failing" }, resolved_at: null }])
  town.site.answer.status = 200
  const undo = await requestUndo(
    first,
    { channelId: "C0SHOP", reason: "login is broken", actor: as("U0ALICE") },
    town.deps,
  )
  if (undo.kind !== "requested") throw new Error(JSON.stringify(undo))
  expect(undo.rollback.reason).toBe("login is broken")
  await town.work(undo.rollback.id)
  const undone = await pressed(await town.get(undo.rollback))
  expect(undone.state).toBe("succeeded")
  await watchOnce(town.workDeps)
  expect(await town.store.watches.find(first.id)).toMatchObject({ ended: true, probes: 1 })
  const words = (await town.store.outbox.listUnsent(first.id)).flatMap(({ body }) =>
    body.kind === "text" ? [body.text] : [],
  )
  expect(words).toContain(`Watch ended: R-${undone.number} began`)
  expect(await callsOf(first)).toMatchObject([{ resolved_at: expect.any(Date) as Date }])
})

it("the watch asks as often as the run would, before it calls", async () => {
  town.written.source = `${withMention.replace(
    /    optional: true\n    steps:\n      - id: ask\n.*\n/,
    "    steps:\n      - id: ask\n        http: { path: /$good, attempts: 2, every: 1ms }\n",
  )}watch: { for: 10m, every: 1s, failures: 1, steps: [ask] }\n`
  const done = await town.ran()
  expect(done.state).toBe("succeeded")
  town.site.seen.length = 0
  town.site.failNext(1)
  expect(await watchOnce(town.workDeps)).toBe(true)
  expect(town.site.seen).toHaveLength(2)
  expect(await callsOf(done)).toEqual([])
})

it("the watch tells of a variable that the worker lacks, and its other probes go on", async () => {
  town.written.source = `${withMention.replace(
    /    optional: true\n    steps:\n      - id: ask\n.*\n/,
    `    steps:
      - { id: tool, command: ["true"], env: [SHOP_TOOL], effect: none }
      - id: ask
        http: { path: /$good }
`,
  )}watch: { for: 10m, every: 1s, failures: 1, steps: [tool, ask] }\n`
  town.environment["SHOP_TOOL"] = "there"
  const done = await town.ran()
  expect(done.state).toBe("succeeded")
  delete town.environment["SHOP_TOOL"]
  town.site.failNext(1)
  expect(await watchOnce(town.workDeps)).toBe(true)
  const calls = (await callsOf(done)).map(({ facts }) => `${facts.headline}: ${facts.evidence[0]}`)
  expect(calls.toSorted()).toEqual([
    expect.stringContaining("Ask: failing after the rollback"),
    "Tool: failing after the rollback: SHOP_TOOL is not set in the worker's environment: set it and restart the worker",
  ])
})

it("who cannot go on is told why and what can be done", async () => {
  await town.breakTarget()
  const failed = await town.ran()
  await town.mendTarget()
  const later = await town.ran()
  expect(later.state).toBe("succeeded")
  expect(await retry(failed, as("U0ALICE"), town.deps)).toMatchObject({
    refusal: { reason: "overtaken", number: failed.number, by: later.number },
  })
  const undo = await requestUndo(failed, { channelId: "C0SHOP", actor: as("U0ALICE") }, town.deps)
  expect(undo).toMatchObject({ refusal: { reason: "nothing_to_undo", number: failed.number } })
  await town.breakTarget()
  const again = await town.ran()
  const other = await asked()
  // As if it had been asked for in another environment that is the same database.
  await town.state.query("update stepback.rollbacks set environment = 'twin' where id = $1", [other.id])
  expect(await retry(again, as("U0ALICE"), town.deps)).toMatchObject({
    refusal: { reason: "environment_busy", environment: "twin", asked: "shop", number: other.number },
  })
})

it("an undo may use what its own step took from the answer", async () => {
  town.site.answer.body = JSON.stringify({ label: "1", thing: 7 })
  town.written.source = plan.replace(
    /http: \{ path: \/\$good.*\n.*\n/,
    "http: { method: POST, path: /things }\n        effect: keyed\n        capture: { thing: /thing }\n        undo: { method: DELETE, path: /things/$thing }\n",
  )
  const card = await town.card({ with: ["answer"] })
  const done = await pressed(card)
  expect(done.state).toBe("succeeded")
  const undo = await requestUndo(done, { channelId: "C0SHOP", actor: as("U0ALICE") }, town.deps)
  if (undo.kind !== "requested") throw new Error(JSON.stringify(undo))
  await town.work(undo.rollback.id)
  expect((await pressed(await town.get(undo.rollback))).state).toBe("succeeded")
  expect(town.site.seen.map(({ url }) => url)).toEqual(["/things", "/things/7"])
})

it.each(["audit", "nobody", "trouble", "rto80"])("a step may be called %s, like another message", async (name) => {
  town.written.source = plan.replace("- id: set\n", `- id: ${name}\n`)
  const done = await town.ran()
  const keys = (await town.store.outbox.listUnsent(done.id)).map(({ key }) => key.slice(done.id.length))
  expect(keys).toContain(`/step:${name}/1`)
  expect(keys.filter((key) => /^\/audit\/\d+$/.test(key))).toHaveLength(1)
})

it("a call about the whole reaches people though a step has its name", async () => {
  const more = "  more: { risk: low, steps: [{ id: probe, http: { path: / }, expect: { status: 204 } }] }\n"
  town.written.source = withMention.replace(plan, plan.replace("- id: set\n", "- id: nobody\n") + more)
  const failed = await town.ran()
  await skip(failed, "it is another team's", as("U0CAROL"), town.deps)
  await town.work(failed.id)
  await passes(failed, "2 days")
  await town.store.waiting.expire()
  expect(await tell().nobodyApproved()).toBe(1)
  const call = (await town.store.records.listEscalations(failed.id)).find(
    ({ trigger }) => trigger === "nobody_approved",
  )
  const sent = (await town.store.outbox.listUnsent(failed.id)).map(({ body }) => body)
  expect(sent).toContainEqual({ kind: "escalation", escalationId: call?.id })
})

it.each([
  ["stop", "the run stops there"],
  ["continue", "this step fails and the run goes on"],
  ["ask", "this step fails and the run asks what to do"],
])("a step that meets other rows than the plan expects is foreseen on the card: %s", async (onFailure, then) => {
  town.written.source = plan.replace("- id: set\n", `- id: set\n        on_failure: ${onFailure}\n`)
  await town.breakTarget()
  const card = await town.card()
  expect(readRun(card)?.rehearsal.steps[0]?.warnings).toEqual([
    `0 rows match and the plan expects 1: as things stand, ${then}`,
  ])
})

it("a count that a step before it may change is not said to end the run", async () => {
  const first = `- { id: first, sql: "insert into config values ('version', '2')", expect: { rows: 1 } }`
  town.written.source = plan.replace("- id: set\n", `${first}\n      - id: set\n`)
  await town.breakTarget()
  const card = await town.card()
  expect(readRun(card)?.rehearsal.steps.find(({ stepId }) => stepId === "set")?.warnings).toEqual([
    "0 rows match and the plan expects 1: as things stand, the run stops there, unless a step before it changes that",
  ])
})

it("Stop here ends the wait for a person beside it", async () => {
  // What a person does raises the risk.
  town.written.source = `${plan.replace("medium: { count: 2, from: [S0ONCALL, U0LEAD] }", "medium: { count: 1, from: anyone }")}  more:
    risk: low
    optional: true
    parallel: true
    steps:
      - { id: one, sql: "update config set value = '3' where key = 'one'", expect: { rows: 1 }, on_failure: ask }
      - { id: hand, manual: Turn it off }
`
  const card = await town.card({ with: ["more"] })
  await town.press(card)
  const working = town.work(card.id)
  const questions = async () =>
    (
      await town.state.query<{ id: string; step_id: string; answer: string | null }>(
        "select id, step_id, answer from stepback.confirmations where rollback_id = $1",
        [card.id],
      )
    ).rows
  await until("both questions", async () => (await questions()).length === 2)
  const asked = (await questions()).find(({ step_id: step }) => step === "one")
  await town.store.confirmations.answer(asked?.id ?? "", "U0ALICE", "leave")
  await working
  expect(await town.get(card)).toMatchObject({ state: "failed", end_reason: "One" })
  expect((await questions()).find(({ step_id: step }) => step === "hand")).toMatchObject({ answer: "stopped" })
}, 20_000)

it("whoever approves a Skip reads which steps lose their value by it", async () => {
  const probe = "- { id: probe, http: { path: / }, capture: { word: /none } }"
  town.written.source = plan
    .replace("- id: set\n", `${probe}\n      - id: set\n`)
    .replace("params: [good]", "params: [word]")
  const failed = await town.ran()
  await skip(failed, "nobody needs it", as("U0CAROL"), town.deps)
  await town.work(failed.id)
  const card = await town.get(failed)
  expect(card.state).toBe("awaiting_approval")
  expect(readRun(card)?.rehearsal.steps.find(({ stepId }) => stepId === "set")).toMatchObject({
    outcome: "unknown",
    refused: true,
    note: '$word has no value, since "Probe" is left out',
  })
})

it("a request whose bytes cannot be read keeps nobody from being called about another", async () => {
  town.written.source = withMention
  const cards: StoredRollback[] = []
  for (const frozen of ["{", null]) {
    const card = await town.card()
    await town.state.query("update stepback.rollbacks set frozen = coalesce($2, frozen) where id = $1", [
      card.id,
      frozen,
    ])
    await passes(card, "1 day")
    await town.store.waiting.expire()
    cards.push(card)
  }
  expect(await tell().nobodyApproved()).toBe(1)
  expect(await Promise.all(cards.map(async (card) => (await callsOf(card)).length))).toEqual([0, 1])
  await town.state.query("update stepback.rollbacks set frozen = '{}' where frozen = '{'")
})

it("a run that fails whenever it is taken up is ended, and the people of the plan are called", async () => {
  town.written.source = withMention
  const card = await town.card()
  await town.press(card)
  // It has waited for somebody while many workers came and went.
  await town.state.query("update stepback.rollbacks set epoch = 100 where id = $1", [card.id])
  const { runs } = town.store
  const { listSteps } = runs
  const failsThirtyTimes = async () => {
    for (let failures = 1; failures <= 30; failures++) {
      expect((await town.get(card)).state).toMatch(failures === 1 ? /approved|running/ : "running")
      // What is put together for the call reads the steps again.
      runs.listSteps = () => {
        runs.listSteps = listSteps
        return Promise.reject(new Error("a defect"))
      }
      await town.work(card.id)
    }
  }
  await failsThirtyTimes()
  expect(await town.get(card)).toMatchObject({ state: "failed", end_reason: "it could not be worked on: a defect" })
  const call = { trigger: "step_failed", headline: "it could not be worked on: a defect", mention: ["S0ONCALL"] }
  expect((await callsOf(card)).map(({ facts }) => facts)).toMatchObject([call])
  expect(await retry(await town.get(card), as("U0CAROL"), town.deps)).toMatchObject({ kind: "reopened" })
  await failsThirtyTimes()
  expect((await callsOf(card)).map(({ facts }) => facts)).toMatchObject([call, call])
})

it("a look whose outcome the state database has no room for is looked at again, not called off", async () => {
  await town.state.query(`
    create sequence looks;
    create function is_full() returns trigger language plpgsql as $$
    begin
      if nextval('public.looks') = 1 then raise exception 'could not extend file' using errcode = '53100'; end if;
      return new;
    end $$;
    create trigger is_full before insert on stepback.cards for each row execute function is_full()`)
  const card = await town.card()
  expect(card.state).toBe("preparing")
  await town.work(card.id)
  await town.state.query("drop trigger is_full on stepback.cards")
  expect((await town.get(card)).state).toBe("awaiting_approval")
})

it("a worker that is asked to end while it asks for a rollback begins nothing, and leaves it to others at once", async () => {
  const card = await town.card()
  await town.press(card)
  const workshop = createWorkshop(town.workDeps, "ending")
  const working = workshop.work(card.id)
  await workshop.close(1_000)
  expect(await town.get(card)).toMatchObject({ epoch: card.epoch + 1, lease_until: null })
  await working
  await town.work(card.id)
  expect((await town.get(card)).state).toBe("succeeded")
})

/** A worker is asked to end while its step waits for a lock; gives who lets go of it. */
async function askedToEnd(more: string) {
  town.written.source = plan.replace("      - id: set\n", `      - id: set\n        timeout: 800ms\n        ${more}\n`)
  const card = await town.card()
  await town.press(card)
  const holder = await town.target.connect()
  await holder.query("begin; lock table config in access exclusive mode")
  const ending = createWorkshop(town.workDeps, "ending")
  const working = ending.work(card.id)
  const waits = "select from pg_locks where not granted and relation = 'config'::regclass"
  await expect.poll(async () => (await town.target.query(waits)).rowCount, { timeout: 10_000 }).toBe(1)
  await ending.close(10_000)
  await working
  await holder.query("rollback")
  holder.release()
  return town.get(card)
}

it("a worker that is asked to end leaves what a step's retries have left to the next one", async () => {
  const card = await askedToEnd("retries: 5")
  expect(card).toMatchObject({ state: "running", lease_until: null })
  await town.work(card.id)
  expect((await town.get(card)).state).toBe("succeeded")
})

it("a worker that is asked to end leaves it to the next one to ask what is to become of a step that failed", async () => {
  const card = await askedToEnd("on_failure: ask")
  expect(card).toMatchObject({ state: "running", lease_until: null })
  const working = town.work(card.id)
  const question = async () => {
    const { rows } = await town.state.query<{ id: string }>(
      "select id from stepback.confirmations where rollback_id = $1 and answer is null",
      [card.id],
    )
    return rows[0]?.id
  }
  await expect.poll(question, { timeout: 10_000 }).toBeDefined()
  const again = await decideFailure((await question()) ?? "", { answer: "retry" }, as("U0ALICE"), town.deps)
  expect(again).toMatchObject({ kind: "confirmed" })
  await working
  expect((await town.get(card)).state).toBe("succeeded")
})

it("a plan with a key that Postgres reads as no JSON does not stand in the way of cards after its run", async () => {
  const odd = String.raw`{ id: odd, http: { method: POST, path: /1, json: { "a\0b": 1 } }, effect: keyed, undo: { path: /1 } }`
  town.written.source = `${plan}  odd: { risk: low, steps: [${odd}] }
`
  expect((await town.ran()).state).toBe("succeeded")
  expect((await loadView(town.store, await town.card())).forecast).toMatchObject({ runs: 1 })
})
