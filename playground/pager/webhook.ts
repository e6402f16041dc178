import { createHmac, timingSafeEqual } from "node:crypto"
import type { IncomingHttpHeaders } from "node:http"
import { z } from "zod"

const body = z.strictObject({
  version: z.literal(1),
  delivery: z.string().min(1),
  event: z.enum(["trigger", "repeat", "acknowledge", "resolve"]),
  sequence: z.int().min(1),
  at: z.iso.datetime(),
  escalation: z.strictObject({
    id: z.uuid(),
    trigger: z.string(),
    severity: z.enum(["critical", "error", "warning"]),
    summary: z.string().min(1),
    headline: z.string().min(1),
    evidence: z.array(z.string()),
    by_hand: z.string().nullable(),
    step: z.string().nullable(),
    raised_at: z.iso.datetime(),
    times_told: z.int().min(1),
    acknowledged_by: z.string().nullable(),
    acknowledged_at: z.iso.datetime().nullable(),
    resolved_at: z.iso.datetime().nullable(),
    resolution: z.enum(["cause_gone", "left_as_it_is", "failed_again"]).nullable(),
  }),
  rollback: z.strictObject({
    id: z.uuid(),
    name: z.string(),
    environment: z.string(),
    title: z.string(),
    url: z.url().nullable(),
  }),
})

export type Call = z.infer<typeof body> & {
  /** How often this very delivery came. */
  times: number
  /** It came after one with a higher number of its escalation. */
  late: boolean
}

type Reply = { status: number; body?: unknown }

/** Older or younger than this, a signature is not taken: it may have been recorded. */
const toleranceSeconds = 300

/** Takes a call as a careful receiver does: signature over time and body, the time near, the shape, each delivery once. */
export function takeCall(
  headers: IncomingHttpHeaders,
  text: string,
  known: { secret: string; calls: Call[]; now: number },
): Reply {
  const refused = checkSignature(String(headers["stepback-signature"] ?? ""), text, known)
  if (refused !== null) return { status: 401, body: { error: refused } }
  const parsed = body.safeParse(JSON.parse(text))
  if (!parsed.success) return { status: 422, body: { error: z.prettifyError(parsed.error) } }
  const { data } = parsed
  if (headers["stepback-delivery"] !== data.delivery || headers["idempotency-key"] !== data.delivery)
    return { status: 422, body: { error: "the delivery's id differs between headers and body" } }
  const before = known.calls.find((call) => call.delivery === data.delivery)
  if (before) before.times++
  else {
    const late = known.calls.some((call) => call.escalation.id === data.escalation.id && call.sequence >= data.sequence)
    known.calls.push({ ...data, times: 1, late })
  }
  return { status: 200, body: { ok: true } }
}

function checkSignature(header: string, text: string, known: { secret: string; now: number }): string | null {
  const [, at, given] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(header) ?? []
  if (at === undefined || given === undefined) return "no signature of a shape that is known"
  if (Math.abs(known.now / 1000 - Number(at)) > toleranceSeconds) return "the signature's time is too far away"
  const right = createHmac("sha256", known.secret).update(`${at}.${text}`).digest()
  return timingSafeEqual(right, Buffer.from(given, "hex")) ? null : "the signature does not match"
}
