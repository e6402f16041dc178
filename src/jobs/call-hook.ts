import { createHmac } from "node:crypto"
import { errorMessage } from "../errors.ts"
import { deliveryId, hookUrlProblem, pagerDutyBody, webhookBody, type CalledFor, type Hook } from "../rollback/hook.ts"
import { createSecrets, type Secrets } from "../steps/secrets.ts"
import type { DueCall, HookEnd } from "../store/hooks.ts"
import type { StoredRollback } from "../store/rows.ts"
import type { WorkDeps } from "./work.ts"

/** A worker that takes a call has it for this long: more than a request may take. */
const holdMs = 30_000
const timeoutMs = 10_000
/** What waits longer than this tells nobody anything any more. */
const keptMs = 24 * 3_600_000
/** After so many attempts the thread hears that the pager has not answered yet. */
const toldAtAttempt = 5
const pagerDuty = "https://events.pagerduty.com"
/** Saying the same again would be refused again. */
const forGood = new Set([400, 410, 413, 422])

type Deps = Pick<WorkDeps, "store" | "environment" | "log" | "wakeOutbox">

/** Makes one call to a pager that is due, whatever Slack does; false when none is. */
export async function callHookOnce(deps: Deps, limits = { timeoutMs }): Promise<boolean> {
  const call = await deps.store.hooks.take(holdMs)
  if (!call) return false
  const taken = performance.now()
  const log = deps.log.child({ rollbackId: call.escalation.rollbackId, event: call.event.kind, attempt: call.attempts })
  const rollback = await deps.store.rollbacks.get(call.escalation.rollbackId)
  const secrets = createSecrets(deps.environment)
  const answer = await ask(call, calledFor(rollback), secrets, () => performance.now() - taken, limits.timeoutMs)
  const end = endOf(call, answer)
  await deps.store.hooks.settle(call, end)
  if (end.kind === "taken") log.info("pager called")
  else {
    log.warn({ problem: end.problem }, end.kind === "refused" ? "call given up" : "pager did not take a call")
    if (end.tell !== null) deps.wakeOutbox()
  }
  return true
}

function calledFor(rollback: StoredRollback): CalledFor {
  const { id, number, kind, environment, title, permalink } = rollback
  return { id, number, kind, environment, title, permalink, left: rollback.left_at !== null }
}

type Answer = { status: number; problem: string; waitMs: number | null } | { status: null; problem: string }

async function ask(
  call: DueCall,
  rollback: CalledFor,
  secrets: Secrets,
  sinceTaken: () => number,
  patienceMs: number,
): Promise<Answer> {
  try {
    const { url, headers, body } = prepare(call, rollback, secrets)
    // A process that stood still meanwhile would speak after the one that went on: out of order.
    if (sinceTaken() > holdMs - patienceMs) return { status: null, problem: "taken too long ago" }
    const response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json", "user-agent": "Stepback", ...headers },
      body,
      // A redirect could lead anywhere.
      redirect: "manual",
      signal: AbortSignal.timeout(patienceMs),
    })
    const said = response.ok ? "" : await complaint(call.hook, response, secrets)
    await response.body?.cancel().catch(() => undefined)
    return {
      status: response.status,
      problem: secrets.redact(`answered ${response.status}${said}`),
      waitMs: retryAfterMs(response),
    }
  } catch (error) {
    const late = error instanceof Error && error.name === "TimeoutError"
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error
    return { status: null, problem: secrets.redact(late ? `no answer in ${patienceMs / 1000} s` : errorMessage(cause)) }
  }
}

type Request = { url: string; headers: Record<string, string>; body: string }

function prepare(call: DueCall, rollback: CalledFor, secrets: Secrets): Request {
  const { hook, event, escalation } = call
  const called = { event, escalation, rollback }
  const url = hookUrl(hook, secrets)
  if (hook.kind === "pagerduty")
    return { url, headers: {}, body: JSON.stringify(pagerDutyBody(called, secrets.resolve(hook.key).trim())) }
  const body = JSON.stringify(webhookBody(called))
  const delivery = deliveryId(called)
  return {
    url,
    headers: {
      "stepback-signature": signature(secrets.resolve(hook.secret).trim(), Math.floor(Date.now() / 1000), body),
      "stepback-delivery": delivery,
      "idempotency-key": delivery,
    },
    body,
  }
}

/** `t=<unix>,v1=<hex hmac-sha256 of "<t>.<body>">`: the time is signed too, so that an old request is known as old. */
function signature(secret: string, unix: number, body: string): string {
  return `t=${unix},v1=${createHmac("sha256", secret).update(`${unix}.${body}`).digest("hex")}`
}

/** The address as it is called; throws, without saying it, when it is none. */
export function hookUrl(hook: Hook, secrets: Secrets): string {
  const address = hook.url === null ? pagerDuty : secrets.resolve(hook.url).trim()
  const problem = hookUrlProblem(address, hook.kind)
  if (problem !== null) throw new Error(`escalate.hook.url: ${problem}`)
  if (hook.kind === "webhook") return address
  const url = new URL(address)
  url.pathname = `${url.pathname.replace(/(\/v2\/enqueue)?\/*$/, "")}/v2/enqueue`
  return url.href
}

/** PagerDuty says what is wrong with an event; what any other server says is shown to nobody. */
async function complaint(hook: Hook, response: Response, secrets: Secrets): Promise<string> {
  if (hook.kind !== "pagerduty") return ""
  try {
    const { message, errors } = JSON.parse(await readSome(response)) as {
      message?: unknown
      errors?: unknown
    }
    const lines = [message, ...(Array.isArray(errors) ? (errors as unknown[]) : [])].filter(
      (line) => typeof line === "string",
    )
    // Cut last: half of a key would not be found.
    return lines.length === 0 ? "" : `: ${secrets.redact(lines.join("; ")).slice(0, 300)}`
  } catch {
    return ""
  }
}

const answerLimit = 16 * 1024

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

function retryAfterMs(response: Response): number | null {
  const seconds = Number(response.headers.get("retry-after") ?? Number.NaN)
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 1), 300) * 1_000 : null
}

function endOf({ hook, event, attempts, ageMs }: DueCall, answer: Answer): HookEnd {
  if (answer.status !== null && answer.status >= 200 && answer.status < 300) return { kind: "taken" }
  const who = hook.kind === "pagerduty" ? "PagerDuty" : "the webhook"
  const { problem } = answer
  if ((answer.status !== null && forGood.has(answer.status)) || ageMs > keptMs)
    return { kind: "refused", problem, tell: `The call beside Slack did not go out (${event.kind}): ${who} ${problem}` }
  const tell =
    attempts === toldAtAttempt
      ? `The call beside Slack has not gone out yet (${event.kind}): ${who} ${problem}. It is tried on.`
      : null
  const backoffMs = Math.min(1_000 * 2 ** (attempts - 1), 60_000) * (0.8 + Math.random() * 0.4)
  return {
    kind: "failed",
    problem,
    tell,
    waitMs: "waitMs" in answer && answer.waitMs !== null ? answer.waitMs : backoffMs,
  }
}
