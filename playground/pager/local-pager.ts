import { once } from "node:events"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { takeEvent, type Incident } from "./pagerduty.ts"
import { takeCall, type Call } from "./webhook.ts"

/** How the next requests fare: an answer of its own, none at all, or taken and the link cut before the answer. */
export type PagerFault = {
  times?: number
  status?: number
  headers?: Record<string, string>
  body?: unknown
  after?: "hang" | "cut"
}

export type LocalPager = {
  /** The base of PagerDuty's Events API here. */
  pagerDutyUrl: string
  routingKey: string
  webhookUrl: string
  secret: string
  /** Every request and what it was answered, the oldest first: "POST /v2/enqueue 202". */
  requests: readonly string[]
  /** By dedup_key. */
  incidents: ReadonlyMap<string, Incident>
  /** What the webhook took; a repetition of a delivery is counted in it, and not a call of its own. */
  calls: readonly Call[]
  fail(fault: PagerFault): void
  mend(): void
  until<T>(look: () => T | undefined | false, what: string): Promise<T>
  stop(): Promise<void>
}

type Reply = { status: number; body?: unknown; headers?: Record<string, string> }

const patienceMs = 40_000

/** PagerDuty's Events API v2 and a receiver of signed webhooks, on the loopback interface: they refuse what the real ones refuse. */
export async function startLocalPager(): Promise<LocalPager> {
  const routingKey = "R0".padEnd(32, "0123456789abcdef")
  const secret = "whsec-of-the-local-pager"
  const requests: string[] = []
  const incidents = new Map<string, Incident>()
  const calls: Call[] = []
  const faults: PagerFault[] = []
  const waiting = new Set<() => void>()

  function route(path: string, asked: IncomingMessage, text: string): Reply {
    if (asked.method !== "POST") return { status: 405 }
    if (path === "/v2/enqueue") return takeEvent(asked.headers, text, { routingKey, incidents })
    if (path === "/oncall") return takeCall(asked.headers, text, { secret, calls, now: Date.now() })
    return { status: 404 }
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = []
    for await (const part of request) parts.push(part as Buffer)
    const fault = faults[0]
    if (fault?.times !== undefined && --fault.times <= 0) faults.shift()
    const path = request.url ?? "/"
    const own: Reply | null =
      fault?.status === undefined ? null : { status: fault.status, headers: fault.headers ?? {}, body: fault.body }
    // Who hangs has taken nothing; who cuts has.
    const reply = own ?? (fault?.after === "hang" ? null : route(path, request, Buffer.concat(parts).toString("utf8")))
    requests.push(`${request.method ?? ""} ${path} ${reply === null ? "no answer" : reply.status}`)
    if (fault?.after === "cut") request.socket.destroy()
    else if (reply !== null) {
      response.writeHead(reply.status, { "content-type": "application/json", ...reply.headers })
      response.end(reply.body === undefined ? undefined : JSON.stringify(reply.body))
    }
    for (const look of waiting) look()
  }

  const server = createServer(
    (request, response) =>
      void serve(request, response).catch((error: unknown) => response.writeHead(500).end(String(error))),
  )
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    pagerDutyUrl: url,
    routingKey,
    webhookUrl: `${url}/oncall`,
    secret,
    requests,
    incidents,
    calls,
    fail: (fault) => void faults.push({ ...fault }),
    mend: () => void faults.splice(0),
    until: (look, what) =>
      new Promise((resolve, reject) => {
        const late = setTimeout(() => {
          waiting.delete(again)
          reject(new Error(`the pager never saw ${what}; it saw ${requests.join(", ") || "nothing"}`))
        }, patienceMs)
        function again(): void {
          const found = look()
          if (found === undefined || found === false) return
          clearTimeout(late)
          waiting.delete(again)
          resolve(found)
        }
        waiting.add(again)
        again()
      }),
    stop: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
