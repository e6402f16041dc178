import { pino, stdSerializers, stdTimeFunctions, type DestinationStream, type Logger, type SerializedError } from "pino"

import type { LogLevel, Role } from "./config.ts"
import { errorCode, isFromServer } from "./errors.ts"

export type { Logger } from "pino"

/** Names under which secrets travel in what we log, down to two levels below the logged object. */
const secretNames = [
  "token",
  "botToken",
  "appToken",
  "signingSecret",
  "clientSecret",
  "secret",
  "password",
  "authorization",
  "Authorization",
  "cookie",
  "trigger_id",
  "response_url",
  "responseUrl",
  "databaseUrl",
  "redisUrl",
  "connectionString",
  "SLACK_BOT_TOKEN",
  "SLACK_SIGNING_SECRET",
  "SLACK_APP_TOKEN",
  "DATABASE_URL",
  "REDIS_URL",
]

const redactedPaths = secretNames.flatMap((name) => [name, `*.${name}`, `*.*.${name}`])

const secretTexts: [pattern: RegExp, replacement: string][] = [
  [/\bxox[a-z]-[\w-]+/g, "[token]"],
  [/\bxapp-[\w-]+/g, "[token]"],
  [/\bgh[pousr]_\w{16,}|\bgithub_pat_\w{16,}/g, "[token]"],
  [/\b(Bearer|Basic) [\w.~+/=-]{8,}/gi, "$1 [secret]"],
  [/([a-z][a-z\d+.-]*:\/\/[^\s:@/"']*:)[^\s@"']+(@)/gi, "$1[secret]$2"],
  [/(https:\/\/hooks\.slack\.com\/)[^\s"']+/g, "$1[secret]"],
]

/** Takes tokens and passwords out of text; errors of drivers and servers quote addresses and headers in full. */
export function withoutSecrets(text: string): string {
  return secretTexts.reduce((cleaned, [pattern, replacement]) => cleaned.replace(pattern, replacement), text)
}

/** What Postgres tells beside its message: rows, and values of parameters and of statements inside functions. */
const rowFields = ["detail", "where", "internalQuery", "parameters"]

type Quoting = { said: string; instead: string }[]

/** An error for the log, without what rows hold: the log does not know which columns a plan says are never shown. */
function withoutRows(error: unknown): unknown {
  if (!(error instanceof Error)) return error
  const shown = stdSerializers.err(error)
  // A value that does not fit its type is quoted by the message itself, and by the stack.
  const quoting = fromServer(error, new Set())
    .filter((one) => errorCode(one).startsWith("22"))
    .map((one) => ({ said: one.message, instead: `a value does not fit (${errorCode(one)})` }))
  strip(shown, quoting)
  return shown
}

/** What Postgres said of it: the error itself, its causes and its parts. */
function fromServer(error: unknown, seen: Set<unknown>): Error[] {
  if (!(error instanceof Error) || seen.has(error)) return []
  seen.add(error)
  const parts: unknown[] = error instanceof AggregateError ? error.errors : []
  return [...(isFromServer(error) ? [error] : []), ...[error.cause, ...parts].flatMap((one) => fromServer(one, seen))]
}

/** Errors inside it are serialized as it is; what else hangs on it may go round in circles, and is left alone. */
function strip(shown: SerializedError, quoting: Quoting): void {
  for (const [name, value] of Object.entries(shown)) {
    if ("severity" in shown && rowFields.includes(name)) delete shown[name]
    else if (typeof value === "string" && (name === "message" || name === "stack"))
      shown[name] = quoting.reduce((text, { said, instead }) => text.replaceAll(said, () => instead), value)
    else for (const part of Array.isArray(value) ? value : [value]) if (isSerialized(part, shown)) strip(part, quoting)
  }
}

function isSerialized(value: unknown, like: SerializedError): value is SerializedError {
  return typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.getPrototypeOf(like)
}

/**
 * The process's logger: one JSON object a line, to stdout unless told otherwise. The message is a past-tense event,
 * facts are fields under the names that everybody uses: rollbackId, environment, step, slackUserId, attempt.
 */
export function createLogger(options: { level: LogLevel; role: Role; destination?: DestinationStream }): Logger {
  const destination = options.destination ?? pino.destination({ dest: 1, sync: true })
  return pino(
    {
      level: options.level,
      base: { service: "stepback", role: options.role, pid: process.pid },
      timestamp: stdTimeFunctions.isoTime,
      serializers: { err: withoutRows },
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: redactedPaths, censor: "[secret]" },
      // The whole line, so that a secret inside a message, a stack or a nested text does not get out either.
      hooks: { streamWrite: withoutSecrets },
    },
    destination,
  )
}
