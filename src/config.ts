import { z } from "zod"
import { readRedisAddress, redisAddressProblem } from "./redis-address.ts"

export type Role = "all" | "bot" | "worker"
export type LogLevel = "fatal" | "error" | "warn" | "info" | "debug" | "trace" | "silent"

/** Everything that the process is told from outside, as plain data. */
export type Config = {
  slack: {
    botToken: string
    /** null in Socket Mode and in a process that only works: nobody calls those over HTTP. */
    signingSecret: string | null
    /** Socket Mode when set. */
    appToken: string | null
    /** Ends in `/`, as the Web API client joins method names to it. null: Slack's own. */
    apiUrl: string | null
  }
  databaseUrl: string
  /** One address, or several servers as `readRedisAddress` knows them. null: the queue lives in the state database. */
  redisUrl: string | null
  plansFolder: string
  role: Role
  /** 0: any free port. */
  port: number
  logLevel: LogLevel
  workerConcurrency: number
}

/** A variable that is missing or unusable: which, what is wrong with it, what it is for. Never carries the value of a secret. */
export type ConfigProblem = { name: string; problem: string; purpose: string }
export type ConfigResult = { ok: true; config: Config } | { ok: false; problems: ConfigProblem[] }

const purposes = {
  SLACK_BOT_TOKEN: "the bot token (xoxb-…) with which messages are posted",
  SLACK_SIGNING_SECRET: "proves that a request comes from Slack; not needed when SLACK_APP_TOKEN is set",
  SLACK_APP_TOKEN: "the app-level token (xapp-…) for Socket Mode, instead of requests over HTTP",
  SLACK_API_URL: "base address of the Web API; only for servers other than Slack's own",
  DATABASE_URL: "the Postgres database of Stepback's own state",
  REDIS_URL: "the queue; without it the queue lives in DATABASE_URL",
  STEPBACK_PLANS: "the folder of the plan files",
  STEPBACK_ROLE: "which part this process is: all, bot (Slack only) or worker (jobs only)",
  PORT: "the port of the HTTP server",
  LOG_LEVEL: "how much is logged",
  WORKER_CONCURRENCY: "how many rollbacks one worker runs side by side",
} as const

type Name = keyof typeof purposes
const names = Object.keys(purposes) as Name[]

const url = (protocols: string[], expected: string) =>
  z
    .string({ error: "is missing" })
    .refine((value) => URL.canParse(value) && protocols.includes(new URL(value).protocol), `is not ${expected}`)

const wholeNumber = (fallback: number, min: number, max: number) =>
  z
    .string()
    .regex(/^\d{1,9}$/, `is not a whole number from ${min} to ${max}`)
    .transform(Number)
    .refine((value) => value >= min && value <= max, `is not a whole number from ${min} to ${max}`)
    .default(fallback)

/** Of any shape, but one that a header takes: what it does not take is quoted in full by the error of each call. */
const secret = z
  .string({ error: "is missing" })
  .refine((value) => /^[ -~]+$/.test(value), "holds a line break, a typographic quote or an odd space")
  .refine((value) => !/^(["']).*\1$/.test(value), "stands in quotes: leave them out")

/** Only a swap is refused: servers that are compatible with Slack's may hand out tokens of any shape. */
const token = (swappedPrefix: string, swappedKind: string) =>
  secret.refine((value) => !value.startsWith(swappedPrefix), `holds ${swappedKind}`)

const environment = z.object({
  SLACK_BOT_TOKEN: token("xapp-", "an app-level token (xapp-…)"),
  SLACK_SIGNING_SECRET: secret.optional(),
  SLACK_APP_TOKEN: token("xoxb-", "a bot token (xoxb-…)").optional(),
  // No request is made of one, and the error that says so quotes it.
  SLACK_API_URL: url(["http:", "https:"], "an http(s) address")
    .refine((value) => !/^https?:\/\/[^/?#]*@/i.test(value), "holds a name or a password, which it cannot")
    .optional(),
  DATABASE_URL: url(["postgres:", "postgresql:"], "a postgres:// address"),
  REDIS_URL: z
    .string()
    .refine((value) => readRedisAddress(value) !== null, redisAddressProblem)
    .optional(),
  STEPBACK_PLANS: z.string().default("plans"),
  STEPBACK_ROLE: z.enum(["all", "bot", "worker"], { error: "is not one of all, bot, worker" }).default("all"),
  PORT: wholeNumber(3000, 0, 65_535),
  LOG_LEVEL: z
    .enum(["fatal", "error", "warn", "info", "debug", "trace", "silent"], {
      error: "is not one of fatal, error, warn, info, debug, trace, silent",
    })
    .default("info"),
  WORKER_CONCURRENCY: wholeNumber(10, 1, 1000),
})

/**
 * Reads the environment. All problems are told at once, in the order in which the variables are documented;
 * an empty or blank variable counts as missing, since that is what `FOO=` in an env file means to people.
 */
export function readConfig(env: Record<string, string | undefined>): ConfigResult {
  const given = Object.fromEntries(names.map((name) => [name, env[name]?.trim() || undefined]))
  const parsed = environment.safeParse(given)
  const found = new Map<string, string>()
  for (const issue of parsed.error?.issues ?? []) {
    const name = String(issue.path[0])
    if (!found.has(name)) found.set(name, issue.message)
  }
  if (needsSigningSecret(given)) found.set("SLACK_SIGNING_SECRET", "is missing")

  if (!parsed.success || found.size > 0) {
    const problems = names
      .filter((name) => found.has(name))
      .map((name) => ({ name, problem: found.get(name) ?? "", purpose: purposes[name] }))
    return { ok: false, problems }
  }
  return { ok: true, config: toConfig(parsed.data) }
}

/** Checked beside the schema: zod leaves refinements of the whole out when a part is wrong, and all problems are to be told. */
function needsSigningSecret(given: Record<string, string | undefined>): boolean {
  return !given["SLACK_SIGNING_SECRET"] && !given["SLACK_APP_TOKEN"] && given["STEPBACK_ROLE"] !== "worker"
}

function toConfig(env: z.output<typeof environment>): Config {
  return {
    slack: {
      botToken: env.SLACK_BOT_TOKEN,
      signingSecret: env.SLACK_SIGNING_SECRET ?? null,
      appToken: env.SLACK_APP_TOKEN ?? null,
      apiUrl: env.SLACK_API_URL === undefined ? null : `${env.SLACK_API_URL.replace(/\/+$/, "")}/`,
    },
    databaseUrl: env.DATABASE_URL,
    redisUrl: env.REDIS_URL ?? null,
    plansFolder: env.STEPBACK_PLANS,
    role: env.STEPBACK_ROLE,
    port: env.PORT,
    logLevel: env.LOG_LEVEL,
    workerConcurrency: env.WORKER_CONCURRENCY,
  }
}
