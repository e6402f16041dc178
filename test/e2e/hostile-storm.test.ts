import { readFile } from "node:fs/promises"
import pg from "pg"
import { afterAll, beforeAll, expect, it } from "vitest"
import { startStage, type Stage } from "../../playground/stage.ts"
import type { StepbackProcess } from "../../playground/stepback-process.ts"
import { createHostile } from "./hostile-inputs.ts"

/** Requests at the door of a real process: with STORM=1 the other 20,000 of a hundred thousand. */
const requests = process.env["STORM"] === "1" ? 20_000 : 500
/** Side by side. What nobody listens to is answered by Bolt after three seconds only. */
const side = 100

let stage: Stage
let stepback: StepbackProcess

beforeAll(async () => {
  stage = await startStage({ mode: "http", queue: "redis" })
  for (let n = 0; n < 60; n++) stage.slack.addUser({ id: `U0H${n}`, name: `h${n}` })
  stage.slack.addChannel({ id: "C0SHARED", name: "shared", is_ext_shared: true })
  stepback = await stage.start({ PLANTED: "planted-api-key-7c1e" })
})
afterAll(() => stage.stop())

async function residentMb(): Promise<number> {
  const status = await readFile(`/proc/${stepback.pid}/status`, "utf8").catch(() => "")
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024
}

it(`${requests} signed requests that Slack never sent are answered, kill nothing and stay nowhere`, async () => {
  const state = new pg.Pool({ connectionString: stage.environment["DATABASE_URL"], max: 1 })
  await stage.slack.command({ user: "alice", channel: "staging", text: "staging a real one" })
  const card = await stage.slack.waitFor(() => stage.slack.messages("staging").find(({ text }) => /Needs 1/.test(text)))
  const { rows } = await state.query<{ token: string; id: string }>("select token, id from stepback.rollbacks")
  const ids = {
    users: [
      ...Array.from({ length: 60 }, (_, n) => `U0H${n}`),
      "U0ALICE",
      "U0GUEST",
      "U0STRANGER",
      "U0ROBOT",
      "U0NOBODY",
    ],
    channels: ["C0STAGING", "C0SHARED", "C0NOWHERE"],
    // Not those that would approve: one that does is tested elsewhere.
    tokens: rows.map(({ id }) => id),
  }
  const deaths: string[] = []
  // Rejected when the process ends, with what it said last.
  stepback
    .logged(() => false)
    .catch((error: unknown) => {
      deaths.push(String(error))
    })
  const codes = new Map<number, number>()
  let [sent, warm] = [0, 0]
  const one = async (): Promise<void> => {
    while (sent < requests && deaths.length === 0) {
      const hostile = createHostile(1_000_000 + sent++)
      const code = await stage.slack.sendRaw({ body: hostile.slackBody(ids) })
      codes.set(code, (codes.get(code) ?? 0) + 1)
      if (sent === Math.floor(requests / 4)) warm = await residentMb()
    }
  }
  await Promise.all(Array.from({ length: side }, one))
  expect(deaths).toEqual([])
  // The queue behind the acks is empty when what comes last has its answer.
  const before = stage.slack.ephemerals("bob").length
  await stage.slack.command({ user: "bob", channel: "staging", text: "help" })
  await stage.slack.waitFor(() => stage.slack.ephemerals("bob")[before], {
    timeoutMs: 60_000,
    what: "an answer to bob",
  })
  const grown = (await residentMb()) - warm
  console.log(
    `answers: ${JSON.stringify(Object.fromEntries(codes))}; RSS ${warm.toFixed(0)} MB, then ${grown.toFixed(0)} MB more`,
  )

  // 0: no answer within Slack's three seconds, for forms and shortcuts that are none of ours.
  expect([...codes.keys()].filter((code) => ![0, 200, 400, 404, 500].includes(code))).toEqual([])
  expect(codes.get(200) ?? 0).toBeGreaterThan(requests / 3)
  expect(grown).toBeLessThan(150)
  const everything = [...stage.slack.messages("staging"), ...stage.slack.replies("staging", card.ts)]
  expect(everything.flatMap(({ mentions }) => mentions).filter((id) => !/^U0(ALICE|H\d+)$/.test(id))).toEqual([])
  const told = ids.users.slice(0, 60).flatMap((id) => stage.slack.ephemerals(id))
  expect(told.length).toBeGreaterThan(requests / 10)
  expect(
    told.filter(({ text }) => /<!(channel|here|everyone|subteam)|<@U0CAROL>|[\u202a-\u202e\u2066\u200b]/.test(text)),
  ).toEqual([])
  const log = JSON.stringify(stepback.lines)
  for (const secret of ["planted-api-key-7c1e", stage.slack.botToken, stage.slack.signingSecret]) {
    expect(log.includes(secret)).toBe(false)
    expect(JSON.stringify(told).includes(secret)).toBe(false)
  }
  expect(
    stepback.lines.filter(({ msg }) => ["a request failed", "a request was dropped", "uncaught"].includes(String(msg))),
  ).toEqual([])
  const { rows: after } = await state.query<{ n: number }>("select count(*)::int as n from stepback.approvals")
  expect(after).toEqual([{ n: 0 }])
  await state.end()
}, 900_000)
