import type { KnownBlock } from "@slack/types"
import { ErrorCode } from "@slack/web-api"
import { errorMessage } from "../errors.ts"
import type { Drawn, Found, Sender, Sent } from "../jobs/deliver.ts"
import { slackError, type SlackClients } from "./clients.ts"

/** The channel, or the message in it, will not come back. */
const hopeless = new Set([
  "channel_not_found",
  "not_in_channel",
  "is_archived",
  "restricted_action",
  "restricted_action_read_only_channel",
  "restricted_action_thread_only_channel",
  "restricted_action_non_threadable_channel",
  "restricted_action_thread_locked",
  "ekm_access_denied",
  "message_not_found",
  "cant_update_message",
  "edit_window_closed",
  "thread_not_found",
])
/** Slack is ailing, or the token or the way to Slack is: the message is kept until it is mended. */
const passing = new Set([
  "token_revoked",
  "token_expired",
  "account_inactive",
  "invalid_auth",
  "not_authed",
  "missing_scope",
  "no_permission",
  "not_allowed_token_type",
  "accesslimited",
  "access_denied",
  "team_access_not_granted",
  "two_factor_setup_required",
  "enterprise_is_restricted",
  "internal_error",
  "fatal_error",
  "service_unavailable",
  "request_timeout",
  "ratelimited",
  "rate_limited",
  "message_limit_exceeded",
  "update_failed",
  "external_channel_migrating",
  "team_added_to_org",
  "org_login_required",
])

/** Slack has answered and will say the same again: waiting for another answer would hold the rest up for good. */
function isFinal(error: unknown): boolean {
  const code = slackError(error)
  return code !== null && !passing.has(code)
}

const metadataType = "stepback_message"
/** About one message a second a channel, with some to spare at once. */
const burst = 30

/** How long to wait before the next message to a channel, in ms; 0 when there is no need to. */
function createPace(clock: () => number): (channel: string) => number {
  const buckets = new Map<string, { tokens: number; at: number }>()
  return (channel) => {
    const now = clock()
    const bucket = buckets.get(channel) ?? { tokens: burst, at: now }
    const tokens = Math.min(burst, bucket.tokens + (now - bucket.at) / 1000)
    buckets.set(channel, { tokens: tokens >= 1 ? tokens - 1 : tokens, at: now })
    return tokens >= 1 ? 0 : Math.ceil((1 - tokens) * 1000)
  }
}

function threadOf(threadTs: string | null, broadcast: boolean) {
  if (threadTs === null) return {}
  return broadcast ? { thread_ts: threadTs, reply_broadcast: true as const } : { thread_ts: threadTs }
}

/** Slack as the outbox needs it: every answer is one of a few, and nothing is retried here. */
export function createSender(clients: SlackClients, clock = () => performance.now()): Sender {
  const mayPost = createPace(clock)

  return {
    async post({ channel, threadTs, key, drawn, broadcast = false }) {
      const waitMs = mayPost(channel)
      if (waitMs > 0) return { kind: "limited", waitMs }
      return outcome(async () => {
        const answer = await clients.send.chat.postMessage({
          channel,
          ...content(drawn),
          ...threadOf(threadTs, broadcast),
          unfurl_links: false,
          unfurl_media: false,
          metadata: { event_type: metadataType, event_payload: { key } },
        })
        return { channel: answer.channel ?? channel, ts: answer.ts ?? "" }
      })
    },

    update: ({ channel, ts, key, drawn }) =>
      outcome(async () => {
        // A message always says whose drawing it is: one that was drawn over is not the one that it was.
        const metadata = { event_type: metadataType, event_payload: { key } }
        await clients.send.chat.update({ channel, ts, ...content(drawn), metadata })
        return { channel, ts }
      }),

    find: ({ key, ...place }) =>
      look(
        clients,
        place,
        ({ metadata }) => metadata?.event_type === metadataType && metadata.event_payload?.key === key,
      ),

    findFile: ({ name, ...place }) =>
      look(clients, place, ({ files }) => files?.some((file) => file.name === name) ?? false),

    async remove({ channel, ts }) {
      try {
        await clients.send.chat.delete({ channel, ts })
        return true
      } catch (error) {
        return isFinal(error)
      }
    },

    async upload({ channel, threadTs, name, content }) {
      const sent = await outcome(async () => {
        const file = { filename: name, content, channel_id: channel }
        await clients.send.filesUploadV2(threadTs === null ? file : { ...file, thread_ts: threadTs })
        return { channel, ts: "" }
      })
      // Messages need another scope and go on.
      return sent.kind === "unknown" && sent.error === "missing_scope"
        ? { kind: "refused", error: sent.error, hopeless: true }
        : sent
    },

    async permalink(channel, ts) {
      try {
        const answer = await clients.ask.chat.getPermalink({ channel, message_ts: ts })
        return answer.permalink ?? null
      } catch {
        return null
      }
    },
  }
}

