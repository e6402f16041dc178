import { describe, expect, it } from "vitest"
import { planViews } from "../../../src/plans/step-view.ts"
import { checkPlanSource } from "../../../src/plans/load.ts"
import { escalationsOf, wholeStanding } from "../../../src/rollback/escalation.ts"
import type { RollbackView } from "../../../src/rollback/facts.ts"
import { result, stepRun, waiting } from "../bot/views.ts"

const source = `version: 1
environment: shop
title: Shop back
target: { postgres: "\${SHOP_DB}", http: "\${SHOP_URL}" }
params: { bad: { type: string, default: "7.4" } }
approve:
  low: { count: 1, from: anyone }
  medium: { count: 1, from: anyone }
  high: { count: 1, from: anyone }
components:
  all:
    risk: low
    steps:
      - { id: remove, purge: { table: quotes, where: "engine = $1", at_most: 50 }, params: [bad] }
      - { id: family, purge: { table: orders, where: "engine = $1", cascade: [lines], at_most: 50 }, params: [bad] }
      - { id: price, http: { method: POST, path: /price, json: { engine: $bad } }, effect: keyed, irreversible: it counts }
      - { id: deploy, command: [./deploy.sh, $bad], cwd: "\${SHOP_FOLDER}", effect: keyed, irreversible: it counts }
`

async function view(): Promise<RollbackView> {
  const { plan } = await checkPlanSource("shop.yaml", source)
  if (plan === null) throw new Error("no plan")
  const { plan: read } = plan
  return { ...waiting, state: "failed", components: planViews(read, { bad: "7.4" }), rehearsal: null }
}

async function byHandOf(stepId: string, code: string): Promise<string> {
  const failure = { code, message: "no", position: null, statement: null, detail: null, hint: null }
  const failed = { ...(await view()), stepRuns: [stepRun(stepId, result({ outcome: "failed", failure }))] }
  const escalate = { channel: null, mention: [], acknowledgeWithinMs: 60_000, hook: null }
  return escalationsOf(failed, { escalate }, { trouble: null })[0]?.facts.byHand ?? ""
}

describe("what a person is handed to paste", () => {
  it.each(["refused", "row_count", "not_rehearsed", "too_many"])(
    "%s: what was refused is only counted",
    async (code) => {
      const text = await byHandOf("remove", code)
      expect(text).toMatch(/select count\(\*\) from quotes where engine = '7.4'/)
      expect(text).not.toMatch(/delete/i)
    },
  )

  it("a purge keeps what it removes, in one transaction, and no more than the plan allows", async () => {
    const text = await byHandOf("remove", "57014")
    expect(text).toMatch(
      /^begin;\nlock table quotes[\s\S]*create table stepback_by_hand_remove as select \* from quotes/,
    )
    expect(text).toMatch(/> 50 then raise exception[\s\S]*delete from quotes where engine = '7.4';\ncommit;$/)
  })

  it("rows that would go along are not pasted away", async () => {
    const text = await byHandOf("family", "57014")
    expect(text).toMatch(/rows of lines go along: stepback plan show/)
    expect(text).not.toMatch(/delete/i)
  })

  it("requests and programs are lines of a shell, with their values", async () => {
    expect(await byHandOf("price", "http_500")).toMatch(
      /^curl .*"\$\{SHOP_URL%\/\}"\/price.*--data-raw '\{"engine":"7.4"\}'$/,
    )
    expect(await byHandOf("deploy", "exit_1")).toBe('(cd "${SHOP_FOLDER}" && ./deploy.sh 7.4)')
  })
})

it("a run that asked again in its middle says what is done, not only who approved", async () => {
  const half = { ...(await view()), approvedAt: null, stepRuns: [stepRun("remove", result())] }
  const { evidence, byHand } = wholeStanding(half)
  expect(evidence[1]).toBe("1 of 4 steps done, the last of them: Remove")
  expect(byHand).toMatch(/-- Family[\s\S]*# Price\ncurl/)
})

it("a value that was missing is no failure of SQL, and whoever answered is no bare id", async () => {
  const lacking = {
    code: "no_value",
    message: "$bad has no value",
    position: null,
    statement: null,
    detail: null,
    hint: null,
  }
  const run = stepRun(
    "remove",
    result({
      outcome: "failed",
      failure: lacking,
      evidence: ["not done, says U0CAROL at 10:00:00 UTC"],
      confirmedBy: "U0CAROL",
    }),
  )
  const escalate = { channel: null, mention: [], acknowledgeWithinMs: 60_000, hook: null }
  const [raised] = escalationsOf({ ...(await view()), stepRuns: [run] }, { escalate }, { trouble: null })
  expect(raised?.facts).toMatchObject({ trigger: "step_failed", headline: "Remove: a step failed" })
  expect(raised?.facts.evidence).toEqual(["$bad has no value", "not done, says a person at 10:00:00 UTC"])
})

it("nobody is called for what Stop ended, also where another step had failed", async () => {
  const why = (code: string) => ({ code, message: "no", position: null, statement: null, detail: null, hint: null })
  const stepRuns = [
    stepRun("remove", result({ outcome: "failed", failure: why("row_count") })),
    stepRun("deploy", result({ outcome: "failed", failure: why("stopped") })),
  ]
  const escalate = { channel: null, mention: [], acknowledgeWithinMs: 60_000, hook: null }
  const raised = escalationsOf(
    { ...(await view()), stepRuns, stopRequestedBy: "UBOB" },
    { escalate },
    { trouble: null },
  )
  expect(raised.map(({ facts }) => facts.stepId)).toEqual(["remove"])
})
