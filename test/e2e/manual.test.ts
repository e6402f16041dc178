import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import pg from "pg"
import { afterAll, beforeAll, expect, test } from "vitest"
import { hasButton, startPlay, wordsOf, type Play } from "../../playground/scenarios/play.ts"
import type { Message } from "../../playground/slack/local-slack.ts"
import { startStage, type Stage } from "../../playground/stage.ts"
import type { StepbackProcess } from "../../playground/stepback-process.ts"

let stage: Stage
let plans: string
let worker: StepbackProcess
const play = (): Play => startPlay(stage, () => undefined)

/** A plan of one component, up to its steps. */
const head = (environment: string, title: string) => `version: 1
environment: ${environment}
title: ${title}
target: { http: "\${STAGING_URL}" }
approve:
  low: { count: 1, from: anyone }
  medium: { count: 1, from: anyone }
  high: { count: 1, from: anyone }
components:
  service:
    title: Service
    risk: low
    steps:
`

const plan = (environment: string, timeout: string) => `${head(environment, "With a hand")}
      - id: flag
        title: Turn the flag off
        manual: |
          Open the console & set the flag to $good.
          Then wait for <!channel> green.
        timeout: ${timeout}
      - { id: after, title: Afterwards, effect: keyed, command: [sleep, "0"] }
params:
  good: { type: string, default: v1.2.0 }
success:
  - { text: The flag is off, from: flag }
`

/** Its second step succeeds when this file is there. */
const asks = (file: string) => `${head("asks", "With a question")}
      - { id: first, title: Look first, effect: keyed, command: [sleep, "0"] }
      - { id: shaky, title: The shaky one, effect: keyed, command: [test, "-e", ${file}], on_failure: ask }
      - { id: after, title: Afterwards, effect: keyed, command: [sleep, "0"] }
escalate: { channel: C0ONCALL, mention: [S0ONCALL] }
success:
  - { text: The shaky one held, from: shaky }
`

/** Its first step succeeds when the file is there, its second one never does. */
const stumbles = (file: string) => `${head("stumbles", "With two that fail")}
      - { id: first, title: The first one, effect: keyed, command: [test, "-e", ${file}] }
      - { id: second, title: The second one, effect: keyed, command: [test, "-e", ${file}/never] }
`

/** Looks for a file, goes on, and looks for it again for a while. */
const watched = (file: string) => `${head("watched", "With a watch")}
      - { id: before, title: Before, effect: keyed, command: [sleep, "0"] }
      - { id: there, title: The file, effect: none, command: [test, "-e", ${file}] }
watch: { for: 2s, every: 500ms, steps: [there], failures: 1 }
escalate: { channel: C0ONCALL, mention: [S0ONCALL] }
`

/** Three side by side that fail, each with a question. */
const together = `${head("together", "With three questions").replace("risk: low", "risk: low\n    parallel: true")}
      - { id: first, title: Number one, effect: keyed, command: [test, a, "=", one], on_failure: ask }
      - { id: second, title: Number two, effect: keyed, command: [test, a, "=", two], on_failure: ask }
      - { id: third, title: Number three, effect: keyed, command: [test, a, "=", three], on_failure: ask }
`

beforeAll(async () => {
  plans = await mkdtemp(join(tmpdir(), "stepback-plans-"))
  for (const [name, timeout] of [
    ["byhand", "10m"],
    ["brief", "1s"],
  ] as const)
    await writeFile(join(plans, `${name}.yaml`), plan(name, timeout))
  await writeFile(join(plans, "asks.yaml"), asks(join(plans, "there")))
  await writeFile(join(plans, "together.yaml"), together)
  await writeFile(join(plans, "stumbles.yaml"), stumbles(join(plans, "mended")))
  await writeFile(join(plans, "watched.yaml"), watched(join(plans, "watched")))
  stage = await startStage({ mode: "http", queue: "redis", plans })
  await stage.start({ STEPBACK_ROLE: "bot" })
  worker = await stage.start({ STEPBACK_ROLE: "worker" })
})
afterAll(async () => {
  await stage.stop()
  await rm(plans, { recursive: true, force: true })
})

