import { createServer, type RequestListener, type Server } from "node:http"
import type { Registry } from "prom-client"

export type Readiness = { ready: boolean; degraded: string[] }

/** What a process answers with once it has its parts. `slack`: null where Slack's requests go elsewhere. */
export type Served = { slack: RequestListener | null; readiness(): Promise<Readiness>; metrics: Registry }

export type HttpServer = { port: number; serve(parts: Served): void; close(): Promise<void> }

/**
 * The one port of a process: Slack's requests, and what watches over the process. Listens before there is anything to
 * serve: a process that waits for its database lives, and whoever probes it must not end it.
 */
export async function startHttpServer(port: number): Promise<HttpServer> {
  let parts: Served | null = null
  const server = createServer((request, response) => {
    const path = (request.url ?? "/").split("?")[0]
    const say = (status: number, body: string, type = "application/json") => {
      request.resume()
      response.writeHead(status, { "content-type": type }).end(body)
    }
    if (path === "/healthz") return say(200, '{"ok":true}')
    if (parts === null) return say(503, notYet)
    const { slack, readiness, metrics } = parts
    if (path === "/slack/events" && slack) {
      if (request.method === "POST") slack(request, response)
      else say(405, '{"error":"POST only"}')
    } else if (path === "/readyz")
      readiness()
        .then(({ ready, degraded }) =>
          say(ready ? 200 : 503, JSON.stringify({ ready, degraded: degraded.length > 0, reasons: degraded })),
        )
        .catch(() => say(503, '{"ready":false}'))
    else if (path === "/metrics")
      metrics
        .metrics()
        .then((text) => say(200, text, metrics.contentType))
        .catch(() => say(500, ""))
    else say(404, '{"error":"not found"}')
  })
  await listen(server, port)
  const address = server.address()
  return {
    port: typeof address === "object" && address !== null ? address.port : port,
    serve: (all) => void (parts = all),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeIdleConnections()
        setTimeout(() => server.closeAllConnections(), 3_000).unref()
      }),
  }
}

const notYet = JSON.stringify({
  ready: false,
  degraded: true,
  reasons: ["starting: the state database has not answered yet"],
})

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject)
    server.listen(port, () => resolve())
  })
}
