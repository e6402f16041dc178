import { findMentions } from "./mentions.ts"
import { withIds } from "./store.ts"
import type { Store } from "./store.ts"
import type { Block, Ephemeral, Json, Message, StoredFile } from "./types.ts"

export type NewMessage = {
  channel: string
  user: string
  text: string
  blocks?: Block[]
  metadata?: Json
  thread_ts?: string
  reply_broadcast?: boolean
  files?: StoredFile[]
  linkNames?: boolean
}

export function postMessage(store: Store, asked: NewMessage): Message {
  const blocks = withIds(asked.blocks ?? [])
  const message: Message = {
    channel: asked.channel,
    ts: store.nextTs(),
    user: asked.user,
    text: asked.text,
    blocks,
    mentions: findMentions(asked.text, blocks, asked.linkNames),
  }
  if (asked.user === store.identity.botUserId) message.bot_id = store.identity.botId
  if (asked.metadata) message.metadata = asked.metadata
  if (asked.thread_ts) message.thread_ts = asked.thread_ts
  if (asked.reply_broadcast) message.reply_broadcast = true
  if (asked.files) message.files = asked.files
  return store.addMessage(message)
}

export function editMessage(
  store: Store,
  message: Message,
  change: { text: string; blocks: Block[]; metadata?: Json; reply_broadcast?: boolean },
): void {
  message.text = change.text
  message.blocks = withIds(change.blocks)
  message.mentions = findMentions(message.text, message.blocks)
  message.edited = { user: store.identity.botUserId, ts: store.nextTs() }
  if (change.metadata) message.metadata = change.metadata
  if (change.reply_broadcast) message.reply_broadcast = true
  store.changed({ kind: "edited", channel: message.channel, ts: message.ts })
}

export function postEphemeral(
  store: Store,
  asked: { channel: string; to: string; text: string; blocks?: Block[]; thread_ts?: string; from?: string },
): Ephemeral {
  const seen: Ephemeral = {
    channel: asked.channel,
    to: asked.to,
    user: asked.from ?? store.identity.botUserId,
    text: asked.text,
    blocks: withIds(asked.blocks ?? []),
    ts: store.nextTs(),
  }
  if (asked.thread_ts) seen.thread_ts = asked.thread_ts
  store.ephemerals.push(seen)
  store.changed({ kind: "ephemeral", channel: asked.channel, user: asked.to })
  return seen
}
