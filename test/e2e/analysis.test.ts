import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import pg from "pg"
import { afterAll, beforeAll, expect, test } from "vitest"
import { hasButton, startPlay, valueOf, wordsOf, type Play } from "../../playground/scenarios/play.ts"
import type { Message } from "../../playground/slack/local-slack.ts"
import { startStage, type Stage } from "../../playground/stage.ts"
import type { StepbackProcess } from "../../playground/stepback-process.ts"

let stage: Stage
let plans: string
let processes: StepbackProcess[] = []
const play = (): Play => startPlay(stage, () => undefined)

const plan = (environment: string, last: string) => `version: 1
environment: ${environment}
title: What comes after
target: { http: "\${STAGING_URL}" }
approve:
  low: { count: 1, from: [U0BOB] }
  medium: { count: 1, from: [U0BOB] }
  high: { count: 1, from: [U0BOB] }
escalate: { channel: C0ONCALL, mention: [S0ONCALL] }
components:
  service:
    title: Service
    risk: low
    rto: 1m
    steps:
      - { id: first, title: First, effect: keyed, command: [sleep, "0"], undo: [sleep, "0"] }
      - { id: last, title: Last, effect: keyed, command: ["${last}"] }
success:
  - { text: The last one ran, from: last }
analysis: { remind: 1s }
`

const start = async (): Promise<void> => {
  processes = [await stage.start({ STEPBACK_ROLE: "bot" }), await stage.start({ STEPBACK_ROLE: "worker" })]
}

beforeAll(async () => {
  plans = await mkdtemp(join(tmpdir(), "stepback-plans-"))
  await writeFile(join(plans, "broken.yaml"), plan("broken", "false"))
  await writeFile(join(plans, "whole.yaml"), plan("whole", "true"))
  stage = await startStage({ mode: "http", queue: "redis", plans })
  await start()
})
afterAll(async () => {
  await stage.stop()
  await rm(plans, { recursive: true, force: true })
})

async function approved(scene: Play, environment: string): Promise<Message> {
  await scene.types("alice", `${environment} *not bold* since noon`)
  const card = await scene.waitingCard()
  await scene.presses("bob", card, "approve")
  return card
}

const inThread = (card: Message, what: string, holds: (message: Message) => boolean): Promise<Message> =>
  stage.slack.waitFor(() => stage.slack.replies("staging", card.ts).find(holds), { what, timeoutMs: 20_000 })

async function rows<T extends object>(sql: string): Promise<T[]> {
  const client = new pg.Client({ connectionString: stage.environment["DATABASE_URL"] })
  await client.connect()
  try {
    return (await client.query<T>(sql)).rows
  } finally {
    await client.end()
  }
}

test("Leave it: who may stop decides, everybody reads it, the other ways on are closed, undo is not", async () => {
  const scene = play()
  const { ts } = await approved(scene, "broken")
  const failed = await scene.sees("staging", "Leave it", (message) => message.ts === ts && hasButton(message, "leave"))
  expect(failed.text).not.toMatch(/^Last$/m)
  const called = await scene.sees("oncall", "the escalation", (message) => hasButton(message, "acknowledge"))
  await scene.presses("carol", failed, "leave")
  await scene.isTold("carol", "may leave this as it is")
  const retry = { action_id: "retry", value: valueOf(failed, "retry") }
  await scene.presses("bob", failed, "leave")

  const left = await scene.sees("staging", "the card", (message) => message.ts === ts && !hasButton(message, "leave"))
  expect(left.text).toMatch(/Left as it is by <@U0BOB> at \d\d:\d\d:\d\d UTC; \/rollback undo R-1/)
  expect(["retry", "skip", "undo"].filter((action) => hasButton(left, action))).toEqual([])
  await inThread(failed, "the decision in the thread", (message) => message.text.includes("Left as it is by <@U0BOB>"))
  await scene.sees("oncall", "the end of the calls", (message) => {
    return (
      message.ts === called.ts && /left as it is by <@U0BOB>/.test(message.text) && !hasButton(message, "acknowledge")
    )
  })
  await scene.sees("staging", "the decision in the analysis", (message) =>
    /^Post-rollback analysis[^]*left as it is by <@U0BOB>/.test(message.text),
  )
  // A click on a card from before is told what can still be done.
  await stage.slack.click({ user: "alice", channel: "staging", ts, action: "retry", forge: retry })
  await scene.isTold("alice", "was left as it is by <@U0BOB>")
  expect(await rows("select actor from stepback.audit where kind = 'left'")).toEqual([{ actor: "U0BOB" }])

  await scene.types("alice", "undo R-1")
  const undo = await scene.waitingCard()
  await scene.presses("alice", undo, "cancel")
  // Until then the environment is the undo's.
  await scene.sees(
    "staging",
    "that it is cancelled",
    (message) => message.ts === undo.ts && !hasButton(message, "cancel"),
  )
})

