import { once } from "node:events"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { route, type Asked, type Reply } from "./routes.ts"
import { change, type Conclusion, type Job, type Repository, type Run } from "./world.ts"

/** How the next request that fits fails: an answer of its own, or done and the link cut before the answer, or held. */
export type Fault = { when: string; times?: number; reply?: Reply; after?: "cut" | "hold" }

export type LocalGitHub = {
  url: string
  token: string
  repository: Repository
  /** "POST /repos/…": every request, the oldest first. */
  requests: readonly string[]
  runs(): readonly Run[]
  /** Resolves with a run as soon as there is one more than `than`. */
  started(than?: number): Promise<Run>
  /** Resolves when a request that contains this came in. */
  asked(part: string): Promise<void>
  finish(run: Run, conclusion: Conclusion, jobs?: Job[]): void
  fail(fault: Fault): void
  /** Without it, a dispatch answers 204 and refuses to be asked for the run. */
  tellsRun(tells: boolean): void
  /** How many lists leave a run out before it appears. */
  hideFromLists(lists: number): void
  stop(): Promise<void>
}

/** A GitHub for tests, on the loopback interface: one repository, strict about what it is asked. */
export async function startLocalGitHub(options: {
  repo: string
  refs: Record<string, string>
  workflows: Record<string, string>
}): Promise<LocalGitHub> {
  const rules = { token: `ghp_${"x".repeat(8)}${Date.now()}`, url: "", tellsRun: true, hiddenLists: 0 }
  const workflows = Object.entries(options.workflows).map(
    ([file, source], index) => [file, { id: index + 1, source, state: "active" as const }] as const,
  )
  const repository: Repository = {
    name: options.repo,
    refs: new Map(Object.entries(options.refs)),
    workflows: new Map(workflows),
    runs: [],
  }
  const requests: string[] = []
  const faults: Fault[] = []
  const waiting = new Set<() => void>()
  const held = new Set<ServerResponse>()
  const changed = () => {
    for (const look of waiting) look()
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const asked = await read(request)
    const line = `${request.method ?? ""} ${request.url ?? ""}`
    requests.push(line)
    const fault = faults.find((each) => line.includes(each.when))
    if (fault && (fault.times = (fault.times ?? 1) - 1) <= 0) faults.splice(faults.indexOf(fault), 1)
    const reply = fault?.reply ?? route(asked, repository, rules)
    changed()
    if (fault?.after === "cut") return void request.socket.destroy()
    if (fault?.after === "hold") return void held.add(response)
    response.writeHead(reply.status, {
      "content-type": reply.text === undefined ? "application/json; charset=utf-8" : "text/plain",
      ...reply.headers,
    })
    response.end(reply.text ?? (reply.body === undefined ? undefined : JSON.stringify(reply.body)))
  }

  const server = createServer(
    (request, response) =>
      void serve(request, response).catch((error: unknown) => response.writeHead(500).end(String(error))),
  )
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  rules.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`

  function until<T>(look: () => T | undefined): Promise<T> {
    return new Promise((resolve) => {
      const again = () => {
        const found = look()
        if (found === undefined) return
        waiting.delete(again)
        resolve(found)
      }
      waiting.add(again)
      again()
    })
  }
  return {
    url: rules.url,
    token: rules.token,
    repository,
    requests,
    runs: () => repository.runs,
    started: (than = 0) => until(() => (repository.runs.length > than ? repository.runs[0] : undefined)),
    asked: async (part) => void (await until(() => requests.find((line) => line.includes(part)))),
    finish: (run, conclusion, jobs = []) => change(run, { status: "completed", conclusion, jobs }),
    fail: (fault) => void faults.push(fault),
    tellsRun: (tells) => void (rules.tellsRun = tells),
    hideFromLists: (lists) => void (rules.hiddenLists = lists),
    stop: async () => {
      for (const response of held) response.destroy()
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

async function read(request: IncomingMessage): Promise<Asked> {
  const parts: Buffer[] = []
  for await (const part of request) parts.push(part as Buffer)
  const text = Buffer.concat(parts).toString("utf8")
  const url = new URL(request.url ?? "/", "http://github.invalid")
  const headers = Object.fromEntries(
    Object.entries(request.headers).map(([name, value]) => [name, Array.isArray(value) ? value.join() : value]),
  )
  return {
    method: request.method ?? "GET",
    path: url.pathname
      .split("/")
      .filter((part) => part !== "")
      .map(decodeURIComponent),
    query: url.searchParams,
    headers,
    body: text === "" ? undefined : (JSON.parse(text) as unknown),
  }
}
