import { hookUrlProblem } from "../rollback/hook.ts"
import type { Finding } from "./finding.ts"
import type { WrittenPlan } from "./schema.ts"

/** Target, approval rules and escalation: what the shape alone does not say. */
export function checkPolicy(plan: WrittenPlan): Finding[] {
  return [...checkTargetAddresses(plan), ...checkApprovers(plan), ...checkHook(plan)]
}

// Addresses are not repeated in these messages: one with a password in it must not reach a log.
function checkTargetAddresses({ target }: WrittenPlan): Finding[] {
  const findings: Finding[] = []
  if (target.postgres !== undefined && !/^\$\{[^{}]*\}$/.test(target.postgres)) {
    const message =
      "expected a variable such as ${STAGING_DATABASE_URL}, found a value: addresses of databases do not stand in plans"
    findings.push({ path: ["target", "postgres"], message })
  }
  if (target.http !== undefined && !isBaseAddress(target.http)) {
    const message =
      "expected ${NAME}, or an address that begins with http:// or https:// and has no user or password in it"
    findings.push({ path: ["target", "http"], message })
  }
  if (target.expect?.database !== undefined && target.postgres === undefined) {
    findings.push({ path: ["target", "expect"], want: "key", message: "target.expect needs target.postgres" })
  }
  return findings
}

function isBaseAddress(written: string): boolean {
  if (/^\$\{[^{}]*\}/.test(written)) return true
  const address = URL.parse(written)
  return address !== null && /^https?:$/.test(address.protocol) && !address.username && !address.password
}

function checkApprovers({ approve }: WrittenPlan): Finding[] {
  return (["low", "medium", "high"] as const).flatMap((risk) => {
    const { count, from } = approve[risk]
    if (from === "anyone" || from.some((id) => id.startsWith("S"))) return []
    const people = new Set(from).size
    const message = `${count} approvals are wanted from ${people} ${people === 1 ? "person" : "people"}: name more, or lower the count`
    return people < count ? [{ path: ["approve", risk, "count"], message }] : []
  })
}

const hookNeeds = {
  pagerduty: { needed: [["key", "PagerDuty needs its routing key, as ${NAME}"]], odd: "secret" },
  webhook: {
    needed: [
      ["url", "a webhook needs an address"],
      ["secret", "a webhook's requests are signed with one, as ${NAME}"],
    ],
    odd: "key",
  },
} as const

function checkHook({ escalate }: WrittenPlan): Finding[] {
  const hook = escalate?.hook
  if (!hook) return []
  const path = ["escalate", "hook"]
  const { needed, odd } = hookNeeds[hook.kind]
  const findings = needed.flatMap(([key, why]): Finding[] =>
    hook[key] === undefined ? [{ path: [...path, key], message: `"${key}" is missing: ${why}` }] : [],
  )
  if (hook[odd] !== undefined)
    findings.push({ path: [...path, odd], want: "key", message: `"${odd}" does not go with kind ${hook.kind}` })
  if (hook.url !== undefined && !hook.url.startsWith("${")) {
    const problem = hookUrlProblem(hook.url, hook.kind)
    if (problem !== null) findings.push({ path: [...path, "url"], message: problem })
  }
  return findings
}
