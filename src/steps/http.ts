import { createHash } from "node:crypto"
import { setTimeout as pause } from "node:timers/promises"
import { errorMessage, neverSent } from "../errors.ts"
import type { HttpStep } from "../plans/plan.ts"
import { fill, fillDeep, isAboutAll, patternOf } from "../plans/values.ts"
import { tookEffect } from "../rollback/effect.ts"
import type { StepResult } from "../rollback/facts.ts"
import { mismatch, parseExactly, pointer, textOf } from "./expect.ts"
import { shorten } from "./shown.ts"
import { elapsed, failure, rehearsed, stepResult, tooSlowToLook, type StepContext, type StepType } from "./step.ts"

/** A request to the plan's own target, and what it should answer. */
export const httpStep: StepType<HttpStep> = {
  async rehearse(step, context) {
    if (step.effect !== "none")
      return rehearsed(step.id, { outcome: "not_tried", note: `${step.method} ${step.path} has an effect` })
    const hasty = { ...step, attempts: 1, timeoutMs: Math.min(step.timeoutMs, probeTimeoutMs) }
    const probe = context.patient === true ? step : hasty
    const result = await attemptAll(probe, context, null)
    if (result.failure?.code === "timeout" && probe.timeoutMs < step.timeoutMs)
      return rehearsed(step.id, { outcome: "unknown", note: tooSlowToLook(step, probe), ms: result.ms })
    return rehearsed(step.id, {
      holds: result.outcome === "succeeded",
      note: result.failure?.message ?? result.evidence[0] ?? null,
      ms: result.ms,
    })
  },

  run(step, context) {
    // Reused after an unknown outcome only: a conforming server replays what it answered, a 500 too.
    const first = context.keyNumber ?? context.attempt
    const keyOf = (spent: number) => idempotencyKey(context.rollbackId, step.id, first + spent)
    const keyed = { keyOf, inDoubt: context.inDoubt === true || context.interrupted === true }
    return attemptAll(step, context, step.effect === "keyed" ? keyed : null, context.stillOurs)
  },
}

/** A probe of the rehearsal does not keep people waiting. */
const probeTimeoutMs = 5_000
/** What is read of an answer; the rest is dropped. */
const bodyLimit = 256 * 1024
const tooLong = `the answer is longer than the ${bodyLimit / 1024} KB that are read`

function idempotencyKey(rollbackId: string, stepId: string, number: number): string {
  return createHash("sha256").update(`${rollbackId} ${stepId} ${number}`).digest("hex").slice(0, 32)
}

/** `cut`: there was more of it than is read. */
type Answer = { status: number; body: string; cut: boolean; ms: number }

/**
 * `keyOf`: the key after so many that were answered for good. `inDoubt`: it may be done already, under the first of them.
 * `stillOurs`: asked before what is sent again.
 */
async function attemptAll(
  step: HttpStep,
  context: StepContext,
  keyed: { keyOf(spent: number): string; inDoubt: boolean } | null,
  stillOurs = () => Promise.resolve(),
): Promise<StepResult> {
  const started = performance.now()
  let last: StepResult = stepResult({ outcome: "failed", failure: failure("not_tried", "no attempt was made") })
  // A blind request that may be done is never repeated; a keyed one in doubt is, under the same key.
  let spent = 0
  let doubt = keyed?.inDoubt === true
  let touched = false
  for (let attempt = 1; attempt <= step.attempts; attempt++) {
    if (attempt > 1) await pause(step.everyMs, undefined, { signal: context.signal }).catch(() => undefined)
    if (context.signal.aborted && attempt > 1) break
    if (attempt > 1) await stillOurs()
    // What never came to be done has no stored answer: under another key it could be done beside this one.
    if (attempt > 1 && last.outcome === "failed" && !saysNothing.has(last.failure?.code ?? "")) spent++
    touched ||= last.outcome === "failed" && tookEffect(step, last)
    last = { ...(await attemptOnce(step, context, keyed?.keyOf(spent) ?? null)), attempts: attempt }
    // These say nothing of an earlier try whose answer was lost: it may still be at work.
    if (doubt && saysNothing.has(last.failure?.code ?? "")) last = { ...last, outcome: "unknown" }
    doubt = last.outcome === "unknown"
    // Blind: what is done, or may be, would be done twice.
    if (last.outcome === "succeeded" || (step.effect === "blind" && tookEffect(step, last))) break
  }
  const all = elapsed(started)
  const effort = last.attempts === 1 ? [] : [`${last.attempts} attempts in ${(all / 1000).toFixed(1)} s`]
  const spending = keyed !== null && spent > 0 ? { keysSpent: spent } : {}
  const before = touched && last.outcome === "failed" ? ({ earlierEffect: true } as const) : {}
  return { ...last, evidence: [...last.evidence, ...effort], ms: all, ...spending, ...before }
}

/** Not sent, or refused before it was looked at: the connection, or by a server that is busy, with the first try perhaps. */
const saysNothing = new Set(["not_sent", "unreachable", "http_409", "http_425", "http_429", "http_503"])
/** Answers of those that stand between, or of a server that gave up waiting: what became of the request is not known. */
const inDoubt = [408, 502, 504]

