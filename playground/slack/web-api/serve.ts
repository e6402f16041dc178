import type { IncomingMessage, ServerResponse } from "node:http"
import { setTimeout as delay } from "node:timers/promises"
import type { Faults } from "../faults.ts"
import { readBody, sendJson } from "../http.ts"
import { chatMethods } from "./chat.ts"
import { conversationMethods } from "./conversations.ts"
import { directoryMethods } from "./directory.ts"
import { fileMethods } from "./files.ts"
import { refuse } from "./method.ts"
import type { Answer, Args, CallContext, Method } from "./method.ts"
import { viewMethods } from "./views.ts"

const methods: Record<string, Method> = {
  ...chatMethods,
  ...conversationMethods,
  ...directoryMethods,
  ...fileMethods,
  ...viewMethods,
}

/** What the manifest of a bot like ours asks for. */
export const ALL_SCOPES = [
  "commands",
  "chat:write",
  "users:read",
  "usergroups:read",
  "channels:read",
  "groups:read",
  "channels:history",
  "groups:history",
  "files:write",
]

/** Answers `/api/METHOD`. */
export async function serveWebApi(
  request: IncomingMessage,
  response: ServerResponse,
  { method: name, context, faults }: { method: string; context: CallContext; faults: Faults },
): Promise<void> {
  const args = parse(await readBody(request), request.headers["content-type"] ?? "", request.url ?? "")
  const { token: _token, ...shown } = args
  const call = { method: name, args: shown, at: Date.now(), status: 0 }
  context.store.calls.push(call)
  const fault = faults.take(name)
  const finish = (status: number, body: Answer, headers: Record<string, string> = {}): void => {
    Object.assign(call, { status }, body.ok ? {} : { error: body["error"] })
    context.store.changed({ kind: "call" })
    sendJson(response, status, body, { "x-oauth-scopes": [...context.scopes].join(","), ...headers })
  }
  const cut = (): void => {
    context.store.changed({ kind: "call" })
    request.socket.destroy()
  }
  if (fault?.kind === "429") return finish(429, refuse("ratelimited"), { "retry-after": String(fault.retryAfter ?? 1) })
  if (fault?.kind === "500") return finish(500, refuse("internal_error"))
  if (fault?.kind === "error") return finish(200, refuse(fault.error ?? "internal_error"))
  if (fault?.kind === "hang") return
  if (fault?.kind === "drop_before_accept") return cut()
  if (fault?.kind === "slow") await delay(fault.ms ?? 1000)
  const answer = run(name, args, bearer(request, args), context)
  if (fault?.kind === "drop_after_accept") return cut()
  finish(200, answer, { "x-accepted-oauth-scopes": (methods[name]?.scopes ?? []).join(",") })
}

function run(name: string, args: Args, token: string, context: CallContext): Answer {
  const method = Object.hasOwn(methods, name) ? methods[name] : undefined
  if (!method) return refuse("unknown_method", { req_method: name })
  if (method.token === "none") return method.run(args, context)
  const { botToken, appToken } = context.store.identity
  if (!token) return refuse("not_authed")
  if (token !== botToken && token !== appToken) return refuse("invalid_auth")
  if ((token === appToken) !== (method.token === "app")) return refuse("not_allowed_token_type")
  const lacking = method.token !== "app" && method.scopes && !method.scopes.some((scope) => context.scopes.has(scope))
  if (lacking)
    return refuse("missing_scope", { needed: method.scopes?.join(","), provided: [...context.scopes].join(",") })
  return method.run(args, context)
}

function bearer(request: IncomingMessage, args: Args): string {
  const header = /^Bearer (.+)$/i.exec(request.headers.authorization ?? "")?.[1]
  return header ?? (typeof args["token"] === "string" ? args["token"] : "")
}

function parse(body: Buffer, type: string, url: string): Args {
  const query = Object.fromEntries(new URL(url, "http://local").searchParams)
  if (!type.startsWith("application/json"))
    return { ...query, ...Object.fromEntries(new URLSearchParams(body.toString())) }
  try {
    return { ...query, ...(JSON.parse(body.toString() || "{}") as Record<string, unknown>) }
  } catch {
    return query
  }
}
