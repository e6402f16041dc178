import { setTimeout as pause } from "node:timers/promises"
import { errorMessage, neverSent, StepbackError } from "../errors.ts"
import type { Secrets } from "./secrets.ts"
import { shorten } from "./shown.ts"

/** GitHub did not do what it was asked for; the message has the way out. */
export class GitHubProblem extends StepbackError {
  /** Whether what was asked for may have happened all the same. */
  readonly doubtful: boolean

  constructor(code: string, message: string, options: { passing?: boolean; doubtful?: boolean } = {}) {
    super(code, message, { retryable: options.passing ?? false })
    this.doubtful = options.doubtful ?? false
  }
}

export type Question = {
  method?: "GET" | "POST"
  /** Segments, as they are: they are encoded here. */
  path: string[]
  query?: Record<string, string>
  accept?: string
  body?: unknown
  /** Answered by 304 when nothing has changed: that does not count against the rate limit. */
  etag?: string | null
}
export type Answer = { status: number; text: string; json: unknown; etag: string | null }
export type GitHub = { ask(question: Question): Promise<Answer> }

type Options = {
  api: string | null
  /** As the plan has it: `${NAME}`. */
  token: string
  /** For messages. */
  repo: string
  secrets: Secrets
  signal: AbortSignal
  /** On the clock of `performance.now()`: a rate limit is not waited for beyond it. */
  deadline: number
}

const ownApi = "https://api.github.com"
/** The version of 2022 answers a dispatch with the run when `return_run_details` asks for it. */
const apiVersion = "2022-11-28"
const requestMs = 15_000
/** A page of runs is large: each carries its repository. */
const answerLimit = 8 * 1024 * 1024
/** A limit that does not say how long it lasts: GitHub asks for at least a minute. */
const unsaidLimitMs = 60_000

/** One GitHub, by one token. Requests go to its address only and follow no redirect. */
export function openGitHub(options: Options): GitHub {
  const base = baseOf(options.secrets.resolveOpen(options.api ?? ownApi))
  const token = options.secrets.resolve(options.token)

  return {
    async ask(question) {
      for (;;) {
        const response = await send(question, base, token, options.secrets)
        const limit = limitedFor(response)
        if (limit === null) return judged(response, question, options)
        const until = `${new Date(Date.now() + limit).toISOString().slice(11, 19)} UTC`
        if (performance.now() + limit > options.deadline)
          throw new GitHubProblem(
            "rate_limited",
            `GitHub takes no more requests with ${options.token} until ${until}, longer than this step may take: Retry after that`,
          )
        await pause(limit, undefined, { signal: options.signal }).catch(() => undefined)
        if (options.signal.aborted)
          throw new GitHubProblem(
            "rate_limited",
            `GitHub takes no more requests with ${options.token} until ${until}`,
            { passing: true },
          )
      }
    },
  }
}

function baseOf(address: string): URL {
  if (!URL.canParse(address)) throw new StepbackError("bad_api", "workflow.api is not an address")
  const base = new URL(address)
  const local = ["127.0.0.1", "[::1]", "localhost"].includes(base.hostname)
  if (base.protocol === "https:" || (base.protocol === "http:" && local)) return base
  throw new StepbackError("bad_api", "workflow.api must be https: a token would travel in the clear")
}

type Received = { status: number; headers: Headers; text: string }