test("reminded until it is complete; each follow-up has an owner and a date; the document follows", async () => {
  const scene = play()
  const card = await approved(scene, "whole")
  await inThread(card, "a reminder", (message) => message.text.includes("still waits for: root cause, prevention"))
  await Promise.all(processes.map((started) => started.stop()))
  await start()
  const told = stage.slack.replies("staging", card.ts).length
  const again = await stage.slack.waitFor(() => stage.slack.replies("staging", card.ts)[told], {
    what: "a reminder after the restart",
    timeoutMs: 20_000,
  })
  await scene.presses("bob", again, "fill_analysis")
  const answers = { root_cause: "a key was renamed", prevention: "a check in CI" }
  await scene.fills("bob", { ...answers, follow_up_0_text: "Add the check", follow_up_1_owner: "U0CAROL" })
  const kept = await stage.slack.waitFor(() => stage.slack.openViews("bob").find((view) => view.errors), {
    what: "what is missing, beside its fields",
  })
  expect(Object.keys(kept.errors ?? {}).sort()).toEqual([
    "follow_up_0_due",
    "follow_up_0_owner",
    "follow_up_1_due",
    "follow_up_1_text",
  ])
  await scene.presses("alice", again, "fill_analysis")
  await stage.slack.waitFor(() => stage.slack.openViews("alice").length > 0, { what: "the second form" })
  const row = { follow_up_0_text: "Add *the* check", follow_up_0_owner: "U0CAROL", follow_up_0_due: "2999-12-01" }
  await scene.fills("bob", { ...answers, ...row })

  const complete = await scene.sees("staging", "the complete analysis", (message) =>
    /^Post-rollback analysis[^]*a key was renamed/.test(message.text),
  )
  expect(complete.text).not.toContain("waiting for")
  expect(complete.text).toContain("• Add *the* check · <@U0CAROL> · until 2999-12-01")
  expect(complete.text).toMatch(/Service: .* of 1 min/)
  const { files } = await inThread(card, "the document", (message) => (message.files ?? []).length > 0)
  const document = stage.slack.fileText(String(files?.[0]?.["id"])) ?? ""
  expect(document).toContain("| Add \\*the\\* check | U0CAROL | 2999-12-01 |")

  // Written meanwhile: nothing is lost, neither what is there nor what was typed.
  await scene.fills("alice", { root_cause: "something else", prevention: "hope" })
  const refused = await scene.isTold("alice", "<@U0BOB> saved the analysis of")
  expect(refused.text).toContain("something else")
  expect(await rows("select root_cause, remind_at from stepback.analyses where revision > 0")).toEqual([
    { root_cause: "a key was renamed", remind_at: null },
  ])
  const reminders = await rows<{ n: number }>(
    "select count(distinct ts)::int as n, count(*)::int as all from stepback.outbox where key like '%/reminder/%' and state = 'sent'",
  )
  expect(reminders[0]).toMatchObject({ n: (reminders[0] as unknown as { all: number }).all })

  await scene.types("carol", "analysis R-3")
  const shown = await scene.isTold("carol", "Shown again: Post-rollback analysis")
  expect(JSON.stringify(shown.blocks)).toContain('"type":"rich_text"')
  expect(wordsOf(shown as unknown as Message)).toContain("Add *the* check")
})