async function approved(scene: Play, environment: string): Promise<Message> {
  await scene.types("alice", `${environment} down`)
  const card = await scene.waitingCard()
  await scene.presses("bob", card, "approve")
  return card
}

function question(card: Message, holds: (message: Message) => boolean): Promise<Message> {
  return stage.slack.waitFor(() => stage.slack.replies("staging", card.ts).find(holds), {
    what: "the question in the thread",
    timeoutMs: 20_000,
  })
}

test("a person is asked in the thread, the first answer counts, and who and when is evidence", async () => {
  const scene = play()
  const card = await approved(scene, "byhand")
  const asked = await question(card, (message) => hasButton(message, "manual_done"))
  expect(wordsOf(asked)).toContain("set the flag to v1.2.0")
  expect(asked.text).toMatch(/<@U0ALICE>, <@U0BOB>: R-\d+ waits for somebody/)
  expect(asked.text).not.toContain("<!channel>")
  expect(stage.slack.replies("staging", card.ts)).toHaveLength(1)
  await scene.presses("guest", asked, "manual_done")
  await scene.isTold("guest", "full members of this workspace may say whether this is done")
  await Promise.all([
    scene.presses("bob", asked, "manual_done"),
    scene.presses("alice", asked, "manual_not_done").catch(() => undefined),
  ])
  await scene.analysisOf(card)
  const told = await question(card, (message) => message.ts === asked.ts && /done, says/.test(message.text))
  expect(hasButton(told, "manual_done")).toBe(false)
  const { rows } = await audit()
  expect(rows).toEqual([{ n: 1 }])
})

/** The thread without the head of the record, which follows an end. */
function stepReplies(ts: string) {
  return stage.slack.replies("staging", ts).filter((message) => !message.text.startsWith("Audit head"))
}

async function audit(): Promise<{ rows: { n: number }[] }> {
  const client = new pg.Client({ connectionString: stage.environment["DATABASE_URL"] })
  await client.connect()
  try {
    return await client.query<{ n: number }>("select count(*)::int as n from stepback.audit where kind = 'confirmed'")
  } finally {
    await client.end()
  }
}

test(
  "a killed worker, a drained one: the question stays one, the answer counts whoever waits",
  { timeout: 120_000 },
  async () => {
    const scene = play()
    const card = await approved(scene, "byhand")
    const asked = await question(card, (message) => hasButton(message, "manual_done"))
    worker.kill("SIGKILL")
    await worker.ended
    worker = await stage.start({ STEPBACK_ROLE: "worker" })
    await worker.logged((line) => line["msg"] === "run taken")
    worker.kill("SIGTERM")
    expect(await worker.ended).toBe(0)
    await scene.presses("carol", asked, "manual_done")
    worker = await stage.start({ STEPBACK_ROLE: "worker" })
    const analysis = await scene.analysisOf(card)
    expect(wordsOf(analysis)).toContain("The flag is off")
    const replies = stepReplies(card.ts)
    expect(replies.filter((message) => wordsOf(message).includes("Open the console"))).toHaveLength(1)
    // The question has become the step's reply; the other one is that of the step after it.
    expect(replies.map((message) => message.ts === asked.ts)).toEqual([true, false])
    expect(replies[0]?.text).toMatch(/^✓ Turn the flag off · done, says <@U0CAROL> at \d\d:\d\d:\d\d UTC/)
  },
)

test("not done fails the step; Retry asks anew; Stop ends the wait", async () => {
  const scene = play()
  const card = await approved(scene, "byhand")
  const first = await question(card, (message) => hasButton(message, "manual_not_done"))
  await scene.presses("bob", first, "manual_not_done")
  const failed = await scene.sees(
    "staging",
    "the end with Retry",
    (message) => message.ts === card.ts && hasButton(message, "retry"),
  )
  await scene.presses("alice", failed, "retry")
  const second = await question(card, (message) => message.ts !== first.ts && hasButton(message, "manual_done"))
  const running = await scene.sees(
    "staging",
    "the button Stop",
    (message) => message.ts === card.ts && hasButton(message, "stop"),
  )
  await scene.presses("alice", running, "stop")
  const stopped = await scene.sees(
    "staging",
    "the end",
    (message) => message.ts === card.ts && /stopped/.test(message.text),
  )
  expect(hasButton(stopped, "stop")).toBe(false)
  const closed = await question(card, (message) => message.ts === second.ts && !hasButton(message, "manual_done"))
  expect(closed.text).toContain("the rollback was stopped")
})

