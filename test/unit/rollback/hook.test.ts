import { expect, test } from "vitest"
import type { Incident } from "../../../playground/pager/pagerduty.ts"
import { takeEvent } from "../../../playground/pager/pagerduty.ts"
import {
  deliveryId,
  hookUrlProblem,
  pagerDutyBody,
  webhookBody,
  type CalledFor,
  type HookEvent,
} from "../../../src/rollback/hook.ts"
import { escalation } from "../bot/views.ts"

const event: HookEvent = { seq: 2, kind: "trigger", timesTold: 1, at: "2026-11-01T10:00:00.000Z" }
const rollback: CalledFor = {
  id: "b1f6a1de-0000-4000-8000-000000000001",
  number: 7,
  kind: "rollback",
  environment: "staging",
  title: "Back to v1.2.0",
  permalink: "https://acme.slack.com/archives/C0/p1",
  left: false,
}
const routingKey = "0123456789abcdef0123456789abcdef"

function take(called: Parameters<typeof pagerDutyBody>[0], incidents = new Map<string, Incident>()) {
  const text = JSON.stringify(pagerDutyBody(called, routingKey))
  return takeEvent({ "content-type": "application/json" }, text, { routingKey, incidents })
}

test("each kind of event is one that PagerDuty takes, whatever the texts are", () => {
  const huge = {
    ...escalation,
    headline: "😀".repeat(2_000),
    evidence: Array.from({ length: 200 }, () => "x".repeat(10_000)),
    byHand: "y".repeat(1_000_000),
  }
  for (const kind of ["trigger", "repeat", "acknowledge", "resolve"] as const)
    for (const shown of [escalation, huge, { ...escalation, byHand: null, evidence: [], stepId: null }])
      for (const permalink of [rollback.permalink, null])
        expect(
          take({ event: { ...event, kind }, escalation: shown, rollback: { ...rollback, permalink } }),
        ).toMatchObject({
          status: 202,
          body: { dedup_key: escalation.id },
        })
})

test("one escalation is one incident, from its first call to its end", () => {
  const incidents = new Map<string, Incident>()
  const states = (["trigger", "repeat", "acknowledge", "trigger", "resolve"] as const).map((kind) => {
    take({ event: { ...event, kind }, escalation, rollback }, incidents)
    return incidents.get(escalation.id)?.state
  })
  expect(states).toEqual(["triggered", "triggered", "acknowledged", "acknowledged", "resolved"])
  expect(incidents.get(escalation.id)?.opened).toBe(1)
})

test("a webhook's body says who is on it only when that is what it tells, and the same at each attempt", () => {
  const taken = { ...escalation, acknowledgedBy: "U0BOB", acknowledgedAt: "2026-11-01T10:01:00.000Z" }
  const first = webhookBody({ event, escalation: taken, rollback })
  expect(first).toEqual(webhookBody({ event, escalation, rollback }))
  expect(first).toMatchObject({ delivery: `${escalation.id}.2`, sequence: 2, rollback: { name: "rollback R-7" } })
  expect(webhookBody({ event: { ...event, kind: "acknowledge" }, escalation: taken, rollback })).toMatchObject({
    escalation: { acknowledged_by: "U0BOB", resolution: null },
  })
  const left = webhookBody({ event: { ...event, kind: "resolve" }, escalation, rollback: { ...rollback, left: true } })
  expect(left).toMatchObject({ escalation: { resolution: "left_as_it_is" } })
  expect(deliveryId({ event: { ...event, seq: 3 }, escalation })).not.toBe(deliveryId({ event, escalation }))
})

test.each([
  ["https://events.eu.pagerduty.com", "pagerduty", null],
  ["http://127.0.0.1:8080", "pagerduty", null],
  ["http://events.pagerduty.com", "pagerduty", "https"],
  ["http://oncall.internal/x", "webhook", null],
  ["https://me:secret@host/x", "webhook", "without a user"],
  ["file:///etc/passwd", "webhook", "begins with"],
  ["not an address", "webhook", "begins with"],
] as const)("the address %s of %s", (address, kind, problem) => {
  const found = hookUrlProblem(address, kind)
  if (problem === null) expect(found).toBeNull()
  else expect(found).toContain(problem)
  expect(found ?? "").not.toContain("secret")
})
