import { once } from "node:events"
import { readFile } from "node:fs/promises"
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { afterAll, beforeAll, expect, it } from "vitest"
import { drawAnalysis } from "../../src/bot/blocks/analysis.ts"
import { drawCard } from "../../src/bot/blocks/card.ts"
import { drawMessage } from "../../src/bot/blocks/message.ts"
import { parseCommand } from "../../src/bot/parse-command.ts"
import { withoutSecrets } from "../../src/log.ts"
import { checkPlanSource } from "../../src/plans/load.ts"
import type { PlanStep } from "../../src/plans/plan.ts"
import type { StepResult } from "../../src/rollback/facts.ts"
import { commandStep } from "../../src/steps/command.ts"
import { httpStep } from "../../src/steps/http.ts"
import { createSecrets } from "../../src/steps/secrets.ts"
import { createHostile } from "../e2e/hostile-inputs.ts"
import { problemsOf } from "../unit/bot/slack-limits.ts"
import { analysis, now, result, stepRun, waiting } from "../unit/bot/views.ts"
import { contextOf, stepOf } from "./steps-fixture.ts"

const storm = process.env["STORM"] === "1"
/** Inputs of each kind: about 80,900 with STORM=1, 2,300 without. */
const many = (long: number, short: number) => (storm ? long : short)
const planted = "planted/secret+7c1e=="

let target: Server
let base: string
let answer: { status: number; body: string; headers: Record<string, string> }

beforeAll(async () => {
  target = createServer((request, response) => {
    request.resume()
    response.writeHead(answer.status, answer.headers).end(answer.body)
  })
  target.listen(0, "127.0.0.1")
  await once(target, "listening")
  base = `http://127.0.0.1:${(target.address() as AddressInfo).port}`
})
afterAll(() => target.close())

setFlagsFromString("--expose-gc")
const collect = runInNewContext("gc") as () => void
function heapMb(): number {
  collect()
  return process.memoryUsage().heapUsed / 1_048_576
}

/** Runs it so often, measures the heap after a tenth and at the end: what is kept of each input would show. */
async function level(times: number, work: (turn: number) => unknown): Promise<void> {
  let before = 0
  for (let turn = 0; turn < times; turn++) {
    await work(turn)
    if (turn === Math.floor(times / 10)) before = heapMb()
  }
  expect(heapMb() - before).toBeLessThan(40)
}

const forms = [planted, encodeURIComponent(planted), JSON.stringify(planted).slice(1, -1)]
function expectNoSecret(what: unknown): void {
  const text = JSON.stringify(what)
  for (const form of forms) expect(text.includes(form), text.slice(0, 300)).toBe(false)
}

/** A result as the card, the thread and the analysis show it. */
function expectDrawable(shown: StepResult): void {
  const run = stepRun("set-version", shown)
  const view = { ...waiting, state: "failed" as const, stepRuns: [run], reason: shown.evidence.join(" ") }
  for (const drawn of [
    drawMessage({ kind: "step", stepId: "set-version", attempt: run.attempt }, view, {}, now),
    drawCard(view, now),
    drawAnalysis(view, { ...analysis, issues: [...shown.evidence, shown.failure?.message ?? ""] }),
  ])
    expect(problemsOf(drawn, ["UALICE", "UBOB", "UCAROL", "S0ONCALL"])).toEqual([])
}

it(
  "what is typed is read as something or refused",
  () =>
    level(many(45_000, 1_000), (turn) => {
      const hostile = createHostile(turn)
      const typed = parseCommand(hostile.command(), () => ["since", "__proto__"])
      expect(typeof typed.kind).toBe("string")
      expect(Object.getPrototypeOf({})).toBe(Object.prototype)
    }),
  300_000,
)

