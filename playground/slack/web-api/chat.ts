import { wireMessage } from "../payloads.ts"
import { editMessage, postEphemeral, postMessage } from "../posting.ts"
import type { NewMessage } from "../posting.ts"
import type { Store } from "../store.ts"
import type { Block, Json, Message } from "../types.ts"
import { validateMessageBlocks } from "../validation/validate.ts"
import { flag, json, refuse, refuseWith, text, visibleChannel, writableChannel } from "./method.ts"
import type { Answer, Args, CallContext, Method } from "./method.ts"

const POST_TEXT_LIMIT = 40_000
/** Editing allows less than posting does. */
const EDIT_TEXT_LIMIT = 4000

type Content = { text: string; blocks: Block[]; metadata?: Json }

function readContent(args: Args, limit: number): Content | Answer {
  const own = text(args, "text")
  if (own.length > limit) return refuse("msg_too_long")
  const raw = args["blocks"]
  const given =
    raw === undefined || raw === "" ? { ok: true as const, blocks: [] as Block[] } : validateMessageBlocks(raw)
  if (!given.ok) return refuseWith(given.error, given.problems)
  if (!own.trim() && given.blocks.length === 0) return refuse("no_text")
  const metadata = args["metadata"] === undefined ? undefined : json(args, "metadata")
  if (metadata === undefined)
    return args["metadata"] === undefined ? { text: own, blocks: given.blocks } : refuse("invalid_metadata_format")
  const problem = checkMetadata(metadata)
  return problem ? refuse(problem) : { text: own, blocks: given.blocks, metadata: metadata as Json }
}

function checkMetadata(metadata: unknown): string | undefined {
  if (typeof metadata !== "object" || metadata === null) return "invalid_metadata_format"
  if (Object.keys(metadata).length === 0) return undefined
  const { event_type, event_payload } = metadata as Json
  if (typeof event_type !== "string" || !event_type || typeof event_payload !== "object" || event_payload === null)
    return "invalid_metadata_format"
  return JSON.stringify(metadata).length > 16_000 ? "metadata_too_large" : undefined
}

const refusedContent = (content: Content | Answer): content is Answer => "ok" in content

/** A reply to a reply belongs to the thread of its parent. */
function threadOf(store: Store, channel: string, thread: string): string | undefined {
  const parent = store.findMessage(channel, thread)
  return parent && (parent.thread_ts ?? parent.ts)
}

function postMessageMethod(args: Args, { store }: CallContext): Answer {
  const target = writableChannel(store, text(args, "channel"))
  if ("error" in target) return refuse(target.error)
  const content = readContent(args, POST_TEXT_LIMIT)
  if (refusedContent(content)) return content
  const asked: NewMessage = { channel: target.channel.id, user: store.identity.botUserId, ...content }
  const thread = text(args, "thread_ts")
  if (thread) {
    const parent = threadOf(store, target.channel.id, thread)
    if (!parent) return refuse("thread_not_found")
    asked.thread_ts = parent
    asked.reply_broadcast = flag(args, "reply_broadcast")
  }
  asked.linkNames = flag(args, "link_names") || args["parse"] === "full"
  const message = postMessage(store, asked)
  return { ok: true, channel: message.channel, ts: message.ts, message: wireMessage(store, message) }
}

function ownMessage(args: Args, store: Store, refusal: string): { message: Message } | Answer {
  const channel = visibleChannel(store, text(args, "channel"))
  if (!channel) return refuse("channel_not_found")
  const message = store.findMessage(channel.id, text(args, "ts"))
  if (!message) return refuse("message_not_found")
  if (channel.is_archived) return refuse("is_archived")
  return message.user === store.identity.botUserId ? { message } : refuse(refusal)
}

function update(args: Args, { store }: CallContext): Answer {
  const found = ownMessage(args, store, "cant_update_message")
  if ("ok" in found) return found
  const content = readContent(args, EDIT_TEXT_LIMIT)
  if (refusedContent(content)) return content
  const broadcast = flag(args, "reply_broadcast") ? { reply_broadcast: true } : {}
  editMessage(store, found.message, { ...content, ...broadcast })
  const { channel, ts, text: own } = found.message
  return { ok: true, channel, ts, text: own, message: wireMessage(store, found.message) }
}

function ephemeral(args: Args, { store }: CallContext): Answer {
  const target = writableChannel(store, text(args, "channel"))
  if ("error" in target) return refuse(target.error)
  const user = store.users.get(text(args, "user"))
  if (!user) return refuse("user_not_found")
  if (!target.channel.members.has(user.id) || user.deleted) return refuse("user_not_in_channel")
  const content = readContent(args, POST_TEXT_LIMIT)
  if (refusedContent(content)) return content
  const thread = text(args, "thread_ts") ? { thread_ts: text(args, "thread_ts") } : {}
  const seen = postEphemeral(store, {
    channel: target.channel.id,
    to: user.id,
    text: content.text,
    blocks: content.blocks,
    ...thread,
  })
  return { ok: true, message_ts: seen.ts }
}

function permalink(args: Args, { store, baseUrl }: CallContext): Answer {
  const channel = visibleChannel(store, text(args, "channel"))
  if (!channel) return refuse("channel_not_found")
  const message = store.findMessage(channel.id, text(args, "message_ts"))
  if (!message) return refuse("message_not_found")
  const thread = message.thread_ts ? `?thread_ts=${message.thread_ts}&cid=${channel.id}` : ""
  return {
    ok: true,
    channel: channel.id,
    permalink: `${baseUrl}/archives/${channel.id}/p${message.ts.replace(".", "")}${thread}`,
  }
}

function remove(args: Args, { store }: CallContext): Answer {
  const found = ownMessage(args, store, "cant_delete_message")
  if ("ok" in found) return found
  store.removeMessage(found.message.channel, found.message.ts)
  return { ok: true, channel: found.message.channel, ts: found.message.ts }
}

const scopes = ["chat:write"]

export const chatMethods: Record<string, Method> = {
  "chat.postMessage": { scopes, run: postMessageMethod },
  "chat.update": { scopes, run: update },
  "chat.postEphemeral": { scopes, run: ephemeral },
  "chat.delete": { scopes, run: remove },
  "chat.getPermalink": { run: permalink },
}