test("nobody answers in time: the step fails, and says so", async () => {
  const scene = play()
  const card = await approved(scene, "brief")
  await scene.analysisOf(card)
  const told = await question(
    card,
    (message) => message.text.startsWith("✗ Turn the flag off") && !hasButton(message, "manual_done"),
  )
  expect(told.text).toMatch(/nobody (answered|said) in time/)
})

test(
  "on_failure: ask waits for people: Retry as often as they want, over the worker's death, and one escalation a failure",
  { timeout: 120_000 },
  async () => {
    const scene = play()
    const card = await approved(scene, "asks")
    const asked = await question(card, (message) => hasButton(message, "failure_retry"))
    expect(asked.text).toMatch(/<@U0ALICE>, <@U0BOB>: R-\d+ waits for you to decide/)
    await scene.sees("oncall", "the call", (message) => message.text.includes("The shaky one"))
    await scene.sees("staging", "that it waits", (message) => {
      return message.ts === card.ts && message.text.includes("the thread asks what to do") && hasButton(message, "stop")
    })
    worker.kill("SIGKILL")
    await worker.ended
    worker = await stage.start({ STEPBACK_ROLE: "worker" })
    await worker.logged((line) => line["msg"] === "run taken")
    await scene.presses("guest", asked, "failure_retry")
    await scene.isTold("guest", "full members of this workspace may retry this")
    await scene.presses("carol", asked, "failure_retry")
    const again = await question(card, (message) => message.ts !== asked.ts && hasButton(message, "failure_retry"))
    await writeFile(join(plans, "there"), "")
    // Answered while nobody works on it: the answer waits, as the question did.
    worker.kill("SIGKILL")
    await worker.ended
    await scene.presses("carol", again, "failure_retry")
    worker = await stage.start({ STEPBACK_ROLE: "worker" })
    const analysis = await scene.analysisOf(card)
    expect(analysis.text).toContain("✓ The shaky one held")
    expect(analysis.text).toMatch(/Retry chosen in the thread by <@U0CAROL>[^]*Retry chosen[^]*succeeded/)
    const replies = stage.slack.replies("staging", card.ts)
    expect(replies.filter((message) => /had failed: retried by <@U0CAROL>/.test(message.text))).toHaveLength(2)
    expect(stage.slack.messages("oncall").filter((message) => message.text.includes("The shaky one"))).toHaveLength(2)
    await rm(join(plans, "there"))
  },
)

test("on_failure: ask, Skip: the reason goes to a second person, then the run goes on without the step", async () => {
  const scene = play()
  const card = await approved(scene, "asks")
  const asked = await question(card, (message) => hasButton(message, "failure_skip"))
  await scene.presses("bob", asked, "failure_skip")
  await scene.fills("bob", { reason: "it is known to be down" })
  const again = await scene.sees("staging", "the card that asks again", (message) => {
    return message.ts === card.ts && hasButton(message, "approve") && message.text.includes("it is known to be down")
  })
  await scene.presses("bob", again, "approve")
  await scene.isTold("bob", "another person has to approve it")
  await scene.presses("carol", again, "approve")
  const analysis = await scene.analysisOf(card)
  expect(analysis.text).toContain("– The shaky one held · not checked")
  expect(analysis.text).toContain("skipped (it is known to be down)")
  expect(stepReplies(card.ts).at(-1)?.text).toContain("Afterwards")
})

test("on_failure: ask, Stop here: the run ends, and the card has the ways on", async () => {
  const scene = play()
  const card = await approved(scene, "asks")
  const asked = await question(card, (message) => hasButton(message, "failure_leave"))
  await scene.presses("alice", asked, "failure_leave")
  await scene.sees("staging", "the end", (message) => {
    return message.ts === card.ts && ["retry", "skip", "undo", "leave"].every((action) => hasButton(message, action))
  })
  const told = await question(card, (message) => message.ts === asked.ts && !hasButton(message, "failure_leave"))
  expect(told.text).toContain("stopped here by <@U0ALICE>")
})