async function send(question: Question, base: URL, token: string, secrets: Secrets): Promise<Received> {
  const { method = "GET", body, etag = null } = question
  // A segment of dots would climb to another endpoint.
  if (question.path.some((segment) => /^\.{0,2}$/.test(segment)))
    throw new GitHubProblem("bad_name", `${question.path.join("/")} is no name at GitHub`)
  const url = new URL(`${base.pathname.replace(/\/$/, "")}/${question.path.map(encodeURIComponent).join("/")}`, base)
  for (const [name, value] of Object.entries(question.query ?? {})) url.searchParams.set(name, value)
  const headers = {
    accept: question.accept ?? "application/vnd.github+json",
    authorization: `Bearer ${token}`,
    "user-agent": "stepback",
    "x-github-api-version": apiVersion,
    ...(body === undefined ? {} : { "content-type": "application/json" }),
    ...(etag === null ? {} : { "if-none-match": etag }),
  }
  try {
    const response = await fetch(url, {
      method,
      headers,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      redirect: "manual",
      signal: AbortSignal.timeout(requestMs),
    })
    return { status: response.status, headers: response.headers, text: await readSome(response) }
  } catch (error) {
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error
    throw new GitHubProblem("unreachable", `GitHub did not answer: ${secrets.redact(errorMessage(cause))}`, {
      passing: true,
      doubtful: !neverSent(cause),
    })
  }
}

async function readSome(response: Response): Promise<string> {
  const parts: Uint8Array[] = []
  let size = 0
  for await (const part of response.body ?? []) {
    parts.push(part)
    size += part.byteLength
    if (size > answerLimit) break
  }
  return Buffer.concat(parts).toString("utf8")
}

/** How long GitHub wants to be left alone, in ms; null when this is no rate limit. */
function limitedFor({ status, headers, text }: Received): number | null {
  if (status !== 403 && status !== 429) return null
  const after = headers.get("retry-after")
  // "0", or nothing, would be asked again without a pause.
  if (after !== null && /^\d+$/.test(after.trim())) return Math.max(Number(after), 1) * 1000
  const reset = Number(headers.get("x-ratelimit-reset") ?? Number.NaN)
  if (headers.get("x-ratelimit-remaining") === "0" && Number.isFinite(reset))
    return Math.max(reset * 1000 - Date.now(), 0) + 1000
  return status === 429 || /rate limit/i.test(text) ? unsaidLimitMs : null
}

function judged(response: Received, question: Question, options: Options): Answer {
  const { status, headers, text } = response
  if (status === 304 || (status >= 200 && status < 300))
    return { status, text, json: parse(text), etag: headers.get("etag") }
  const said = shorten(options.secrets.redact(messageIn(text)), 300)
  if (status >= 500 || status === 408)
    throw new GitHubProblem(`github_${status}`, `GitHub answered ${status}: ${said}`, {
      passing: true,
      doubtful: question.method === "POST",
    })
  throw new GitHubProblem(`github_${status}`, sentence(status, said, options))
}

function sentence(status: number, said: string, { token, repo }: Options): string {
  if (status === 401)
    return `GitHub does not accept the token of ${token} (${said}): put a valid one into the worker's environment and restart the worker`
  if (status === 403)
    return `the token of ${token} may not do this (${said}): it needs "Actions: read and write" and "Contents: read" for ${repo}, and, where the organisation asks for it, single sign-on`
  if (status === 404)
    return `GitHub does not find it (${said}): is ${repo} spelled right, with its workflow and ref, and may the token of ${token} see it?`
  if (status >= 300 && status < 400)
    return `GitHub says that it is elsewhere (${status}), which is not followed: write the name that ${repo} has now`
  if (/unexpected inputs|required input/i.test(said))
    return `${said}: declare the inputs of the plan, and stepback_id, under on.workflow_dispatch.inputs of the workflow`
  if (/no ref found/i.test(said))
    return `${said}: GitHub starts workflows at a branch or a tag that exists, not at a commit`
  if (/workflow_dispatch/.test(said) && /trigger/.test(said) && !/disabled/.test(said))
    return `${said}: add on.workflow_dispatch to it, on its branch and on the default branch`
  if (/disabled/i.test(said)) return `${said}: enable the workflow in ${repo}, under Actions`
  return `GitHub answered ${status}: ${said}`
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return undefined
  }
}

function messageIn(text: string): string {
  const found = parse(text)
  if (found !== null && typeof found === "object" && "message" in found && typeof found.message === "string")
    return found.message
  return text.trim() === "" ? "no reason given" : text
}