it("plan files are read or refused with a place and a sentence", async () => {
  const source = await readFile(new URL("../../plans/staging.yaml", import.meta.url), "utf8")
  await level(many(1_500, 50), async (turn) => {
    const { plan, problems } = await checkPlanSource("x.yaml", createHostile(turn).plan(source))
    expect(plan === null).toBe(problems.length > 0)
    expect(problems.map(({ message }) => message).join()).not.toMatch(
      /undefined|\[object|Cannot read|is not a function/,
    )
  })
}, 600_000)

it("answers of functions are evidence that calls nobody and shows no secret", async () => {
  const probe = (await stepOf(
    '- { id: ask, http: { path: "/x", headers: { Authorization: "Bearer ${PLANTED}" } }, expect: { status: 200, json: { /a: ok } } }',
  )) as Extract<PlanStep, { kind: "http" }>
  const context = await contextOf({ http: base, workerEnvironment: { PLANTED: planted } })
  await level(many(12_000, 300), async (turn) => {
    const hostile = createHostile(turn)
    const words = hostile.below(2) === 0 ? JSON.stringify(hostile.json()) : hostile.text(5_000)
    answer = {
      status: hostile.pick([200, 200, 201, 301, 404, 500, 503, 599]),
      body: `${words}${hostile.pick(forms)}${hostile.text(20)}`,
      headers: {
        "x-told": "x",
        location: "http://169.254.169.254/",
        "content-type": hostile.pick(["application/json", "text/html", "x"]),
      },
    }
    const shown = await httpStep.run(probe, context)
    expect(shown.outcome).not.toBe("succeeded")
    expectNoSecret(shown)
    if (turn % 5 === 0) expectDrawable(shown)
  })
}, 600_000)

it("output of commands is evidence that calls nobody and shows no secret", async () => {
  const run = (await stepOf(
    `- { id: say, command: ["${process.execPath}", "-e", "process.stdout.write(process.env.PLANTED_WORDS); process.exit(3)"], env: [PLANTED_WORDS, PLANTED], effect: blind }`,
  )) as Extract<PlanStep, { kind: "command" }>
  await level(many(400, 10), async (turn) => {
    const hostile = createHostile(turn)
    const words = hostile.text(500).replaceAll("\u0000", "").toWellFormed()
    const secrets = createSecrets({
      PATH: process.env["PATH"],
      PLANTED: planted,
      PLANTED_WORDS: `${words} ${planted} ${words}`,
    })
    const shown = await commandStep.run(run, await contextOf({ secrets }))
    expect(shown.outcome).not.toBe("succeeded")
    expectNoSecret(shown)
    expectDrawable(shown)
  })
}, 600_000)

it(
  "words from anywhere are drawn within Slack's limits, and call nobody",
  () =>
    level(many(6_000, 200), (turn) => {
      const hostile = createHostile(turn)
      const words = Array.from({ length: 1 + hostile.below(4) }, () => hostile.text(3_000))
      expectDrawable(
        result({
          outcome: "failed",
          evidence: words,
          output: hostile.text(5_000),
          failure: {
            code: hostile.text(3),
            message: words.join("\n"),
            position: 3,
            statement: hostile.text(500),
            detail: hostile.text(50),
            hint: null,
          },
        }),
      )
    }),
  600_000,
)

it(
  "secrets of every shape are taken out of every place they may stand in",
  () =>
    level(many(16_000, 700), (turn) => {
      const hostile = createHostile(turn)
      const secret = `${hostile.pick(["a", "Z", "9"])}${hostile.below(1e9)}${hostile.pick(["", "/+=", "%41", '"q', "ü", "\n"])}x`
      const secrets = createSecrets({ KEY: secret, URL: `postgres://u:${encodeURIComponent(secret)}@h/db` })
      secrets.resolve("${KEY}")
      secrets.resolve("${URL}")
      const told = [
        secret,
        secret.trim(),
        encodeURIComponent(secret.trim()),
        JSON.stringify(secret.trim()).slice(1, -1),
        `https://u:${encodeURIComponent(secret)}@host/`,
      ]
      for (const form of told) {
        const shown = secrets.redact(`${hostile.text(30)}${form}${hostile.text(30)}`)
        expect(shown.includes(form.trim()), form).toBe(false)
      }
      const token = `xoxb-${hostile.below(1e9)}-${hostile.below(1e9)}`
      for (const line of [`${hostile.text(5)} ${token} `, `{"a":"Bearer ${token}"}`, `redis://:${token}@h`])
        expect(withoutSecrets(line).includes(token)).toBe(false)
    }),
  300_000,
)
