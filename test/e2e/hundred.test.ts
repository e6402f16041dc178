import { createHmac } from "node:crypto"
import pg from "pg"
import { afterAll, beforeAll, expect, test } from "vitest"
import { repliesOf, valueOf } from "../../playground/scenarios/play.ts"
import type { Message } from "../../playground/slack/local-slack.ts"
import { startStage, type Stage } from "../../playground/stage.ts"
import type { StepbackProcess } from "../../playground/stepback-process.ts"

let stage: Stage
let bots: StepbackProcess[]

beforeAll(async () => {
  stage = await startStage({ mode: "http", queue: "redis" })
  for (let n = 1; n <= 100; n++) stage.slack.addUser({ id: `U0CROWD${n}`, name: `crowd${n}` })
  const secretless = Object.fromEntries(Object.keys(stage.world.env).map((name) => [name, ""]))
  bots = await Promise.all([
    stage.start({ STEPBACK_ROLE: "bot", ...secretless }),
    stage.start({ STEPBACK_ROLE: "bot", ...secretless }),
  ])
  await stage.start({ STEPBACK_ROLE: "worker" })
})
afterAll(() => stage.stop())

test("a hundred people over two processes press Approve at once: one decision, one run, each effect once", async () => {
  await stage.slack.command({ user: "alice", channel: "staging", text: "staging everybody is awake" })
  const card = await stage.slack.waitFor(
    () => stage.slack.messages("staging").find((message) => message.text.includes("Needs 1 approval")),
    { timeoutMs: 20_000, what: "the card" },
  )
  const presses = Array.from({ length: 100 }, (_, n) => press(bots[n % 2] as StepbackProcess, `U0CROWD${n + 1}`, card))
  expect(new Set(await Promise.all(presses))).toEqual(new Set([200]))
  await stage.slack.waitFor(() => stage.slack.messages("staging").find((one) => one.text.startsWith("Post-rollback")), {
    timeoutMs: 40_000,
    what: "the analysis",
  })

  const state = await ask(stage.environment["DATABASE_URL"] ?? "", {
    approvals: "select count(*)::int from stepback.approvals",
    decisions: "select count(*)::int from stepback.audit where kind = 'approval'",
    steps: "select count(*)::int from stepback.step_runs",
    attempts: "select max(attempt) from stepback.step_runs",
  })
  expect(state).toMatchObject({ approvals: 1, decisions: 1, steps: 18, attempts: 1 })
  const target = await ask(stage.world.databaseUrl, {
    sessions: "select count(*)::int from assessment_sessions",
    version: "select value #>> '{}' from scoring_config where key = 'results_version'",
  })
  expect(target).toEqual({ sessions: 3064, version: "v1.2.0" })
  expect(repliesOf(stage, card.ts)).toHaveLength(18)
  const told = Array.from({ length: 100 }, (_, n) => stage.slack.ephemerals(`crowd${n + 1}`)).flat()
  expect(told).toHaveLength(99)
  expect(told.filter((one) => !/Too late: R-1 is/.test(one.text)).map((one) => one.text)).toEqual([])
})

/** One value for each question. */
async function ask(url: string, questions: Record<string, string>): Promise<Record<string, unknown>> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const answers: [string, unknown][] = []
    for (const [name, sql] of Object.entries(questions)) {
      const { rows } = await client.query<unknown[]>({ text: sql, rowMode: "array" })
      answers.push([name, rows[0]?.[0]])
    }
    return Object.fromEntries(answers)
  } finally {
    await client.end()
  }
}

/** Signed as Slack signs it, to one of several processes. */
async function press(bot: StepbackProcess, user: string, card: Message): Promise<number> {
  const payload = {
    type: "block_actions",
    user: { id: user, team_id: "T0LOCAL" },
    team: { id: "T0LOCAL" },
    channel: { id: "C0STAGING" },
    container: { type: "message", message_ts: card.ts, channel_id: "C0STAGING" },
    trigger_id: `trigger.${user}`,
    actions: [
      { type: "button", action_id: "approve", block_id: "b", value: valueOf(card, "approve"), action_ts: "1.1" },
    ],
  }
  const body = new URLSearchParams({ payload: JSON.stringify(payload) }).toString()
  const at = String(Math.floor(Date.now() / 1000))
  const signature = createHmac("sha256", stage.slack.signingSecret).update(`v0:${at}:${body}`).digest("hex")
  const answer = await fetch(`http://127.0.0.1:${bot.port}/slack/events`, {
    method: "POST",
    body,
    headers: {
      "content-type": "application/x-www-form-urlencoded",
      "x-slack-request-timestamp": at,
      "x-slack-signature": `v0=${signature}`,
    },
  })
  return answer.status
}
