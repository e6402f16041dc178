import { randomBytes } from "node:crypto"
import type { Store } from "./store.ts"
import type { Channel, Json, Message, User } from "./types.ts"

const TRIGGER_LIVES_MS = 3000
const RESPONSE_URL_LIVES_MS = 30 * 60_000

/** A trigger opens one modal, within three seconds. */
export function issueTrigger(store: Store, user: User, viewId: string | null = null): string {
  const id = `${Date.now()}.${randomBytes(5).readUIntBE(0, 5)}.${randomBytes(16).toString("hex")}`
  store.triggers.set(id, { id, user: user.id, expiresAt: Date.now() + TRIGGER_LIVES_MS, used: false, viewId })
  return id
}

/** An address that needs no token: five uses within thirty minutes. */
export function issueResponseUrl(
  store: Store,
  base: string,
  about: {
    kind: "commands" | "actions"
    user: User
    channel: Channel
    message?: { ts: string; ephemeral: boolean; thread: string | null }
  },
): string {
  const token = randomBytes(18).toString("base64url")
  store.responseUrls.set(token, {
    token,
    user: about.user.id,
    channel: about.channel.id,
    messageTs: about.message?.ts ?? null,
    thread: about.message?.thread ?? null,
    ephemeral: about.message?.ephemeral ?? false,
    expiresAt: Date.now() + RESPONSE_URL_LIVES_MS,
    uses: 0,
  })
  return `${base}/${about.kind}/${store.identity.teamId}/${token}`
}

const channelName = (channel: Channel): string => (channel.is_private ? "privategroup" : channel.name)

export function commandPayload(
  store: Store,
  base: string,
  { user, channel, command, text }: { user: User; channel: Channel; command: string; text: string },
): Json {
  return {
    token: store.identity.verificationToken,
    team_id: user.team_id,
    team_domain: store.identity.teamDomain,
    channel_id: channel.id,
    channel_name: channelName(channel),
    user_id: user.id,
    user_name: user.name,
    command,
    text,
    api_app_id: store.identity.appId,
    is_enterprise_install: "false",
    response_url: issueResponseUrl(store, base, { kind: "commands", user, channel }),
    trigger_id: issueTrigger(store, user),
  }
}

export const payloadUser = (user: User): Json => ({
  id: user.id,
  username: user.name,
  name: user.name,
  team_id: user.team_id,
})

export function payloadBase(store: Store, type: string, user: User): Json {
  return {
    type,
    user: payloadUser(user),
    api_app_id: store.identity.appId,
    token: store.identity.verificationToken,
    team: { id: store.identity.teamId, domain: store.identity.teamDomain },
    enterprise: null,
    is_enterprise_install: false,
  }
}

/** A message as the Web API and payloads show it. */
export function wireMessage(store: Store, message: Message, { metadata = true }: { metadata?: boolean } = {}): Json {
  const { channel: _channel, mentions: _mentions, blocks, reply_broadcast, metadata: own, ...rest } = message
  const replies = store
    .inChannel(message.channel)
    .filter((other) => other.thread_ts === message.ts && other.ts !== message.ts)
  const thread = replies.length > 0 && {
    thread_ts: message.ts,
    reply_count: replies.length,
    reply_users: [...new Set(replies.map((reply) => reply.user))],
    latest_reply: replies.at(-1)?.ts,
  }
  return {
    type: "message",
    ...(reply_broadcast ? { subtype: "thread_broadcast" } : {}),
    ...rest,
    team: store.identity.teamId,
    ...(message.bot_id ? { app_id: store.identity.appId } : {}),
    ...(blocks.length > 0 ? { blocks } : {}),
    ...(own && metadata ? { metadata: own } : {}),
    ...(message.thread_ts ? { parent_user_id: store.findMessage(message.channel, message.thread_ts)?.user } : {}),
    ...thread,
  }
}
