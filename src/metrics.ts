import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client"
import { within } from "./jobs/within.ts"
import type { StepKind, StepOutcome } from "./rollback/facts.ts"
import { transitions } from "./rollback/states.ts"
import type { Store } from "./store/store.ts"

/** What a process counts as it goes on. Labels come from short lists only, so that their number is bounded. */
export type Counted = {
  registry: Registry
  stepEnded(kind: StepKind, outcome: StepOutcome, ms: number): void
  slackFailed(method: string, code: string): void
}

/** Prometheus waits ten seconds, by custom, and then has none of the figures. */
const readMs = 2_000
/** Error codes that are told apart; those that come after so many are "other". */
const mostCodes = 50

export function createCounted(): Counted {
  const registry = new Registry()
  const registers = [registry]
  const steps = new Histogram({
    name: "stepback_step_seconds",
    help: "How long steps took, by kind and outcome.",
    labelNames: ["kind", "outcome"],
    buckets: [0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 1800],
    registers,
  })
  const slack = new Counter({
    name: "stepback_slack_errors_total",
    help: "Calls to Slack that failed, by method and Slack's error code.",
    labelNames: ["method", "code"],
    registers,
  })
  const codes = new Set<string>()
  return {
    registry,
    stepEnded: (kind, outcome, ms) => steps.observe({ kind, outcome }, ms / 1000),
    slackFailed(method, code) {
      if (codes.size < mostCodes && /^[a-z0-9_]{1,60}$/.test(code)) codes.add(code)
      slack.inc({ method, code: codes.has(code) ? code : "other" })
    },
  }
}

/** Figures for Prometheus, read when they are asked for. */
export function createMetrics(store: Store, counted: Counted, queueWaiting: (() => Promise<number>) | null): Registry {
  const { registry } = counted
  collectDefaultMetrics({ register: registry })
  const gauge = (name: string, help: string, labels: string[], read: (into: Gauge) => Promise<void>) =>
    new Gauge({
      name,
      help,
      labelNames: labels,
      registers: [registry],
      async collect() {
        this.reset()
        // A figure that cannot be read is absent, which is what it is. The process's own do not wait for it.
        await within(readMs, read(this)).catch(() => undefined)
      },
    })
  gauge("stepback_rollbacks", "Rollbacks by state.", ["state"], async (into) => {
    // A state that nothing is in is 0: an alert on a missing series would never end.
    const counts = new Map<string, number>(Object.keys(transitions).map((state) => [state, 0]))
    for (const { state, count } of await store.figures.rollbacksByState()) counts.set(state, count)
    for (const [state, count] of counts) into.set({ state }, count)
  })
  gauge("stepback_outbox_age_seconds", "Age of the oldest message that Slack has not taken.", [], async (into) => {
    into.set(await store.figures.outboxAgeSeconds())
  })
  gauge("stepback_hook_age_seconds", "Age of the oldest call that a hook has not taken.", [], async (into) => {
    into.set(await store.figures.hookAgeSeconds())
  })
  gauge("stepback_escalations_unacknowledged", "Escalations that nobody has taken.", [], async (into) => {
    into.set(await store.figures.unacknowledged())
  })
  if (queueWaiting)
    gauge("stepback_queue_waiting", "Jobs that wait for a worker.", [], async (into) => {
      into.set(await queueWaiting())
    })
  return registry
}
