import { ErrorCode, LogLevel, WebClient, type WebAPICallResult, type WebClientOptions } from "@slack/web-api"

/** Answers that a person waits for must come soon or count as none. */
const askTimeoutMs = 2_000
const sendTimeoutMs = 10_000

export type SlackClients = {
  /** Questions at a click: short deadline, no retries. */
  ask: WebClient
  /** Messages of the outbox, which owns the retries. */
  send: WebClient
  /** views.open has 3 s from the click; a 429 elsewhere must not stop it. */
  views: WebClient
}

type Failed = (method: string, code: string) => void

/** Tells of each call that failed: by Slack's own code, or by the kind of silence. */
class CountingClient extends WebClient {
  readonly #failed: Failed

  constructor(token: string, options: WebClientOptions, failed: Failed) {
    super(token, options)
    this.#failed = failed
  }

  override async apiCall(method: string, options?: Record<string, unknown>): Promise<WebAPICallResult> {
    try {
      return await super.apiCall(method, options)
    } catch (error) {
      const limited = (error as { code?: unknown }).code === ErrorCode.RateLimitedError
      this.#failed(method, limited ? "ratelimited" : (slackError(error) ?? "no_answer"))
      throw error
    }
  }
}

export function createClients(token: string, apiUrl: string | null, failed: Failed = () => undefined): SlackClients {
  const create = (timeout: number) => {
    const options: WebClientOptions = {
      timeout,
      retryConfig: { retries: 0 },
      rejectRateLimitedCalls: true,
      // Its own lines are no JSON, and what it warns of is thrown too.
      logLevel: LogLevel.ERROR,
      ...(apiUrl === null ? {} : { slackApiUrl: apiUrl }),
    }
    return new CountingClient(token, options, failed)
  }
  return { ask: create(askTimeoutMs), send: create(sendTimeoutMs), views: create(askTimeoutMs) }
}

/**
 * Slack's own error code, as `not_in_channel`; null when Slack did not answer in its own words. What is no JSON, as the
 * page of a proxy or nothing at all, comes from the client as if it were a code.
 */
export function slackError(error: unknown): string | null {
  if (error === null || typeof error !== "object" || !("data" in error)) return null
  const { data } = error as { data?: { error?: unknown } }
  return typeof data?.error === "string" && /^[\w.:-]+$/.test(data.error) ? data.error : null
}
