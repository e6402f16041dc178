import type { IncomingHttpHeaders } from "node:http"
import { z } from "zod"

/** What PagerDuty would have made of the events with one dedup_key. */
export type Incident = {
  state: "triggered" | "acknowledged" | "resolved"
  /** How often it was opened: a trigger after its resolution opens it anew. */
  opened: number
  events: Record<string, unknown>[]
}

type Reply = { status: number; body: unknown; headers?: Record<string, string> }

const largest = 512 * 1024
const common = { routing_key: z.string().length(32), dedup_key: z.string().min(1).max(255) }
const trigger = z.strictObject({
  ...common,
  dedup_key: common.dedup_key.optional(),
  event_action: z.literal("trigger"),
  client: z.string().optional(),
  client_url: z.url().optional(),
  links: z.array(z.strictObject({ href: z.url(), text: z.string().optional() })).optional(),
  images: z.array(z.strictObject({ src: z.url({ protocol: /^https$/ }) })).optional(),
  payload: z.strictObject({
    summary: z.string().min(1).max(1024),
    source: z.string().min(1),
    severity: z.enum(["critical", "error", "warning", "info"]),
    timestamp: z.iso.datetime({ offset: true }).optional(),
    component: z.string().optional(),
    group: z.string().optional(),
    class: z.string().optional(),
    custom_details: z.record(z.string(), z.unknown()).optional(),
  }),
})
const later = z.object({ ...common, event_action: z.enum(["acknowledge", "resolve"]) })
const event = z.discriminatedUnion("event_action", [trigger, later])

/** Answers as the Events API v2 does: 202, or 400 with what is wrong. */
export function takeEvent(
  headers: IncomingHttpHeaders,
  text: string,
  known: { routingKey: string; incidents: Map<string, Incident> },
): Reply {
  if (!headers["content-type"]?.startsWith("application/json"))
    return invalid(["Content-Type must be application/json"])
  if (Buffer.byteLength(text) > largest) return { status: 413, body: { status: "payload too large" } }
  const parsed = event.safeParse(parse(text))
  if (!parsed.success) return invalid(parsed.error.issues.map((issue) => `'${issue.path.join(".")}' ${issue.message}`))
  const { data } = parsed
  if (data.routing_key !== known.routingKey) return invalid(["Invalid routing key"])
  const key = data.dedup_key ?? `srv-${known.incidents.size + 1}`
  const incident = known.incidents.get(key)
  // An event about an incident that is not there, or not any more, is taken and changes nothing.
  if (data.event_action === "trigger")
    known.incidents.set(key, {
      state: incident === undefined || incident.state === "resolved" ? "triggered" : incident.state,
      opened: (incident?.opened ?? 0) + (incident === undefined || incident.state === "resolved" ? 1 : 0),
      events: [...(incident?.events ?? []), data],
    })
  else if (incident) {
    incident.events.push(data)
    if (incident.state !== "resolved") incident.state = data.event_action === "resolve" ? "resolved" : "acknowledged"
  }
  return { status: 202, body: { status: "success", message: "Event processed", dedup_key: key } }
}

function invalid(errors: string[]): Reply {
  return { status: 400, body: { status: "invalid event", message: "Event object is invalid", errors } }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return undefined
  }
}
