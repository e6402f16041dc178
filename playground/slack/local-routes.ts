import type { IncomingMessage, ServerResponse } from "node:http"
import type { Forms, SubmitAsked } from "./forms.ts"
import { readBody, sendJson } from "./http.ts"
import type { ClickAsked, CommandAsked, People, SayAsked } from "./people.ts"
import { renderTranscript } from "./render-text.ts"
import type { Store } from "./store.ts"
import type { Json } from "./types.ts"

type Doing = { store: Store; people: People; forms: Forms }

/** What one person sees, for the page and for other processes. */
export function snapshot(store: Store, user: string): Json {
  return {
    team: { id: store.identity.teamId, domain: store.identity.teamDomain, bot: store.identity.botUserId },
    users: [...store.users.values()],
    groups: [...store.groups.values()],
    channels: [...store.channels.values()]
      .filter((channel) => !channel.is_private || channel.members.has(user))
      .map((channel) => ({ ...channel, members: [...channel.members] })),
    messages: Object.fromEntries(store.messages),
    ephemerals: store.ephemerals.filter((seen) => seen.to === user),
    views: store.viewsOf(user),
  }
}

/** Serves `/local/…`. */
export async function serveLocal(
  request: IncomingMessage,
  response: ServerResponse,
  path: string,
  doing: Doing,
): Promise<void> {
  const { store } = doing
  if (request.method === "GET") {
    const user = new URL(request.url ?? "/", "http://local").searchParams.get("user") ?? ""
    if (path === "state") return sendJson(response, 200, snapshot(store, user))
    if (path === "events") return streamChanges(response, store)
    if (path === "calls") return sendJson(response, 200, store.calls)
    if (path === "deliveries") return sendJson(response, 200, store.deliveries)
    if (path === "transcript") return sendJson(response, 200, { text: renderTranscript(store) })
    return sendJson(response, 404, { ok: false, error: "not_found" })
  }
  // Another site open in the same browser must not press buttons here.
  const origin = request.headers.origin
  if (origin && origin !== `http://${request.headers.host}`)
    return sendJson(response, 403, { ok: false, error: "foreign_origin" })
  try {
    const body: unknown = JSON.parse((await readBody(request)).toString() || "{}")
    const result = await act(path, body, doing)
    sendJson(response, result === undefined ? 404 : 200, result ?? { ok: false, error: "not_found" })
  } catch (error) {
    sendJson(response, 400, { ok: false, error: error instanceof Error ? error.message : String(error) })
  }
}

async function act(path: string, body: unknown, { people, forms }: Doing): Promise<unknown> {
  switch (path) {
    case "command":
      return people.command(body as CommandAsked)
    case "click":
      return people.click(body as ClickAsked)
    case "submit":
      return forms.submit(body as SubmitAsked)
    case "close":
      return forms.close(body as { user: string; viewId: string })
    case "message":
      return { ok: true, message: people.say(body as SayAsked) }
    default:
      return undefined
  }
}

function streamChanges(response: ServerResponse, store: Store): void {
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" })
  response.write("retry: 500\n\n")
  const send = (change: unknown): void => void response.write(`event: change\ndata: ${JSON.stringify(change)}\n\n`)
  store.on("change", send)
  response.on("close", () => store.off("change", send))
}
