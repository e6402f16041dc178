import { randomUUID } from "node:crypto"
import type { Pool } from "pg"
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest"
import { startLocalPager, type LocalPager } from "../../playground/pager/local-pager.ts"
import { callHookOnce } from "../../src/jobs/call-hook.ts"
import { acknowledge } from "../../src/commands/acknowledge.ts"
import type { Deps } from "../../src/commands/ports.ts"
import type { Hook } from "../../src/rollback/hook.ts"
import type { Store } from "../../src/store/store.ts"
import { awaiting, freshState, log, running } from "./store-fixture.ts"

let pager: LocalPager
let pool: Pool
let store: Store
let environment: Record<string, string>

const pagerDuty: Hook = { kind: "pagerduty", url: "${PD_URL}", key: "${PD_KEY}" }
const webhook: Hook = { kind: "webhook", url: "${HOOK_URL}", secret: "${HOOK_SECRET}" }

beforeAll(async () => {
  ;({ pool, store } = await freshState())
})
afterAll(() => pool.end())
beforeEach(async () => {
  pager = await startLocalPager()
  environment = {
    PD_URL: pager.pagerDutyUrl,
    PD_KEY: `${pager.routingKey}\n`,
    HOOK_URL: pager.webhookUrl,
    HOOK_SECRET: pager.secret,
  }
  await pool.query("update stepback.hook_events set state = 'refused' where state = 'pending'")
  return () => pager.stop()
})

async function raise(hook: Hook | null, rollbackId?: string): Promise<{ id: string; key: string; rollbackId: string }> {
  const about = rollbackId ?? (await awaiting(store)).id
  const id = randomUUID()
  const key = `${about}/${id}`
  await store.records.raise(about, key, id, {
    trigger: "sql_failed",
    stepId: "set-version",
    headline: "Set version: SQL failed",
    evidence: ["23514 a constraint"],
    byHand: "update t set a = 1",
    mention: ["U0BOB"],
    channelId: "C0ONCALL",
    acknowledgeWithinMs: 60_000,
    hook,
  })
  return { id, key, rollbackId: about }
}

/** Makes what is due now, and after each failure what would be due later. */
async function callAll(limits?: { timeoutMs: number }): Promise<number> {
  let calls = 0
  while (await callHookOnce({ store, environment, log, wakeOutbox: () => undefined }, limits)) {
    calls++
    await pool.query("update stepback.hook_events set due_at = now() where state = 'pending'")
    if (calls > 50) throw new Error("it never ends")
  }
  return calls
}

async function again(id: string): Promise<void> {
  await pool.query("update stepback.escalations set next_telling_at = now() where id = $1", [id])
  await store.records.tellAgain()
}

test("one incident from its call over the acknowledgement to its end; told again is nothing to PagerDuty", async () => {
  const { id, key } = await raise(pagerDuty)
  await again(id)
  await store.records.acknowledge(id, "U0BOB")
  await store.records.acknowledge(id, "U0CAROL")
  await store.records.resolve(key)
  await store.records.resolve(key)
  expect(await callAll()).toBe(3)
  const incident = pager.incidents.get(id)
  expect(incident).toMatchObject({ state: "resolved", opened: 1 })
  expect(incident?.events.map((event) => event["event_action"])).toEqual(["trigger", "acknowledge", "resolve"])
})

test("a webhook hears of it again, signed, in order, under an id that outlives attempts", async () => {
  const { id, key } = await raise(webhook)
  await callAll()
  await again(id)
  await again(id)
  pager.fail({ times: 2, status: 500 })
  pager.fail({ times: 1, after: "cut" })
  await callAll()
  await store.records.acknowledge(id, "U0BOB")
  await store.records.resolve(key)
  await callAll()
  expect(pager.calls.map((call) => [call.event, call.sequence, call.times, call.late])).toEqual([
    ["trigger", 1, 1, false],
    // The second repeat waits for nothing: one call was on its way already. What was cut off came twice, under one id.
    ["repeat", 2, 2, false],
    ["acknowledge", 3, 1, false],
    ["resolve", 4, 1, false],
  ])
  expect(pager.calls[2]?.escalation).toMatchObject({
    acknowledged_by: "U0BOB",
    trigger: "sql_failed",
    severity: "critical",
  })
})

test("what PagerDuty says is cut without leaving half of the key", async () => {
  const { id } = await raise(pagerDuty)
  pager.fail({
    times: 1,
    status: 400,
    body: { message: "x".repeat(275), errors: [`no such key: ${pager.routingKey}`] },
  })
  await callAll()
  const { rows } = await pool.query<{ problem: string }>(
    "select problem from stepback.hook_events where escalation_id = $1 and problem is not null",
    [id],
  )
  expect(rows[0]?.problem).toContain("no such key: ")
  expect(rows[0]?.problem).not.toContain(pager.routingKey.slice(0, 3))
})

