import { App, HTTPReceiver, LogLevel, type Logger as BoltLogger, type SocketModeReceiver } from "@slack/bolt"
import type { RequestListener } from "node:http"
import { setTimeout as pause } from "node:timers/promises"
import type { Deps, People } from "../commands/ports.ts"
import type { Config } from "../config.ts"
import { errorMessage } from "../errors.ts"
import type { Sender } from "../jobs/deliver.ts"
import type { Logger } from "../log.ts"
import { createClients, slackError, type SlackClients } from "./clients.ts"
import type { BotContext } from "./context.ts"
import { atTheDoor } from "./door.ts"
import { createLimit } from "./limit.ts"
import { registerActions } from "./listeners/actions.ts"
import { registerCommand } from "./listeners/command.ts"
import { registerViews } from "./listeners/views.ts"
import { createPeople } from "./people.ts"
import { createReply } from "./reply.ts"
import { createSender } from "./sender.ts"
import { createSocket } from "./socket.ts"
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
    trouble: createTrouble(clients),
    /** Says at the start when the token is none. Not an end: it may be revoked while approved work goes on. */
    tellRefusal: async () => {
      const refusal = await clients.send.auth.test().then(() => null, slackError)
      if (refusal !== null) log.error({ slackError: refusal }, badToken)
    },
  }
}

/** What Slack said a moment ago counts as said now. */
const saidMs = 2_000
/** Who asks whether a process is ready waits a second, by custom. */
const patienceMs = 700

/** Null when Slack answers and knows us, else why not. */
function createTrouble({ ask }: SlackClients): () => Promise<string | null> {
  let last: { at: number; answer: Promise<string | null> } | null = null
  const now = () =>
    ask.auth.test().then(
      () => null,
      (error: unknown) => `Slack: ${slackError(error) ?? errorMessage(error)}`,
    )
  return async () => {
    if (last === null || performance.now() - last.at > saidMs) last = { at: performance.now(), answer: now() }
    const silence = pause(patienceMs, "Slack: no answer yet", { ref: false })
    return Promise.race([last.answer, silence])
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
      : createSocket({ ...common, appToken: config.slack.appToken, clientOptions }, log)
  const http =
    socket === null
      ? new HTTPReceiver({ ...common, signingSecret: config.slack.signingSecret ?? "", endpoints: "/slack/events" })
      : null
  const app = new App({
    ...common,
    receiver: (socket?.receiver ?? http) as SocketModeReceiver | HTTPReceiver,
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

  return {
    requestListener:
      http === null ? null : atTheDoor((request, response) => http.requestListener(request, response), log),
    start: async () => {
      if (socket) await app.start()
    },
    close: async () => {
      await socket?.close()
      await Promise.all(inFlight)
    },
    trouble: () => socket?.trouble() ?? null,
  }
}

/** Before any listener: an error behind an ack would be nobody's. */
function refuseMalformed(app: App, log: Logger): void {
  app.use(async ({ body, next }) => {
    if (isWellFormed(body)) await next()
    else log.warn("a request that is not as Slack sends it was dropped")
  })
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
