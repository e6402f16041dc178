import { editMessage, postEphemeral, postMessage } from "./posting.ts"
import type { ResponseUrl, Store } from "./store.ts"
import type { Block, Json } from "./types.ts"
import { validateMessageBlocks } from "./validation/validate.ts"

const MAX_USES = 5

/** Answers a POST to a `response_url`. */
export function answerResponseUrl(store: Store, token: string, body: Json): { status: number; body: Json } {
  const target = store.responseUrls.get(token)
  if (!target) return { status: 404, body: { ok: false, error: "invalid_url" } }
  if (target.expiresAt < Date.now()) return { status: 404, body: { ok: false, error: "expired_url" } }
  if (target.uses >= MAX_USES) return { status: 404, body: { ok: false, error: "used_url" } }
  target.uses += 1
  const refusal = respond(store, target, body)
  return refusal
    ? { status: refusal === "invalid_blocks" ? 400 : 500, body: { ok: false, error: refusal } }
    : { status: 200, body: { ok: true } }
}

/** Posts, replaces or deletes what an app answered to a command or click; the error when it may not. */
export function respond(
  store: Store,
  target: Omit<ResponseUrl, "token" | "uses" | "expiresAt">,
  body: Json,
): string | null {
  if (body["delete_original"] === true) return removeOriginal(store, target)
  const given =
    body["blocks"] === undefined ? { ok: true as const, blocks: [] as Block[] } : validateMessageBlocks(body["blocks"])
  if (!given.ok) return given.error
  const text = typeof body["text"] === "string" ? body["text"] : ""
  if (!text && given.blocks.length === 0) return "no_text"
  if (body["replace_original"] === true && target.messageTs) return replaceOriginal(store, target, text, given.blocks)
  const thread = typeof body["thread_ts"] === "string" ? { thread_ts: body["thread_ts"] } : {}
  if (body["response_type"] === "in_channel")
    postMessage(store, {
      channel: target.channel,
      user: store.identity.botUserId,
      text,
      blocks: given.blocks,
      ...thread,
    })
  else postEphemeral(store, { channel: target.channel, to: target.user, text, blocks: given.blocks, ...thread })
  return null
}

function replaceOriginal(
  store: Store,
  target: Pick<ResponseUrl, "channel" | "messageTs" | "ephemeral">,
  text: string,
  blocks: Block[],
): string | null {
  if (target.ephemeral) {
    const seen = store.ephemerals.find((candidate) => candidate.ts === target.messageTs)
    if (!seen) return "message_not_found"
    Object.assign(seen, { text, blocks })
    store.changed({ kind: "ephemeral", channel: seen.channel, user: seen.to })
    return null
  }
  const message = store.findMessage(target.channel, target.messageTs ?? "")
  if (!message) return "message_not_found"
  editMessage(store, message, { text, blocks })
  return null
}

function removeOriginal(store: Store, target: Pick<ResponseUrl, "channel" | "messageTs" | "ephemeral">): null {
  if (!target.ephemeral) {
    store.removeMessage(target.channel, target.messageTs ?? "")
    return null
  }
  const index = store.ephemerals.findIndex((candidate) => candidate.ts === target.messageTs)
  if (index >= 0) store.ephemerals.splice(index, 1)
  store.changed({ kind: "ephemeral", channel: target.channel })
  return null
}
