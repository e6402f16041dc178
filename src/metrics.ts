import { collectDefaultMetrics, Gauge, Registry } from "prom-client"
import type { Store } from "./store/store.ts"

/** Figures for Prometheus, read when they are asked for. */
export function createMetrics(store: Store, queueWaiting: (() => Promise<number>) | null): Registry {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const gauge = (name: string, help: string, labels: string[], read: (into: Gauge) => Promise<void>) =>
    new Gauge({
      name,
      help,
      labelNames: labels,
      registers: [registry],
      async collect() {
        this.reset()
        // A figure that cannot be read is absent, which is what it is.
        await read(this).catch(() => undefined)
      },
    })
  gauge("stepback_rollbacks", "Rollbacks by state.", ["state"], async (into) => {
    for (const { state, count } of await store.figures.rollbacksByState()) into.set({ state }, count)
  })
  gauge("stepback_outbox_age_seconds", "Age of the oldest message that Slack has not taken.", [], async (into) => {
    into.set(await store.figures.outboxAgeSeconds())
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
