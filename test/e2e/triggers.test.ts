import { afterAll, beforeAll, beforeEach, expect, test } from "vitest"
import { hasButton, isAnalysisOf, wordsOf, type Play } from "../../playground/scenarios/play.ts"
import type { Message } from "../../playground/slack/local-slack.ts"
import { isOpen, openTown, target, type Town } from "./triggers-stage.ts"

let town: Town

beforeAll(async () => {
  town = await openTown()
}, 120_000)
afterAll(() => town.close())
beforeEach(() => void Object.assign(target, { status: 200, body: "{}", delayMs: 0 }))

type Raised = {
  id: string
  acknowledged_by: string | null
  acknowledged_at: Date | null
  resolved_at: Date | null
  next_telling_at: Date | null
  times_told: number
  trigger: string
}

async function raisedFor(environment: string): Promise<Raised[]> {
  const rows = await town.state(
    `select e.*, e.facts ->> 'trigger' as trigger from stepback.escalations e join stepback.rollbacks r on r.id = e.rollback_id
     where r.environment = $1 order by e.raised_at`,
    [environment],
  )
  return rows as unknown as Raised[]
}

/** What the webhook was told of this environment, in its order. */
const called = (environment: string) =>
  town.pager.calls.filter((call) => call.rollback.environment === environment).map((call) => call.event)

/**
 * The life of every call: it mentions who is on call, it is told again until somebody is on it, and that is recorded with
 * its time, ends the telling, and reaches the pager.
 */
async function callsUntilTaken(scene: Play, environment: string, trigger: string): Promise<Message> {
  const first = await town.call(scene, environment, isOpen)
  expect(first.mentions).toContain("S0ONCALL")
  const again = await town.call(scene, environment, (message) => isOpen(message) && message.ts !== first.ts)
  expect(wordsOf(again).split("\n")[1]).toBe(wordsOf(first).split("\n")[1])
  await town.pager.until(() => called(environment).includes("repeat"), `a repetition about ${environment}`)
  await scene.presses("guest", again, "acknowledge")
  await scene.isTold("guest", "full members")
  await scene.presses("carol", again, "acknowledge")
  for (const { ts } of [first, again]) {
    const taken = await town.call(scene, environment, (message) => message.ts === ts && !isOpen(message))
    expect(taken.text).toMatch(/<@U0CAROL> is on it since \d\d:\d\d/)
  }
  await town.pager.until(() => called(environment).includes("acknowledge"), `that somebody is on ${environment}`)
  const [raised] = await raisedFor(environment)
  expect(raised).toMatchObject({ trigger, acknowledged_by: "U0CAROL", next_telling_at: null })
  expect(raised?.acknowledged_at).toBeInstanceOf(Date)
  const entries = await town.state(
    `select actor from stepback.audit a join stepback.rollbacks r on r.id = a.rollback_id
     where r.environment = $1 and a.kind = 'acknowledged'`,
    [environment],
  )
  expect(entries).toEqual([{ actor: "U0CAROL" }])
  return first
}

async function isResolved(scene: Play, environment: string, call: Message): Promise<void> {
  const resolved = await town.call(
    scene,
    environment,
    (message) => message.ts === call.ts && message.text.includes("resolved at"),
  )
  expect(isOpen(resolved)).toBe(false)
  await town.pager.until(() => called(environment).at(-1) === "resolve", `the end of ${environment}`)
  expect(called(environment)[0]).toBe("trigger")
  expect(town.pager.calls.filter((seen) => seen.late || seen.times > 1)).toEqual([])
}

/** Alice tries again what failed, the cause being mended. */
async function retried(scene: Play, card: Message): Promise<void> {
  const failed = await scene.sees("staging", "the button Retry", (message) => {
    return message.ts === card.ts && hasButton(message, "retry")
  })
  await scene.presses("alice", failed, "retry")
}

test("the SQL fails: SQLSTATE, the constraint, the statement to paste; over when it succeeds", async () => {
  const { scene, card } = await town.approved("sql")
  const call = await callsUntilTaken(scene, "sql", "sql_failed")
  expect(call.text).toMatch(/Set it: SQL failed[\s\S]*23514[\s\S]*sql_is_pinned/)
  expect(wordsOf(call)).toMatch(/By hand[\s\S]*update settings set value = 'good' where name = 'sql'/)
  await town.inTarget("alter table settings drop constraint sql_is_pinned")
  await retried(scene, card)
  await isResolved(scene, "sql", call)
})

