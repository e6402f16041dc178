import { createHmac } from "node:crypto"
import type { SocketMode } from "./socket-mode.ts"
import type { Store } from "./store.ts"
import type { Json, Outcome } from "./types.ts"

/** How long Slack waits for an acknowledgement. */
export const ACK_WITHIN_MS = 3000

type Kind = "slash_commands" | "interactive"
type SentRequest = { kind: Kind; payload: Json; body: string; timestamp: string; signature: string }

/** Carries what people do to the app: over a socket when one is connected, else as a signed request. */
export class Delivery {
  requestUrl: string | undefined
  private readonly store: Store
  private readonly socket: SocketMode
  private readonly sent: SentRequest[] = []

  constructor(store: Store, socket: SocketMode, requestUrl: string | undefined) {
    this.store = store
    this.socket = socket
    this.requestUrl = requestUrl
  }

  async send(kind: Kind, payload: Json): Promise<Outcome> {
    const body = encode(kind, payload)
    const timestamp = String(Math.floor(Date.now() / 1000))
    const request = { kind, payload, body, timestamp, signature: this.sign(body, timestamp) }
    this.sent.push(request)
    return this.dispatch(request)
  }

  /** The very same requests once more, oldest first, or all at once in the order of these numbers. */
  async redeliver(last: number, order?: (request: number) => number): Promise<Outcome[]> {
    const requests = last > 0 ? this.sent.slice(-last) : []
    if (order) {
      const shuffled = requests.map((request, n) => ({ request, place: order(n) })).sort((a, b) => a.place - b.place)
      return Promise.all(shuffled.map(({ request }) => this.dispatch(request)))
    }
    const outcomes: Outcome[] = []
    for (const request of requests) outcomes.push(await this.dispatch(request))
    return outcomes
  }

  /** Any body under any time and secret; what the app answers. */
  async sendRaw({
    body,
    timestamp,
    secret,
  }: {
    body: string
    timestamp?: number | string
    secret?: string
  }): Promise<number> {
    const at = String(timestamp ?? Math.floor(Date.now() / 1000))
    return (await this.post(body, at, this.sign(body, at, secret))).status
  }

  private sign(body: string, timestamp: string, secret = this.store.identity.signingSecret): string {
    return `v0=${createHmac("sha256", secret).update(`v0:${timestamp}:${body}`).digest("hex")}`
  }

  private async dispatch(request: SentRequest): Promise<Outcome> {
    const record = { kind: request.kind, at: Date.now(), payload: request.payload, outcome: null as Outcome | null }
    this.store.deliveries.push(record)
    const started = performance.now()
    const answer = this.socket.connected
      ? this.overSocket(request)
      : this.post(request.body, request.timestamp, request.signature)
    const { status, body, error } = await answer
    const outcome: Outcome = {
      ok: !error && status === 200,
      status,
      ackMs: Math.round(performance.now() - started),
      body,
    }
    if (error) outcome.error = error
    else if (status !== 200) outcome.error = "dispatch_failed"
    record.outcome = outcome
    this.store.changed({ kind: "delivery" })
    return outcome
  }

  private async overSocket({ kind, payload }: SentRequest): Promise<{ status: number; body: string; error?: string }> {
    const late = Symbol("late")
    let timer: NodeJS.Timeout | undefined
    const deadline = new Promise<typeof late>((resolve) => (timer = setTimeout(resolve, ACK_WITHIN_MS, late)))
    const reply = await Promise.race([this.socket.send(kind, payload), deadline])
    clearTimeout(timer)
    if (reply === late) return { status: 0, body: "", error: "operation_timeout" }
    const empty = reply.payload === undefined || Object.keys(Object(reply.payload)).length === 0
    return { status: 200, body: empty ? "" : JSON.stringify(reply.payload) }
  }

  private async post(
    body: string,
    timestamp: string,
    signature: string,
  ): Promise<{ status: number; body: string; error?: string }> {
    if (!this.requestUrl) return { status: 0, body: "", error: "dispatch_failed" }
    try {
      const response = await fetch(this.requestUrl, {
        method: "POST",
        body,
        headers: {
          "content-type": "application/x-www-form-urlencoded",
          "user-agent": "Slackbot 1.0 (+https://api.slack.com/robots)",
          "x-slack-request-timestamp": timestamp,
          "x-slack-signature": signature,
        },
        signal: AbortSignal.timeout(ACK_WITHIN_MS),
      })
      return { status: response.status, body: await response.text() }
    } catch (error) {
      const timedOut = error instanceof Error && error.name === "TimeoutError"
      return { status: 0, body: "", error: timedOut ? "operation_timeout" : "dispatch_failed" }
    }
  }
}

function encode(kind: Kind, payload: Json): string {
  if (kind === "interactive") return new URLSearchParams({ payload: JSON.stringify(payload) }).toString()
  return new URLSearchParams(
    Object.entries(payload).map(([key, value]): [string, string] => [key, String(value)]),
  ).toString()
}