async function attemptOnce(step: HttpStep, context: StepContext, key: string | null): Promise<StepResult> {
  let answer: Answer
  let request: Prepared
  try {
    request = prepare(step, context, key)
  } catch (error) {
    // Nothing was sent, so nothing is unknown.
    const message = `${step.method} ${step.path}: ${errorMessage(error)}`
    return stepResult({ outcome: "failed", failure: failure("not_sent", context.secrets.redact(message)) })
  }
  try {
    answer = await send(step, request, context.signal)
  } catch (error) {
    const timedOut = error instanceof Error && error.name === "TimeoutError"
    const stopped = !timedOut && step.effect === "none" && context.signal.aborted
    const message = timedOut
      ? `no answer in ${step.timeoutMs / 1000} s`
      : stopped
        ? "stopped while it waited for the answer"
        : errorMessage(causeOf(error))
    const outcome = step.effect === "none" || neverSent(causeOf(error)) ? "failed" : "unknown"
    const code = timedOut ? "timeout" : stopped ? "stopped" : "unreachable"
    return stepResult({
      outcome,
      failure: failure(code, context.secrets.redact(`${step.method} ${step.path}: ${message}`)),
    })
  }
  return judge(step, context, answer)
}

/** What `fetch` wraps. */
function causeOf(error: unknown): unknown {
  return error instanceof Error && error.cause !== undefined ? error.cause : error
}

type Prepared = { url: URL; headers: Headers; body: string | null }

function prepare(step: HttpStep, context: StepContext, key: string | null): Prepared {
  const base = context.target.httpBase
  if (!base) throw new Error("the plan's target has no http address")
  const path = fill(step.path, context.values)
  if (climbs(path)) throw new Error('a value leads to another path: "." and ".." are not sent in one')
  const url = new URL(base.pathname.replace(/\/$/, "") + path, base)
  if (url.origin !== base.origin) throw new Error("requests go to the plan's own target only")
  const headers = new Headers(
    Object.entries(step.headers).map(
      ([name, value]) => [name, context.secrets.resolve(value, context.values)] as [string, string],
    ),
  )
  if (key !== null) headers.set("idempotency-key", key)
  const body =
    step.json === undefined || step.json === null
      ? step.body && fill(step.body, context.values)
      : JSON.stringify(fillDeep(step.json, context.values, step.types))
  if (body !== null && !headers.has("content-type")) headers.set("content-type", "application/json")
  return { url, headers, body }
}

/** Whether addresses resolve it to another path, by the rules of URLs: a value from outside could name any endpoint. */
function climbs(path: string): boolean {
  const [before = ""] = path.replaceAll(/[\t\n\r]/g, "").split(/[?#]/, 1)
  return before.split(/[/\\]/).some((segment) => /^(\.|%2e){1,2}$/i.test(segment))
}

async function send(step: HttpStep, { url, headers, body }: Prepared, stop: AbortSignal): Promise<Answer> {
  const started = performance.now()
  const late = AbortSignal.timeout(step.timeoutMs)
  const response = await fetch(url, {
    method: step.method,
    headers,
    body,
    // A redirect could lead anywhere.
    redirect: "manual",
    // What has an effect would be in doubt; what only asks keeps nobody waiting.
    signal: step.effect === "none" ? AbortSignal.any([late, stop]) : late,
  })
  const read = await readSome(response)
  return { status: response.status, ...read, ms: elapsed(started) }
}

async function readSome(response: Response): Promise<Pick<Answer, "body" | "cut">> {
  const parts: Uint8Array[] = []
  let size = 0
  for await (const part of response.body ?? []) {
    parts.push(part)
    size += part.byteLength
    if (size > bodyLimit) break
  }
  return { body: Buffer.concat(parts).subarray(0, bodyLimit).toString("utf8"), cut: size > bodyLimit }
}

function judge(step: HttpStep, context: StepContext, answer: Answer): StepResult {
  const { expect } = step
  const wrong: string[] = []
  const statusHolds =
    expect.status === null ? answer.status >= 200 && answer.status < 300 : expect.status.includes(answer.status)
  if (!statusHolds) wrong.push(`answered ${answer.status}, expected ${expect.status?.join(" or ") ?? "2xx"}`)
  if (expect.underMs !== null && answer.ms > expect.underMs)
    wrong.push(`took ${answer.ms} ms, expected under ${expect.underMs} ms`)
  const document = parse(answer.body)
  const unread = document === undefined && (Object.keys(expect.json).length > 0 || Object.keys(step.capture).length > 0)
  if (unread && statusHolds) wrong.push(answer.cut ? tooLong : "the answer is not JSON")
  for (const [path, expected] of Object.entries(expect.json)) {
    const complaint = mismatch(
      path || "the answer",
      pointer(document, path),
      expected,
      context.values,
      context.secrets.redact,
    )
    if (complaint && statusHolds) wrong.push(complaint)
  }
  if (expect.matches !== null && !patternOf(expect.matches, context.values).test(answer.body))
    wrong.push(`the answer does not match /${expect.matches}/`)
  else if (expect.matches !== null && answer.cut && isAboutAll(expect.matches))
    wrong.push(`${tooLong}, so whether all of it matches /${expect.matches}/ is not known`)
  const captures: Record<string, string> = {}
  for (const [name, path] of Object.entries(step.capture)) {
    const value = pointer(document, path)
    // A later step would be given the word "null".
    if (value === undefined || value === null) wrong.push(`there is no ${path} to capture`)
    else captures[name] = textOf(value)
  }
  // Cut last: half of a secret would not be found.
  const body = shorten(context.secrets.redact(answer.body), 300)
  return stepResult({
    outcome:
      wrong.length === 0
        ? "succeeded"
        : !statusHolds && step.effect !== "none" && inDoubt.includes(answer.status)
          ? "unknown"
          : "failed",
    captures,
    evidence: [`${answer.status} in ${answer.ms} ms`, ...(wrong.length > 0 && body !== "" ? [body] : [])],
    failure:
      wrong.length === 0
        ? null
        : failure(statusHolds ? "expectation" : `http_${answer.status}`, context.secrets.redact(wrong.join("; "))),
  })
}

function parse(body: string): unknown {
  try {
    // Some servers begin with a mark of the byte order.
    return parseExactly(body.replace(/^\uFEFF/, ""))
  } catch {
    return undefined
  }
}