test("functions still fail: status and body; over when they answer", async () => {
  Object.assign(target, { status: 500, body: '{"error":"scoring engine does not answer"}' })
  const { scene, card } = await town.approved("functions")
  const call = await callsUntilTaken(scene, "functions", "functions_failing")
  expect(call.text).toMatch(/functions still failing[\s\S]*500[\s\S]*scoring engine does not answer/)
  expect(call.text).toContain("before the rollback:")
  target.status = 200
  await retried(scene, card)
  await isResolved(scene, "functions", call)
})

test("data is inconsistent: what was found and what was expected; over when it holds", async () => {
  const { scene, card } = await town.approved("data")
  const call = await callsUntilTaken(scene, "data", "data_inconsistent")
  expect(call.text).toMatch(/It holds: a verification does not hold[\s\S]*bad[\s\S]*good/)
  expect(wordsOf(call)).toMatch(/By hand[\s\S]*select value from settings/)
  await town.inTarget("update settings set value = 'good' where name = 'data'")
  await retried(scene, card)
  await isResolved(scene, "data", call)
})

test("performance degrades after the end: both figures; over when it is as quick as before", async () => {
  target.delayMs = 100
  const { scene, card } = await town.approved("slow")
  await scene.analysisOf(card)
  target.delayMs = 2_000
  const call = await callsUntilTaken(scene, "slow", "performance_degraded")
  expect(call.text).toMatch(/The function answers: slower than before[\s\S]*\d+ ms, before the rollback: \d+ ms/)
  target.delayMs = 100
  await isResolved(scene, "slow", call)
  await town.stage.slack.waitFor(
    () =>
      town.stage.slack
        .replies("staging", card.ts)
        .find(({ text }) => /The function answers: well again, \d+ ms/.test(text)),
    { what: "that it is well again", timeoutMs: 20_000 },
  )
  // A busy machine that is slow later on is none of the other tests' business.
  await town.state("update stepback.watches set ended_at = now()")
})

test("the RTO: most of it is said in the thread, all of it calls; over when the run is", async () => {
  const { scene, card } = await town.approved("rto")
  const question = await town.stage.slack.waitFor(
    () => town.stage.slack.replies("staging", card.ts).find((message) => hasButton(message, "manual_done")),
    { what: "the question", timeoutMs: 20_000 },
  )
  const approvedAgo = (minutes: number) =>
    town.state(
      `update stepback.rollbacks set approved_at = now() - $1 * interval '1 minute' where environment = 'rto' returning id`,
      [minutes],
    )
  await approvedAgo(9)
  await town.stage.slack.waitFor(
    () =>
      town.stage.slack
        .replies("staging", card.ts)
        .find(({ text }) => /80 % of the RTO is used: 5[45]\d s of 600 s/.test(text)),
    { what: "that most of the RTO is used", timeoutMs: 20_000 },
  )
  expect(await raisedFor("rto")).toEqual([])
  await approvedAgo(11)
  const call = await callsUntilTaken(scene, "rto", "rto_breached")
  expect(call.text).toMatch(/it takes longer than its RTO of 600 s[\s\S]*66\d s since the approval/)
  await scene.presses("bob", question, "manual_done")
  await isResolved(scene, "rto", call)
})

test("the RTO of a run that is over before the clock is looked at again", async () => {
  const { scene, card } = await town.approved("late")
  const call = await town.call(scene, "late", () => true)
  expect(call.text).toMatch(/it takes longer than its RTO of 1 s[\s\S]*2 of 2 steps done, the last of them: Set it/)
  await isResolved(scene, "late", call)
  await scene.sees("staging", "the end", (message) => message.ts === card.ts && /over the RTO/.test(wordsOf(message)))
})

test("a component's own RTO: the same, from the component's start", async () => {
  const { scene, card } = await town.approved("part")
  const question = await town.stage.slack.waitFor(
    () => town.stage.slack.replies("staging", card.ts).find((message) => hasButton(message, "manual_done")),
    { what: "the question", timeoutMs: 20_000 },
  )
  const call = await callsUntilTaken(scene, "part", "rto_breached")
  expect(call.text).toContain("The whole takes longer than its RTO of 2 s")
  const said = town.stage.slack.replies("staging", card.ts).map(({ text }) => text)
  expect(said.filter((text) => text.includes('80 % of the RTO of "The whole" is used: 2 s of 2 s'))).toHaveLength(1)
  await scene.presses("bob", question, "manual_done")
  await isResolved(scene, "part", call)
  // The component is over before the run is, and the database is held until then.
  await scene.analysisOf(card)
})

