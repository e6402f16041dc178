import { pino, stdTimeFunctions, type DestinationStream, type Logger } from "pino"

import type { LogLevel, Role } from "./config.ts"

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
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: redactedPaths, censor: "[secret]" },
      // The whole line, so that a secret inside a message, a stack or a nested text does not get out either.
      hooks: { streamWrite: withoutSecrets },
    },
    destination,
  )
}
