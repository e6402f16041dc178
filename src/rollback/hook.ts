import type { Escalation, EscalationTrigger } from "./facts.ts"

/** A pager beside Slack, as the plan names it: `${NAME}` stays a name until a worker calls. */
export type Hook =
  | { kind: "pagerduty"; url: string | null; key: string }
  | { kind: "webhook"; url: string; secret: string }

/** One event of an escalation: the first, the second, … `attempts` and when do not count: a repetition says the same. */
export type HookEvent = {
  seq: number
  kind: "trigger" | "repeat" | "acknowledge" | "resolve"
  timesTold: number
  /** ISO 8601. */
  at: string
}

/** The rollback that an escalation is about, as much of it as a pager needs. */
export type CalledFor = {
  id: string
  number: number | null
  kind: string
  environment: string
  title: string
  permalink: string | null
  /** Somebody decided that it stays as it is: the calls end, the cause has not. */
  left: boolean
}

type Called = { event: HookEvent; escalation: Escalation; rollback: CalledFor }

const loopback = /^(localhost|127(\.\d+){3}|\[::1\])$/

/** Why an address is none to call a pager at, without saying it again; null when it is. */
export function hookUrlProblem(address: string, kind: Hook["kind"]): string | null {
  const url = URL.parse(address)
  if (url === null || !/^https?:$/.test(url.protocol)) return "expected an address that begins with https:// or http://"
  if (url.username !== "" || url.password !== "") return "expected an address without a user or password in it"
  // PagerDuty's key stands in the request itself; a webhook's secret does not.
  if (kind === "pagerduty" && url.protocol === "http:" && !loopback.test(url.hostname))
    return "expected an address that begins with https://: the routing key goes along"
  return null
}

/** Names an event for good: receivers know a repetition by it. */
export function deliveryId({ event, escalation }: Pick<Called, "event" | "escalation">): string {
  return `${escalation.id}.${event.seq}`
}

/** Pagers wake people by it. */
const severities = {
  sql_failed: "critical",
  functions_failing: "critical",
  data_inconsistent: "critical",
  worker_lost: "critical",
  step_failed: "error",
  rto_breached: "error",
  performance_degraded: "warning",
  nobody_approved: "warning",
} as const satisfies Record<EscalationTrigger, string>

/** Longest texts: PagerDuty takes summaries of 1024 characters and events of 512 KB. */
const most = { summary: 1_000, line: 500, lines: 20, byHand: 4_000 }

/** Why nobody is called by it any more. */
function resolutionOf({ escalation, rollback }: Called): "failed_again" | "left_as_it_is" | "cause_gone" {
  if (escalation.followed === true) return "failed_again"
  return rollback.left ? "left_as_it_is" : "cause_gone"
}

/** The JSON that a webhook gets. */
export function webhookBody(called: Called): Record<string, unknown> {
  const { event, escalation, rollback } = called
  return {
    version: 1,
    delivery: deliveryId(called),
    event: event.kind,
    sequence: event.seq,
    at: event.at,
    escalation: {
      id: escalation.id,
      trigger: escalation.trigger,
      severity: severities[escalation.trigger],
      summary: summaryOf(called),
      step: escalation.stepId,
      ...detailsOf(escalation),
      raised_at: escalation.raisedAt,
      times_told: event.timesTold,
      acknowledged_by: event.kind === "acknowledge" ? escalation.acknowledgedBy : null,
      acknowledged_at: event.kind === "acknowledge" ? escalation.acknowledgedAt : null,
      resolved_at: event.kind === "resolve" ? escalation.resolvedAt : null,
      resolution: event.kind === "resolve" ? resolutionOf(called) : null,
    },
    rollback: {
      id: rollback.id,
      name: nameOf(rollback),
      environment: rollback.environment,
      title: rollback.title,
      url: rollback.permalink,
    },
  }
}

/** An event of PagerDuty's Events API v2. The escalation's id is the key: what has it is one incident. */
export function pagerDutyBody(called: Called, routingKey: string): Record<string, unknown> {
  const { event, escalation, rollback } = called
  const common = { routing_key: routingKey, dedup_key: escalation.id }
  if (event.kind === "acknowledge" || event.kind === "resolve") return { ...common, event_action: event.kind }
  const link = rollback.permalink
  return {
    ...common,
    event_action: "trigger",
    client: "Stepback",
    ...(link === null ? {} : { client_url: link, links: [{ href: link, text: "Thread of the rollback" }] }),
    payload: {
      summary: summaryOf(called),
      source: rollback.environment,
      severity: severities[escalation.trigger],
      timestamp: escalation.raisedAt,
      component: escalation.stepId ?? rollback.environment,
      class: escalation.trigger,
      custom_details: { rollback: nameOf(rollback), title: rollback.title, ...detailsOf(escalation) },
    },
  }
}

function summaryOf({ escalation, rollback }: Called): string {
  return cut(`${rollback.environment} ${nameOf(rollback)}: ${escalation.headline}`, most.summary)
}

function nameOf({ kind, number }: CalledFor): string {
  return `${kind === "undo" ? "undo" : "rollback"}${number === null ? "" : ` R-${number}`}`
}

function detailsOf({ headline, evidence, byHand }: Escalation): Record<string, unknown> {
  return {
    headline: cut(headline, most.summary),
    evidence: evidence.slice(0, most.lines).map((line) => cut(line, most.line)),
    by_hand: byHand === null ? null : cut(byHand, most.byHand),
  }
}

function cut(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 1).toWellFormed()}…`
}