test("an escalation without a hook calls nobody", async () => {
  const { id } = await raise(null)
  await store.records.acknowledge(id, "U0BOB")
  expect(await callAll()).toBe(0)
})

test("429, 500 and silence are tried on, later ones of the same escalation wait, others do not", async () => {
  const first = await raise(webhook)
  await store.records.acknowledge(first.id, "U0BOB")
  pager.fail({ times: 1, status: 429, headers: { "retry-after": "7" } })
  await callHookOnce({ store, environment, log, wakeOutbox: () => undefined })
  const { rows } = await pool.query<{ wait: number; attempts: number; state: string }>(
    `select extract(epoch from due_at - now())::int as wait, attempts, state from stepback.hook_events
     where escalation_id = $1 order by seq`,
    [first.id],
  )
  expect(rows[0]).toMatchObject({ attempts: 1, state: "pending" })
  // What the pager asks for, not our own second.
  expect(rows[0]?.wait).toBeGreaterThan(3)
  const second = await raise(webhook)
  await callHookOnce({ store, environment, log, wakeOutbox: () => undefined })
  expect(pager.calls.map((call) => call.escalation.id)).toEqual([second.id])
  expect(await callHookOnce({ store, environment, log, wakeOutbox: () => undefined })).toBe(false)
  pager.fail({ times: 1, after: "hang" })
  await pool.query("update stepback.hook_events set due_at = now() where state = 'pending'")
  await callAll({ timeoutMs: 200 })
  expect(pager.calls.slice(1).map((call) => [call.escalation.id, call.event])).toEqual([
    [first.id, "trigger"],
    [first.id, "acknowledge"],
  ])
})

test("what is refused for good is not repeated, and the thread hears why, without secrets", async () => {
  environment["PD_KEY"] = "f".repeat(32)
  const { id, rollbackId } = await raise(pagerDuty)
  expect(await callAll()).toBe(1)
  expect(await texts(rollbackId)).toEqual([
    expect.stringContaining(
      "did not go out (trigger): PagerDuty answered 400: Event object is invalid; Invalid routing key",
    ),
  ])
  const { rows } = await pool.query("select state, problem from stepback.hook_events where escalation_id = $1", [id])
  expect(rows).toMatchObject([{ state: "refused" }])
})

test("a variable that is missing, and an address that is none, wait for whoever mends them; the thread hears once", async () => {
  delete environment["HOOK_URL"]
  const { rollbackId } = await raise(webhook)
  const attempt = () => callHookOnce({ store, environment, log, wakeOutbox: () => undefined })
  const due = () => pool.query("update stepback.hook_events set due_at = now() where state = 'pending'")
  for (let count = 0; count < 7; count++) {
    if (count === 4) environment["HOOK_URL"] = "http://me:planted-password@127.0.0.1/oncall"
    expect(await attempt()).toBe(true)
    await due()
  }
  const [told, ...more] = await texts(rollbackId)
  expect(more).toEqual([])
  expect(told).toContain("has not gone out yet (trigger): the webhook escalate.hook.url: expected an address without")
  expect(told).not.toContain("planted-password")
  environment["HOOK_URL"] = pager.webhookUrl
  await callAll()
  expect(pager.calls).toHaveLength(1)
})

test("redirects are not followed, and answers of a webhook are shown to nobody", async () => {
  const { rollbackId } = await raise(webhook)
  pager.fail({ times: 5, status: 302, headers: { location: `${pager.pagerDutyUrl}/secret-place` } })
  await callAll()
  expect(pager.requests).toEqual([...Array.from({ length: 5 }, () => "POST /oncall 302"), "POST /oncall 200"])
  expect(JSON.stringify(await texts(rollbackId))).not.toContain("secret-place")
})

test("several workers at once: in order per escalation, and one incident", async () => {
  const raised = await Promise.all(Array.from({ length: 6 }, () => raise(webhook)))
  for (const { id } of raised) await store.records.acknowledge(id, "U0BOB")
  for (const { key } of raised) await store.records.resolve(key)
  const worker = async () => {
    // One that finds nothing due may find it later: what is in another's hands holds up what follows.
    while (pager.calls.length < 18) await callHookOnce({ store, environment, log, wakeOutbox: () => undefined })
  }
  await Promise.all([worker(), worker(), worker()])
  expect(pager.calls).toHaveLength(18)
  expect(pager.calls.filter((call) => call.late || call.times > 1)).toEqual([])
})

test("who lost the call to somebody else settles nothing", async () => {
  const { id } = await raise(webhook)
  const mine = await store.hooks.take(30_000)
  await pool.query("update stepback.hook_events set due_at = now() where escalation_id = $1", [id])
  const theirs = await store.hooks.take(30_000)
  if (!mine || !theirs) throw new Error("nothing was due")
  await store.hooks.settle(mine, { kind: "taken" })
  await store.hooks.settle(theirs, { kind: "failed", problem: "away", tell: null, waitMs: 0 })
  const { rows } = await pool.query("select state, attempts from stepback.hook_events where escalation_id = $1", [id])
  expect(rows).toEqual([{ state: "pending", attempts: 2 }])
})

