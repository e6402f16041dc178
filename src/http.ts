import { createServer, type RequestListener, type Server } from "node:http"
import type { Registry } from "prom-client"

export type Readiness = { ready: boolean; degraded: string[] }

export type HttpServer = { port: number; close(): Promise<void> }

/** The one port of a process: Slack's requests, and what watches over the process. */
export async function startHttpServer(options: {
  port: number
  slack: RequestListener | null
  readiness(): Promise<Readiness>
  metrics: Registry
}): Promise<HttpServer> {
  const server = createServer((request, response) => {
    const path = (request.url ?? "/").split("?")[0]
    const say = (status: number, body: string, type = "application/json") => {
      request.resume()
      response.writeHead(status, { "content-type": type }).end(body)
    }
    if (path === "/slack/events" && options.slack) {
      if (request.method === "POST") options.slack(request, response)
      else say(405, '{"error":"POST only"}')
    } else if (path === "/healthz") say(200, '{"ok":true}')
    else if (path === "/readyz")
      options
        .readiness()
        .then(({ ready, degraded }) =>
          say(ready ? 200 : 503, JSON.stringify({ ready, degraded: degraded.length > 0, reasons: degraded })),
        )
        .catch(() => say(503, '{"ready":false}'))
    else if (path === "/metrics")
      options.metrics
        .metrics()
        .then((text) => say(200, text, options.metrics.contentType))
        .catch(() => say(500, ""))
    else say(404, '{"error":"not found"}')
  })
  await listen(server, options.port)
  const address = server.address()
  return {
    port: typeof address === "object" && address !== null ? address.port : options.port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeIdleConnections()
        setTimeout(() => server.closeAllConnections(), 3_000).unref()
      }),
  }
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject)
    server.listen(port, () => resolve())
  })
}