test("the worker is lost: said when nobody goes on; over when somebody does", async () => {
  const { scene, card } = await town.approved("lost")
  const question = await town.stage.slack.waitFor(
    () => town.stage.slack.replies("staging", card.ts).find((message) => hasButton(message, "manual_done")),
    { what: "the question", timeoutMs: 20_000 },
  )
  town.worker().kill("SIGKILL")
  await town.worker().ended
  // Half a minute of waiting, had.
  await town.state(
    `update stepback.rollbacks set lease_until = now() - interval '1 minute', due_at = now() - interval '1 minute'
     where environment = 'lost'`,
  )
  const first = await town.call(scene, "lost", isOpen)
  expect(first.text).toMatch(/no worker goes on with it[\s\S]*asked for at 20\d\d-.*: "[^"]+"[\s\S]*0 of 1 steps done/)
  // Only workers have the pager's secrets: what was to be said waits for one.
  expect(called("lost")).toEqual([])
  await town.call(scene, "lost", (message) => isOpen(message) && message.ts !== first.ts)
  await scene.presses("carol", first, "acknowledge")
  const taken = await town.call(scene, "lost", (message) => message.ts === first.ts && !isOpen(message))
  expect(taken.text).toContain("<@U0CAROL> is on it since")
  await town.startWorker()
  await isResolved(scene, "lost", first)
  const calls = town.pager.calls.filter((seen) => seen.rollback.environment === "lost")
  expect(calls.map((seen) => `${seen.event} ${seen.escalation.headline}`)).toEqual(
    ["trigger", "acknowledge", "resolve"].map((event) => `${event} no worker goes on with it: is one running?`),
  )
  // The run itself still waits for its person.
  expect((await raisedFor("lost"))[0]).toMatchObject({ trigger: "worker_lost", next_telling_at: null })
  await scene.presses("bob", question, "manual_done")
  await scene.analysisOf(card)
})

test("nobody approves in time", async () => {
  const scene = town.play()
  await scene.types("alice", "nobody it is broken")
  const call = await callsUntilTaken(scene, "nobody", "nobody_approved")
  expect(call.text).toMatch(
    /nobody approved it in time, nothing was changed[\s\S]*: "it is broken"[\s\S]*0 of 1 approvals/,
  )
  expect((await raisedFor("nobody"))[0]?.resolved_at).toBeNull()
})

test("when all goes well nobody is called", async () => {
  const { scene, card } = await town.approved("fine")
  await scene.sees("staging", "the end of the watch", (message) => {
    return isAnalysisOf(card, message) && /Watch: .*\d+ of \d+ well/.test(wordsOf(message))
  })
  const end = await scene.sees("staging", "the end", (message) => message.ts === card.ts)
  expect(end.text).not.toContain("NOT back")
  expect(await raisedFor("fine")).toEqual([])
  expect(called("fine")).toEqual([])
})

test("the bot's token is revoked in the middle: what was approved is finished, and the call goes out by the hook", async () => {
  const scene = town.play()
  await scene.types("alice", "revoked it is broken")
  const card = await scene.waitingCard()
  const held = town.atTheGate()
  await scene.presses("bob", card, "approve")
  const response = await held
  town.stage.slack.faults.set({ kind: "error", error: "token_revoked" })
  response.writeHead(500).end('{"error":"planted in the answer"}')
  await town.worker().logged((line) => line["msg"] === "rollback ended" && line["environment"] === "revoked")
  const [raised] = await raisedFor("revoked")
  const incident = await town.pager.until(() => town.pager.incidents.get(raised?.id ?? ""), "an incident")
  expect(incident).toMatchObject({
    state: "triggered",
    events: [
      {
        payload: {
          severity: "critical",
          source: "revoked",
          class: "functions_failing",
          summary: expect.stringMatching(/^revoked rollback R-\d+: The gate: functions still failing$/) as unknown,
          custom_details: { evidence: expect.arrayContaining([expect.stringContaining("500")]) as unknown },
        },
      },
    ],
  })
  expect(town.stage.slack.messages("oncall").some(({ text }) => text.includes("revoked rollback"))).toBe(false)
  for (const process of [town.bot, town.worker()])
    for (const secret of [town.pager.routingKey, town.pager.secret, town.pager.webhookUrl])
      expect(JSON.stringify(process.lines)).not.toContain(secret)
  town.stage.slack.faults.clear()
})
