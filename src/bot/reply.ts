import type { KnownBlock } from "@slack/types"
import type { Logger } from "../log.ts"
import { slackError, type SlackClients } from "./clients.ts"

/** Where an answer to one person goes. */
export type ReplyTo = { responseUrl: string | null; channelId: string | null; userId: string }

/** Words alone, or words with the blocks that say the same. */
export type Reply = string | { text: string; blocks: KnownBlock[] }

const replyTimeoutMs = 5_000

/**
 * Answers one person alone, at once: refusals do not wait in the outbox. By the request's own address first, which
 * works in channels that the bot is not in; else as an ephemeral message. A form has no such address, and who filled it in
 * need not be in the channel: Slack says so, and a message of their own reaches them.
 */
export function createReply(clients: SlackClients, log: Logger) {
  return async function reply(to: ReplyTo, said: Reply): Promise<void> {
    const message = typeof said === "string" ? { text: said } : said
    if (to.responseUrl !== null && (await byAddress(to.responseUrl, message))) return
    try {
      if (!(await inChannel(to, message))) await clients.ask.chat.postMessage({ channel: to.userId, ...message })
    } catch (error) {
      log.warn(
        { slackUserId: to.userId, slackError: slackError(error) ?? "no answer" },
        "answer to a person was not delivered",
      )
    }
  }

  /** False when it certainly did not arrive. */
  async function inChannel({ channelId, userId }: ReplyTo, message: { text: string }): Promise<boolean> {
    if (channelId === null) return false
    try {
      await clients.ask.chat.postEphemeral({ channel: channelId, user: userId, ...message })
      return true
    } catch (error) {
      if (slackError(error) === null) throw error
      return false
    }
  }

  async function byAddress(url: string, message: { text: string }): Promise<boolean> {
    try {
      const response = await fetch(url, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ response_type: "ephemeral", replace_original: false, ...message }),
        redirect: "error",
        signal: AbortSignal.timeout(replyTimeoutMs),
      })
      return response.ok && !refuses(await response.text().catch(() => ""))
    } catch {
      return false
    }
  }
}

/** Slack says "ok", or in JSON why not, as to an address that is too old: that may come with the status 200. */
function refuses(body: string): boolean {
  return /^\s*\{.*"ok"\s*:\s*false\b/s.test(body)
}

export type SendReply = ReturnType<typeof createReply>
