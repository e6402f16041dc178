import type { Store } from "../store.ts"
import type { Channel, Json } from "../types.ts"
import { describe } from "../validation/validate.ts"
import type { Problem } from "../validation/check.ts"

export type CallContext = { store: Store; baseUrl: string; socketUrl: () => string; scopes: ReadonlySet<string> }
export type Args = Readonly<Record<string, unknown>>
export type Answer = Json & { ok: boolean }

/** One Web API method: the scopes of which one is needed, and what it does. */
export type Method = {
  scopes?: readonly string[]
  token?: "bot" | "app" | "none"
  run: (args: Args, context: CallContext) => Answer
}

export const refuse = (error: string, more: Json = {}): Answer => ({ ok: false, error, ...more })

/** A refusal with Slack's `[ERROR] … [json-pointer:…]` lines. */
export function refuseWith(error: string, problems: readonly Problem[]): Answer {
  const lines = problems.map(describe)
  if (lines.length === 0) return refuse(error)
  return refuse(error, { errors: lines, response_metadata: { messages: lines.map((line) => `[ERROR] ${line}`) } })
}

export const text = (args: Args, name: string): string => {
  const value = args[name]
  return typeof value === "string" ? value : typeof value === "number" ? String(value) : ""
}

export const flag = (args: Args, name: string): boolean => ["true", "1", true, 1].includes(args[name] as string)

export function json(args: Args, name: string): unknown {
  const value = args[name]
  if (typeof value !== "string") return value
  try {
    return JSON.parse(value) as unknown
  } catch {
    return undefined
  }
}

/** A channel as the bot sees it: a private one that it is not in does not exist. */
export function visibleChannel(store: Store, idOrName: string): Channel | undefined {
  const name = idOrName.replace(/^#/, "")
  const channel =
    store.channels.get(idOrName) ?? [...store.channels.values()].find((candidate) => candidate.name === name)
  if (!channel) return undefined
  return channel.is_private && !channel.members.has(store.identity.botUserId) ? undefined : channel
}

/** A channel that the bot may write to, or why not. */
export function writableChannel(store: Store, idOrName: string): { channel: Channel } | { error: string } {
  const channel = visibleChannel(store, idOrName)
  if (!channel) return { error: "channel_not_found" }
  if (channel.is_archived) return { error: "is_archived" }
  return channel.members.has(store.identity.botUserId) ? { channel } : { error: "not_in_channel" }
}

/** Slack asks for the scope of the channel's kind. */
export function missingScope({ scopes }: CallContext, needed: string): Answer | undefined {
  return scopes.has(needed) ? undefined : refuse("missing_scope", { needed, provided: [...scopes].join(",") })
}

/** A page of a list, with Slack's opaque cursor. */
export function page<T>(
  items: readonly T[],
  args: Args,
  standard: number,
): { items: T[]; next: string; more: boolean } {
  const limit = Math.min(Math.max(Number(args["limit"] ?? standard) || standard, 1), 1000)
  const start = Number(Buffer.from(text(args, "cursor"), "base64").toString().replace("next:", "")) || 0
  const end = start + limit
  const more = end < items.length
  return { items: items.slice(start, end), next: more ? Buffer.from(`next:${end}`).toString("base64") : "", more }
}