test("the state has names of secrets and never the secrets", async () => {
  await raise(webhook)
  await raise(pagerDuty)
  await callAll()
  const { rows } = await pool.query(
    "select e::text as e, h::text as h from stepback.escalations e, stepback.hook_events h",
  )
  const all = JSON.stringify(rows)
  expect(all).toContain("${HOOK_SECRET}")
  for (const secret of [pager.secret, pager.routingKey]) expect(all).not.toContain(secret)
})

const everybody: Pick<Deps["people"], "homeTeams" | "find" | "members"> = {
  homeTeams: async () => ["T1"],
  find: async (id) => ({
    kind: "person",
    person: { id, teamId: "T1", isBot: false, isGuest: false, isStranger: false, isDeactivated: false },
  }),
  members: async () => [],
}

const end = { reason: null, by: "stepback", analysis: {}, remindMs: 1_000 }

test("a good end ends the calls in its own transaction; a bad one only those about a lost worker", async () => {
  const good = await running(store)
  const call = await raise(webhook, good.id)
  await expect(store.runs.finish(good.id, good.epoch - 1, { ...end, state: "succeeded" })).rejects.toThrow()
  expect((await store.records.findEscalation(call.id))?.resolvedAt).toBeNull()
  await store.runs.finish(good.id, good.epoch, { ...end, state: "succeeded" })
  expect((await store.records.findEscalation(call.id))?.resolvedAt).not.toBeNull()
  const { rows } = await pool.query("select revision from stepback.outbox where key = $1", [`${call.key}/1`])
  expect(rows).toEqual([{ revision: 1 }])

  const bad = await running(store)
  const failing = await raise(webhook, bad.id)
  const lost = randomUUID()
  const facts = { trigger: "worker_lost", stepId: null, headline: "no worker", evidence: [], byHand: null } as const
  await store.records.raise(bad.id, `${bad.id}/lost/1`, lost, {
    ...facts,
    evidence: [],
    mention: [],
    channelId: null,
    acknowledgeWithinMs: 1_000,
    hook: null,
  })
  await store.runs.finish(bad.id, bad.epoch, { ...end, state: "failed" })
  expect((await store.records.findEscalation(failing.id))?.resolvedAt).toBeNull()
  expect((await store.records.findEscalation(lost))?.resolvedAt).not.toBeNull()
})

test("a step that fails again after a Retry has one call open: the older one ends, with its message and at the pager", async () => {
  const { id } = await running(store)
  const [first, second, other] = [randomUUID(), randomUUID(), randomUUID()]
  const call = (key: string, escalation: string, stepId: string) =>
    store.records.raise(id, `${id}/step/${key}`, escalation, {
      trigger: "sql_failed",
      stepId,
      headline: "it failed",
      evidence: [],
      byHand: null,
      mention: [],
      channelId: null,
      acknowledgeWithinMs: 1_000,
      hook: webhook,
    })
  await call("it/1/0", first, "it")
  await call("others/1/0", other, "others")
  await call("it/2/1", second, "it")
  expect(await store.records.findEscalation(first)).toMatchObject({ resolvedAt: expect.any(String), followed: true })
  for (const open of [second, other]) expect((await store.records.findEscalation(open))?.resolvedAt).toBeNull()
  await pool.query(
    "update stepback.escalations set next_telling_at = now() where rollback_id = $1 and next_telling_at is not null",
    [id],
  )
  await store.records.tellAgain()
  expect((await store.records.findEscalation(first))?.timesTold).toBe(1)
  await callAll()
  const heard = pager.calls.filter((one) => JSON.stringify(one).includes(first))
  expect(JSON.stringify(heard)).toContain("failed_again")
})

test("a call that is over is not taken on any more, and who presses its old button hears how it stands", async () => {
  const town = { store, people: everybody, wakeOutbox: () => undefined } as unknown as Deps
  const carol = "U0CAROL"
  const press = async (id: string, userId: string) =>
    acknowledge(id, { userId, teamId: "T1", requestKey: null }, town).then((answer) =>
      "taken" in answer ? answer.taken : answer,
    )
  const open = await raise(null)
  expect(await press(open.id, carol)).toBeNull()
  expect(await press(open.id, carol)).toBe("yours")
  expect(await press(open.id, "U0BOB")).toBe("others")
  const over = await raise(null)
  await store.records.resolve(over.key)
  expect(await press(over.id, carol)).toBe("over")
  expect((await store.records.findEscalation(over.id))?.acknowledgedBy).toBeNull()
})

async function texts(rollbackId: string): Promise<string[]> {
  const { rows } = await pool.query<{ text: string }>(
    "select body ->> 'text' as text from stepback.outbox where rollback_id = $1 and body ->> 'kind' = 'text' order by seq",
    [rollbackId],
  )
  return rows.map((row) => row.text)
}
