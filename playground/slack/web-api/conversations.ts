import { wireMessage } from "../payloads.ts"
import type { Store } from "../store.ts"
import type { Channel, Json, Message } from "../types.ts"
import { flag, missingScope, page, refuse, text, visibleChannel } from "./method.ts"
import type { Answer, Args, CallContext, Method } from "./method.ts"

function wireChannel(store: Store, channel: Channel): Json {
  return {
    id: channel.id,
    name: channel.name,
    name_normalized: channel.name,
    is_channel: !channel.is_private,
    is_group: channel.is_private,
    is_im: false,
    is_mpim: false,
    is_private: channel.is_private,
    is_archived: channel.is_archived,
    is_general: channel.name === "general",
    is_member: channel.members.has(store.identity.botUserId),
    is_shared: channel.is_ext_shared,
    is_ext_shared: channel.is_ext_shared,
    is_org_shared: false,
    context_team_id: store.identity.teamId,
    shared_team_ids: channel.is_ext_shared ? [store.identity.teamId, "T0OTHER"] : [store.identity.teamId],
    created: channel.created,
    topic: { value: "", creator: "", last_set: 0 },
    purpose: { value: "", creator: "", last_set: 0 },
    num_members: channel.members.size,
  }
}

type Kind = "read" | "history"

function readable(args: Args, context: CallContext, kind: Kind): { channel: Channel } | Answer {
  const channel = visibleChannel(context.store, text(args, "channel"))
  if (!channel) return refuse("channel_not_found")
  const lacking = missingScope(context, `${channel.is_private ? "groups" : "channels"}:${kind}`)
  if (lacking) return lacking
  const outside = kind === "history" && !channel.members.has(context.store.identity.botUserId)
  return outside ? refuse("not_in_channel") : { channel }
}

function within(args: Args): (message: Message) => boolean {
  const oldest = Number(args["oldest"] ?? 0)
  const latest = Number(args["latest"] ?? Infinity)
  const inclusive = flag(args, "inclusive")
  return ({ ts }) => {
    const at = Number(ts)
    return inclusive ? at >= oldest && at <= latest : at > oldest && at < latest
  }
}

function history(args: Args, context: CallContext): Answer {
  const found = readable(args, context, "history")
  if ("ok" in found) return found
  const { store } = context
  const metadata = flag(args, "include_all_metadata")
  const shown = store
    .inChannel(found.channel.id)
    .filter((message) => !message.thread_ts || message.thread_ts === message.ts || message.reply_broadcast)
  const { items, next, more } = page(shown.filter(within(args)).reverse(), args, 100)
  return {
    ok: true,
    messages: items.map((message) => wireMessage(store, message, { metadata })),
    has_more: more,
    pin_count: 0,
    response_metadata: { next_cursor: next },
  }
}

function replies(args: Args, context: CallContext): Answer {
  const found = readable(args, context, "history")
  if ("ok" in found) return found
  const { store } = context
  const asked = store.findMessage(found.channel.id, text(args, "ts"))
  if (!asked) return refuse("thread_not_found")
  const metadata = flag(args, "include_all_metadata")
  const root = asked.thread_ts ?? asked.ts
  const inside = within(args)
  const thread = store
    .inChannel(found.channel.id)
    .filter((message) => message.ts === root || (message.thread_ts === root && inside(message)))
  const { items, next, more } = page(thread, args, 1000)
  return {
    ok: true,
    messages: items.map((message) => wireMessage(store, message, { metadata })),
    has_more: more,
    response_metadata: { next_cursor: next },
  }
}

function info(args: Args, context: CallContext): Answer {
  const found = readable(args, context, "read")
  return "ok" in found ? found : { ok: true, channel: wireChannel(context.store, found.channel) }
}

function list(args: Args, { store, scopes }: CallContext): Answer {
  const types = (text(args, "types") || "public_channel").split(",").map((type) => type.trim())
  const seen = [...store.channels.values()].filter((channel) => {
    if (flag(args, "exclude_archived") && channel.is_archived) return false
    if (channel.is_private)
      return (
        types.includes("private_channel") && scopes.has("groups:read") && channel.members.has(store.identity.botUserId)
      )
    return types.includes("public_channel") && scopes.has("channels:read")
  })
  const { items, next } = page(seen, args, 100)
  return {
    ok: true,
    channels: items.map((channel) => wireChannel(store, channel)),
    response_metadata: { next_cursor: next },
  }
}

function members(args: Args, context: CallContext): Answer {
  const found = readable(args, context, "read")
  if ("ok" in found) return found
  const { items, next } = page([...found.channel.members], args, 100)
  return { ok: true, members: items, response_metadata: { next_cursor: next } }
}

const read = ["channels:read", "groups:read"]
const past = ["channels:history", "groups:history"]

export const conversationMethods: Record<string, Method> = {
  "conversations.info": { scopes: read, run: info },
  "conversations.list": { scopes: read, run: list },
  "conversations.members": { scopes: read, run: members },
  "conversations.history": { scopes: past, run: history },
  "conversations.replies": { scopes: past, run: replies },
}
