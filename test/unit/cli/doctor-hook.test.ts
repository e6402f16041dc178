import { expect, test } from "vitest"
import { checkPlanTarget } from "../../../src/cli/doctor-plan.ts"
import { createRedactor } from "../../../src/cli/secrets.ts"
import { createLogger } from "../../../src/log.ts"
import { checkPlanSource } from "../../../src/plans/load.ts"

const key = "0123456789abcdef0123456789abcdef"

/** What doctor says of a plan that has a pager and nothing else to look at. */
async function doctor(hook: string, env: Record<string, string>): Promise<string[]> {
  const source = `version: 1
environment: shop
title: Shop back
target: {}
approve: { low: { count: 1, from: anyone }, medium: { count: 1, from: anyone }, high: { count: 1, from: anyone } }
components: { all: { risk: low, steps: [{ id: look, manual: Look at it }] } }
escalate: { hook: ${hook} }
`
  const { plan, problems } = await checkPlanSource("shop.yaml", source)
  expect(problems).toEqual([])
  if (!plan) throw new Error("no plan")
  const redact = createRedactor(env, plan.plan)
  const log = createLogger({ level: "silent", role: "worker" })
  const found = await checkPlanTarget(plan, { env, redact, log })
  // Secrets of a pager are known to whatever redacts.
  for (const secret of Object.values(env)) expect(redact(`it says ${secret}`)).toBe("it says •••")
  return found.map(({ mark, text }) => `${mark} ${text}`)
}

const pagerDuty = '{ kind: pagerduty, key: "${PD_KEY}" }'

test("variables of a pager that are missing", async () => {
  expect(await doctor(pagerDuty, {})).toEqual([
    expect.stringMatching(/^✗ shop: PD_KEY is missing: escalate\.hook needs it → .*workers' environment/),
  ])
  const webhook = await doctor('{ kind: webhook, url: "${HOOK_URL}", secret: "${HOOK_SECRET}" }', {})
  expect(webhook.map((line) => /\w+ is missing/.exec(line)?.[0])).toEqual([
    "HOOK_URL is missing",
    "HOOK_SECRET is missing",
  ])
})

test("what a pager would be called with, without calling it", async () => {
  expect(await doctor(pagerDuty, { PD_KEY: key })).toContain(
    "✓ shop: pagerduty would be called at https://events.pagerduty.com (not tried)",
  )
  expect(await doctor(pagerDuty, { PD_KEY: "too-short" })).toContainEqual(
    expect.stringMatching(/^✗ shop: the key of escalate\.hook is none of PagerDuty's → it has 32/),
  )
  const webhook = '{ kind: webhook, url: "${HOOK_URL}", secret: "${HOOK_SECRET}" }'
  const env = { HOOK_URL: "ftp://planted.example.com/x", HOOK_SECRET: "planted-secret" }
  const lines = await doctor(webhook, env)
  expect(lines).toContainEqual(expect.stringMatching(/^✗ shop: escalate\.hook\.url: expected an address that begins/))
  expect(lines.join()).not.toContain("planted")
})
