import { SocketModeReceiver, type Logger as BoltLogger, type LogLevel } from "@slack/bolt"
import { setTimeout as pause } from "node:timers/promises"
import { errorMessage } from "../errors.ts"
import type { Logger } from "../log.ts"

type Options = { logger: BoltLogger; logLevel: LogLevel; appToken: string; clientOptions: { slackApiUrl?: string } }

/** Socket Mode that comes back by itself, whatever Slack answers. */
export function createSocket({ clientOptions, ...options }: Options, log: Logger) {
  const receiver = new SocketModeReceiver({
    ...options,
    installerOptions: { clientOptions: { ...clientOptions, retryConfig: reconnecting, timeout: openTimeoutMs } },
  })
  const giveUp = keepConnecting(receiver.client, log)
  let connected = false
  receiver.client.on("connected", () => (connected = true))
  // A socket that closes is opened anew after it, without the library calling it disconnected meanwhile.
  for (const event of ["close", "disconnected"]) receiver.client.on(event, () => (connected = false))
  return {
    receiver,
    trouble: () => (connected ? null : "the socket to Slack is not connected"),
    close: async () => {
      giveUp()
      await receiver.stop().catch(() => undefined)
    },
  }
}

/** The library's own pauses grow to many minutes. */
const reconnecting = { retries: 100, factor: 1.3, maxTimeout: 10_000 }
const retryEveryMs = 10_000
/** The library has none, so that a Slack which takes the question and says nothing would keep everybody out for minutes. */
const openTimeoutMs = 10_000

/**
 * What Slack answers for good, as to a token that was revoked, the library leaves to nobody when it reconnects: the
 * process would end by it, with the runs in its hands. It is tried again instead, until what this gives is called.
 */
function keepConnecting(client: SocketModeReceiver["client"], log: Logger): () => void {
  const start = client.start.bind(client)
  const closing = new AbortController()
  client.start = async () => {
    for (;;) {
      try {
        return await start()
      } catch (error) {
        if (closing.signal.aborted) return { ok: false }
        const reason = error === undefined ? "disconnected" : errorMessage(error)
        log.error({ reason }, "Slack could not be connected, see SLACK_APP_TOKEN")
        await pause(retryEveryMs, undefined, { signal: closing.signal, ref: false }).catch(() => undefined)
        if (closing.signal.aborted) return { ok: false }
      }
    }
  }
  return () => closing.abort()
}
