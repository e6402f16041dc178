import { randomUUID } from "node:crypto"
import type { IncomingMessage, Server } from "node:http"
import { WebSocketServer } from "ws"
import type { WebSocket } from "ws"

const PING_EVERY_MS = 10_000

export type SocketReply = { payload: unknown }

/** Slack's end of Socket Mode: tickets, hello, envelopes and their acknowledgements. */
export class SocketMode {
  private readonly tickets = new Set<string>()
  private readonly waiting = new Map<string, (reply: SocketReply) => void>()
  private readonly sockets: WebSocket[] = []
  private readonly server = new WebSocketServer({ noServer: true })
  private readonly appId: string
  private readonly pings: NodeJS.Timeout
  private turn = 0

  constructor(http: Server, appId: string) {
    this.appId = appId
    http.on("upgrade", (request, socket, head) => {
      if (!this.admit(request)) return void socket.destroy()
      this.server.handleUpgrade(request, socket, head, (ws) => this.welcome(ws))
    })
    this.pings = setInterval(() => this.sockets.forEach((ws) => ws.ping()), PING_EVERY_MS)
    this.pings.unref()
  }

  /** The path of a link that one client may open once. */
  issueTicket(): string {
    const ticket = randomUUID()
    this.tickets.add(ticket)
    return `/link/?ticket=${ticket}&app_id=${this.appId}`
  }

  get connected(): boolean {
    return this.sockets.length > 0
  }

  /** Sends to one of the connected clients, in turn; resolves with its acknowledgement. */
  send(type: string, payload: unknown): Promise<SocketReply> {
    const ws = this.sockets[this.turn++ % this.sockets.length]
    if (!ws) return Promise.reject(new Error("no socket is connected"))
    const envelope_id = randomUUID()
    return new Promise((resolve) => {
      this.waiting.set(envelope_id, resolve)
      ws.send(JSON.stringify({ envelope_id, payload, type, accepts_response_payload: true }))
    })
  }

  /** What Slack does every few hours: asks each client to connect anew. */
  refresh(reason = "refresh_requested"): void {
    for (const ws of this.sockets)
      ws.send(JSON.stringify({ type: "disconnect", reason, debug_info: { host: "local" } }))
  }

  close(): void {
    clearInterval(this.pings)
    for (const ws of this.sockets) ws.terminate()
    this.server.close()
  }

  private admit(request: IncomingMessage): boolean {
    const url = new URL(request.url ?? "/", "http://local")
    return url.pathname === "/link/" && this.tickets.delete(url.searchParams.get("ticket") ?? "")
  }

  private welcome(ws: WebSocket): void {
    this.sockets.push(ws)
    ws.on("close", () => this.sockets.splice(this.sockets.indexOf(ws), 1))
    ws.on("error", () => ws.terminate())
    ws.on("message", (data) => this.acknowledge(String(data)))
    ws.send(
      JSON.stringify({
        type: "hello",
        num_connections: this.sockets.length,
        debug_info: { host: "local", build_number: 1, approximate_connection_time: 18_060 },
        connection_info: { app_id: this.appId },
      }),
    )
  }

  private acknowledge(data: string): void {
    const reply = JSON.parse(data) as { envelope_id?: string; payload?: unknown }
    const resolve = this.waiting.get(reply.envelope_id ?? "")
    this.waiting.delete(reply.envelope_id ?? "")
    resolve?.({ payload: reply.payload })
  }
}
