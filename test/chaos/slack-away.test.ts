import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as pause } from "node:timers/promises"
import pg from "pg"
import { afterAll, beforeAll, expect, it } from "vitest"
import { allSaid, endOf, keysOf, rollBack } from "../../playground/faults/following.ts"
import { until } from "../../playground/faults/until.ts"
import { startPostgres, unsynced, type Postgres } from "../../playground/postgres.ts"
import { startLocalSlack } from "../../playground/slack/local-slack.ts"
import { startStepback } from "../../playground/stepback-process.ts"

/**
 * STORM=1: Slack is away for ten minutes of a run that takes eleven, beside the same run with a Slack that answers. Else
 * a short run, with Slack away from its first message to its end.
 */
const storm = process.env["STORM"] === "1"
const plan = storm ? { steps: 60, seconds: 11 } : { steps: 12, seconds: 0.3 }
const awayMs = storm ? 600_000 : 0
const minute = 60_000
const timeout = storm ? 40 * minute : 3 * minute
const steps = Array.from({ length: plan.steps }, (_, n) => `s${n + 1}`)

const source = `version: 1
environment: patient
title: Many light steps
target: { http: "\${PATIENT_URL}" }
approve:
  low: { count: 1, from: anyone }
  medium: { count: 1, from: anyone }
  high: { count: 1, from: anyone }
components:
  all:
    risk: low
    steps:
${steps.map((id) => `      - { id: ${id}, effect: keyed, command: [sleep, "${plan.seconds}"] }`).join("\n")}
`

let postgres: Postgres
let folder: string

beforeAll(async () => {
  postgres = await startPostgres({ flags: unsynced })
  folder = await mkdtemp(join(tmpdir(), "stepback-patient-"))
  await writeFile(join(folder, "patient.yaml"), source)
}, 2 * minute)
afterAll(async () => {
  await postgres.stop()
  await rm(folder, { recursive: true, force: true })
})

/** A Slack, a state and a process of its own. */
async function startTown(name: string) {
  const [slack, stateUrl] = await Promise.all([startLocalSlack(), postgres.createDatabase(name)])
  const state = new pg.Pool({ connectionString: stateUrl, max: 2 })
  const stepback = await startStepback({
    SLACK_BOT_TOKEN: slack.botToken,
    SLACK_API_URL: slack.apiUrl,
    SLACK_SIGNING_SECRET: slack.signingSecret,
    DATABASE_URL: stateUrl,
    STEPBACK_PLANS: folder,
    PATIENT_URL: "http://127.0.0.1:1",
  })
  slack.setRequestUrl(`http://127.0.0.1:${stepback.port}/slack/events`)
  return {
    slack,
    state,
    /** Asks, approves, and waits until the first step's words are in the thread. */
    async begin(): Promise<string> {
      const { id } = await rollBack({ slack, state }, "patient again")
      await slack.waitFor(() => keysOf(slack, id).includes(`${id}/s1/1`), {
        timeoutMs: 2 * minute,
        what: "its first words",
      })
      return id
    },
    /** How long the run took, when it has ended. */
    async ended(id: string): Promise<number> {
      expect(await until("the end of the run", () => endOf(state, id), timeout)).toBe("succeeded")
      const { rows } = await state.query<{ ms: number }>(
        "select (extract(epoch from ended_at - started_at) * 1000)::float8 as ms from stepback.rollbacks where id = $1",
        [id],
      )
      return rows[0]?.ms ?? 0
    },
    async stop() {
      await stepback.stop()
      await Promise.all([state.end(), slack.stop()])
    },
  }
}
type Town = Awaited<ReturnType<typeof startTown>>

/** All that there is to say stands in the channel, once, in the order in which it happened. */
async function expectWholeThread({ slack, state }: Town, id: string): Promise<void> {
  await until("the last message", () => allSaid(state, id), 4 * minute)
  const keys = keysOf(slack, id).map((key) => key.slice(id.length + 1))
  const told = steps.map((step) => `${step}/1`)
  expect(keys.filter((key) => told.includes(key))).toEqual(told)
  expect(
    keys
      .filter((key) => !told.includes(key))
      .map((key) => key.replace(/^audit\/\d+$/, "audit"))
      .sort(),
  ).toEqual(["analysis", "audit", "card"])
}

it(
  "Slack is away: the run goes on to its end, and afterwards every message is there, once, in order",
  { timeout },
  async () => {
    const [town, control] = await Promise.all([startTown("away"), storm ? startTown("control") : null])
    const [id, controlled] = await Promise.all([town.begin(), control?.begin()])
    // The first is taken and its answer lost, the next ones hang, then there is nobody at all.
    town.slack.faults.set(
      { kind: "drop_after_accept", times: 1 },
      { kind: "hang", times: 2 },
      { kind: "drop_before_accept", times: 5 },
      { kind: "500" },
    )
    const took = town.ended(id)
    if (storm) await pause(awayMs)
    else await took
    const waiting = await town.state.query("select from stepback.outbox where state in ('pending', 'sending')")
    expect(waiting.rowCount).toBeGreaterThan(plan.steps / 2)
    town.slack.faults.clear()
    const ms = await took
    await expectWholeThread(town, id)
    if (control && controlled !== undefined) {
      const plain = await control.ended(controlled)
      console.log(
        `Slack away for ${awayMs / 1000} s: ${ms.toFixed(0)} ms; beside it with Slack: ${plain.toFixed(0)} ms; ratio ${(ms / plain).toFixed(3)}`,
      )
      expect(ms / plain).toBeLessThan(1.05)
    }
    await Promise.all([town.stop(), control?.stop()])
  },
)