type Seen = {
  ts?: string
  metadata?: { event_type?: string; event_payload?: { key?: unknown } }
  files?: { name?: string | null }[]
}

type Place = { channel: string; threadTs: string | null; since: string }
/** In seconds, as Slack's own timestamps. */
type Span = { oldest: number | string; latest?: number }

/** A page of messages, and how many of them are turned: with those of both ends, fewer than Slack answers in a minute. */
const pageSize = 200
const mostPages = 20
const mostPagesOfAnEnd = 10
const endS = 3_600

/**
 * Looks through a thread, or through a channel since then. Of very many messages Slack gives the newest of a channel and
 * the oldest of a thread. What is not among them was posted when it was due, or a moment ago: it is looked for there. One
 * that is at neither end would not be found however often anybody looks, so it counts as not there.
 */
async function look(clients: SlackClients, place: Place, isIt: (message: Seen) => boolean): Promise<Found> {
  // A while before, since Slack's clock is another one.
  const since = Math.floor(Date.parse(place.since) / 1000) - 600
  try {
    const first = await turnPages(clients, place, { oldest: place.threadTs ?? since }, { pages: mostPages, isIt })
    const found = first.found
    const ends = [{ oldest: since, latest: since + endS }, { oldest: Math.floor(Date.now() / 1000) - endS }]
    for (const end of first.more ? ends : [])
      if (found.length === 0)
        found.push(...(await turnPages(clients, place, end, { pages: mostPagesOfAnEnd, isIt })).found)
    const [ts, ...twins] = found.sort((a, b) => Number(a) - Number(b))
    return ts === undefined ? { kind: "none" } : { kind: "found", ts, twins }
  } catch (error) {
    // Without the scope no look will ever be answered: to post, perhaps twice, is better than to be silent for good.
    return isFinal(error) || slackError(error) === "missing_scope" ? { kind: "none" } : { kind: "unknown" }
  }
}

/** `more`: not all of the span was seen. */
async function turnPages(
  clients: SlackClients,
  { channel, threadTs }: Place,
  { oldest, latest }: Span,
  { pages, isIt }: { pages: number; isIt: (message: Seen) => boolean },
): Promise<{ found: string[]; more: boolean }> {
  const found: string[] = []
  let cursor = ""
  for (let page = 0; page < pages && (page === 0 || cursor !== ""); page++) {
    const from = {
      channel,
      include_all_metadata: true,
      limit: pageSize,
      oldest: String(oldest),
      ...(latest === undefined ? {} : { latest: String(latest) }),
      ...(cursor === "" ? {} : { cursor }),
    }
    const answer =
      threadTs === null
        ? await clients.send.conversations.history(from)
        : await clients.send.conversations.replies({ ...from, ts: threadTs })
    for (const message of (answer.messages ?? []) as Seen[]) if (message.ts && isIt(message)) found.push(message.ts)
    cursor = answer.response_metadata?.next_cursor ?? ""
  }
  return { found, more: cursor !== "" }
}

function content(drawn: Drawn): { text: string; blocks?: KnownBlock[] } {
  return drawn.blocks === undefined ? { text: drawn.text } : { text: drawn.text, blocks: drawn.blocks as KnownBlock[] }
}

async function outcome(call: () => Promise<{ channel: string; ts: string }>): Promise<Sent> {
  try {
    return { kind: "sent", ...(await call()) }
  } catch (error) {
    const limited = error as { code?: string; retryAfter?: number }
    if (limited.code === ErrorCode.RateLimitedError)
      return { kind: "limited", waitMs: Math.max(1, limited.retryAfter ?? 1) * 1000 }
    const code = slackError(error)
    if (code === null || passing.has(code)) return { kind: "unknown", error: code ?? errorMessage(error) }
    return { kind: "refused", error: details(error, code), hopeless: hopeless.has(code) }
  }
}

/** Which block it was, when Slack says so. */
function details(error: unknown, code: string): string {
  const { data } = error as { data?: { response_metadata?: { messages?: unknown[] } } }
  const messages = data?.response_metadata?.messages ?? []
  return messages.length === 0 ? code : `${code}: ${messages.map(String).join("; ")}`
}
