import type { Logger } from "../log.ts"
import { slackError, type SlackClients } from "./clients.ts"

/** Where an answer to one person goes. */
export type ReplyTo = { responseUrl: string | null; channelId: string | null; userId: string }

const replyTimeoutMs = 5_000

/**
 * Answers one person alone, at once: refusals do not wait in the outbox. By the request's own address first, which
 * works in channels that the bot is not in; else as an ephemeral message.
 */
export function createReply(clients: SlackClients, log: Logger) {
  return async function reply(to: ReplyTo, text: string): Promise<void> {
    if (to.responseUrl !== null && (await byAddress(to.responseUrl, text))) return
    if (to.channelId === null) return
    try {
      await clients.ask.chat.postEphemeral({ channel: to.channelId, user: to.userId, text })
    } catch (error) {
      log.warn(
        { slackUserId: to.userId, slackError: slackError(error) ?? "no answer" },
        "answer to a person was not delivered",
      )
    }
  }

  async function byAddress(url: string, text: string): Promise<boolean> {
    try {
      const response = await fetch(url, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ response_type: "ephemeral", replace_original: false, text }),
        redirect: "error",
        signal: AbortSignal.timeout(replyTimeoutMs),
      })
      return response.ok
    } catch {
      return false
    }
  }
}

export type Reply = ReturnType<typeof createReply>
