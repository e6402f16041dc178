import { App, HTTPReceiver, LogLevel, SocketModeReceiver, type Logger as BoltLogger } from "@slack/bolt"
import type { RequestListener } from "node:http"
import { setTimeout as pause } from "node:timers/promises"
import type { Deps, People } from "../commands/ports.ts"
import type { Config } from "../config.ts"
import { errorMessage } from "../errors.ts"
import type { Sender } from "../jobs/deliver.ts"
import type { Logger } from "../log.ts"
import { createClients, slackError } from "./clients.ts"
import type { BotContext } from "./context.ts"
import { createLimit } from "./limit.ts"
import { registerActions } from "./listeners/actions.ts"
import { registerCommand } from "./listeners/command.ts"
import { registerViews } from "./listeners/views.ts"
import { createPeople } from "./people.ts"
import { createReply } from "./reply.ts"
import { createSender } from "./sender.ts"
import { createTurns } from "./turns.ts"
import { isWellFormed } from "./well-formed.ts"

const badToken =
  "Slack refuses SLACK_BOT_TOKEN, so nothing can be posted: take the Bot User OAuth Token from the app's page (Install App) and start again"

/** Slack as every process needs it: people to ask about, messages to send. */
export function createSlack(config: Config, log: Logger, failed: (method: string, code: string) => void) {
  const clients = createClients(config.slack.botToken, config.slack.apiUrl, failed)
  const people: People = createPeople(clients, log)
  const sender: Sender = createSender(clients)
  return {
    clients,
    people,
    sender,
    /** Says at the start when the token is none. Not an end: it may be revoked while approved work goes on. */
    tellRefusal: async () => {
      const refusal = await clients.send.auth.test().then(() => null, slackError)
      if (refusal !== null) log.error({ slackError: refusal }, badToken)
    },
  }
}

export type Bot = {
  /** Null in Socket Mode. */
  requestListener: RequestListener | null
  start(): Promise<void>
  /** Stops taking requests, then waits for what goes on after their acks. */
  close(): Promise<void>
  /** Null when Slack reaches us, else why not. */
  trouble(): string | null
}

/** A request whose time is this far from ours, to either side, is refused. Slack's own figure for the past. */
const clockToleranceS = 300

export function createBot(options: {
  config: Config
  deps: Deps
  slack: ReturnType<typeof createSlack>
  log: Logger
}): Bot {
  const { config, deps, slack, log } = options
  const logger = boltLogger(log)
  const clientOptions = config.slack.apiUrl === null ? {} : { slackApiUrl: config.slack.apiUrl }
  const common = { logger, logLevel: LogLevel.WARN }
  const socket =
    config.slack.appToken === null
      ? null
      : new SocketModeReceiver({
          ...common,
          appToken: config.slack.appToken,
          installerOptions: { clientOptions: { ...clientOptions, retryConfig: reconnecting } },
        })
  const http =
    socket === null
      ? new HTTPReceiver({ ...common, signingSecret: config.slack.signingSecret ?? "", endpoints: "/slack/events" })
      : null
  const app = new App({
    ...common,
    receiver: (socket ?? http) as SocketModeReceiver | HTTPReceiver,
    // Known without asking: an outage of Slack's API must not eat the 3 s of an ack.
    authorize: async () => ({ botToken: config.slack.botToken, botId: "B0STEPBACK", botUserId: "U0STEPBACK" }),
    ignoreSelf: false,
    clientOptions,
  })
  app.error(async (error) => log.error({ err: error }, "a listener failed"))
  const inFlight = new Set<Promise<void>>()
  const context: BotContext = {
    deps,
    clients: slack.clients,
    reply: createReply(slack.clients, log),
    limit: createLimit(),
    inTurn: createTurns(),
    log,
    track: (work) => {
      inFlight.add(work)
      void work.finally(() => inFlight.delete(work))
    },
  }
  refuseMalformed(app, log)
  registerCommand(app, context)
  registerActions(app, context)
  registerViews(app, context)
  const giveUp = socket === null ? () => undefined : keepConnecting(socket.client, log)
  let connected = socket === null
  socket?.client.on("connected", () => (connected = true))
  socket?.client.on("disconnected", () => (connected = false))

  return {
    requestListener: http === null ? null : withinTime((request, response) => http.requestListener(request, response)),
    start: async () => {
      if (socket) await app.start()
    },
    close: async () => {
      giveUp()
      if (socket) await socket.stop().catch(() => undefined)
      await Promise.all(inFlight)
    },
    trouble: () => (connected ? null : "the socket to Slack is not connected"),
  }
}

/** The library's own pauses grow to many minutes. */
const reconnecting = { retries: 100, factor: 1.3, maxTimeout: 10_000 }
const retryEveryMs = 10_000

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

/** Before any listener: an error behind an ack would be nobody's. */
function refuseMalformed(app: App, log: Logger): void {
  app.use(async ({ body, next }) => {
    if (isWellFormed(body)) await next()
    else log.warn("a request that is not as Slack sends it was dropped")
  })
}

/** Bolt refuses what is too old; what claims to be from the future is refused here. */
function withinTime(listener: RequestListener): RequestListener {
  return (request, response) => {
    const stamp = Number(request.headers["x-slack-request-timestamp"])
    if (!Number.isFinite(stamp) || Math.abs(Date.now() / 1000 - stamp) > clockToleranceS) {
      request.resume()
      response.writeHead(401).end()
      return
    }
    listener(request, response)
  }
}

function boltLogger(log: Logger): BoltLogger {
  const say =
    (level: "debug" | "info" | "warn" | "error") =>
    (...parts: unknown[]) => {
      log[level](
        { source: "bolt" },
        parts.map((part) => (part instanceof Error ? part.message : String(part))).join(" "),
      )
    }
  return {
    debug: () => undefined,
    info: say("debug"),
    warn: say("warn"),
    error: say("error"),
    setLevel: () => undefined,
    getLevel: () => LogLevel.WARN,
    setName: () => undefined,
  }
}