test("Stop here ends the run for its other questions too, asked and answered", async () => {
  const scene = play()
  const card = await approved(scene, "together")
  const [one, two, three] = await Promise.all(
    ["Number one", "Number two", "Number three"].map((title) =>
      question(card, (message) => hasButton(message, "failure_skip") && wordsOf(message).includes(title)),
    ),
  )
  if (!one || !two || !three) throw new Error("not asked")
  await scene.presses("bob", one, "failure_skip")
  await scene.fills("bob", { reason: "it is known to be down" })
  await question(card, (message) => message.ts === one.ts && message.text.includes("to be skipped"))
  await scene.presses("alice", two, "failure_leave")
  await scene.sees("staging", "the end", (message) => {
    return message.ts === card.ts && hasButton(message, "retry") && !hasButton(message, "approve")
  })
  const told = await question(card, (message) => message.ts === three.ts && !hasButton(message, "failure_retry"))
  expect(told.text).toContain("no longer asked")
  const replies = stepReplies(card.ts).filter(({ text }) => text.includes("Number three") && text.includes("run 2"))
  expect(replies).toEqual([])
})

test("what held before the rollback is not said to have been broken before it because it was looked at again on the way", async () => {
  const scene = play()
  await writeFile(join(plans, "watched"), "")
  await scene.types("alice", "watched down")
  const card = await scene.waitingCard()
  expect(wordsOf(card)).toContain("Holds already: The file")
  await rm(join(plans, "watched"))
  await scene.presses("bob", card, "approve")
  const failed = await scene.sees("staging", "that it failed", ({ ts, ...message }) => {
    return ts === card.ts && hasButton({ ts, ...message }, "skip")
  })
  await scene.presses("bob", failed, "skip")
  await scene.fills("bob", { reason: "go on without it" })
  const again = await scene.sees("staging", "the card that asks again", (message) => {
    return message.ts === card.ts && hasButton(message, "approve")
  })
  expect(wordsOf(again)).not.toContain("✗ The file")
  await scene.presses("carol", again, "approve")
  const told = await question(card, ({ text }) => text.startsWith("Watch ended"))
  expect(told.text).toContain("(worked before the rollback)")
  const call = stage.slack.messages("oncall").find(({ text }) => text.includes("failing after the rollback"))
  expect(call?.text).toContain("it worked before the rollback")
  const analysis = await scene.sees("staging", "the watch in the analysis", (message) => {
    return wordsOf(message).includes(", last: exit code 1")
  })
  expect(wordsOf(analysis)).toContain("(worked before the rollback)")
  expect(wordsOf(analysis)).toContain("The file: failing after the rollback, until the end of the watch")
})

test("a Skip form leaves out the failure that it was opened for, and no other", async () => {
  const scene = play()
  const card = await approved(scene, "stumbles")
  const stands = (at: string) =>
    scene.sees("staging", `that it failed at ${at}`, (message) => {
      return message.ts === card.ts && hasButton(message, "skip") && wordsOf(message).includes(`${at}: failed`)
    })
  const first = await stands("The first one")
  await scene.presses("bob", first, "skip")
  const form = await stage.slack.waitFor(() => stage.slack.openViews("bob").at(-1), { what: "the form" })
  expect(JSON.stringify(form.blocks)).toContain("The first one")
  await writeFile(join(plans, "mended"), "")
  await scene.presses("alice", first, "retry")
  const second = await stands("The second one")
  await scene.fills("bob", { reason: "the first is not needed" })
  const told = await scene.isTold("bob", "nothing was left out. Press Skip on its card again")
  expect(told.text).toContain("> the first is not needed")
  await scene.presses("bob", second, "skip")
  await scene.fills("bob", { reason: "nor is this" })
  const again = await scene.sees("staging", "the card that asks again", (message) => {
    return message.ts === card.ts && hasButton(message, "approve")
  })
  expect(wordsOf(again)).toContain("The second one")
  expect(wordsOf(again)).toContain("nor is this")
  expect(wordsOf(again)).not.toContain("the first is not needed")
})
