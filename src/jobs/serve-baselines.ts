import { StepbackError } from "../errors.ts"
import type { Plan } from "../plans/plan.ts"
import type { BaselineAnswer } from "../rollback/baseline-facts.ts"
import { captureBaseline } from "../steps/baseline.ts"
import { compareBaseline } from "../steps/baseline-compare.ts"
import { createSecrets, type Secrets } from "../steps/secrets.ts"
import { sqlFailure } from "../steps/step.ts"
import type { BaselineRequest, NewBaseline } from "../store/baselines.ts"
import type { Drawn, Sender } from "./deliver.ts"
import { openTarget } from "./open-target.ts"
import type { WorkDeps } from "./work.ts"

export type BaselineDeps = Pick<WorkDeps, "store" | "plans" | "targets" | "environment" | "log"> & {
  sender: Sender
  drawBaseline(answer: BaselineAnswer, request: Pick<BaselineRequest, "environment" | "what" | "requester_id">): Drawn
}

/** Longer than a capture may take; a wish whose worker died is free after this. */
const holdMs = 60_000
/** A wish that ends its workers is answered in the end. */
const mostAttempts = 5
/** What is posted so late in a hold may arrive when the wish is another's. */
const holdMarginMs = 10_000

/** Serves one wish for a baseline: looks, keeps, answers in the channel. False when there is none. */
export async function serveBaseline(deps: BaselineDeps): Promise<boolean> {
  const asked = performance.now()
  const isOurs = () => performance.now() - asked < holdMs - holdMarginMs
  const request = await deps.store.baselines.claimRequest(holdMs)
  if (request === null) return false
  if (request.state === "waiting") {
    const { answer, baseline } = await answerTo(request, deps)
    // Another has answered while this process stood still: with what it saw, and it posts that.
    if (!(await deps.store.baselines.answer(request.id, answer, baseline))) return true
    deps.log.info(
      { environment: request.environment, what: request.what, answer: answer.kind },
      "baseline request answered",
    )
    await post({ ...request, answer, attempts: 0 }, isOurs, deps)
  } else await post(request, isOurs, deps)
  return true
}

async function answerTo(
  request: BaselineRequest,
  deps: BaselineDeps,
): Promise<{ answer: BaselineAnswer; baseline: NewBaseline | null }> {
  if (request.attempts > mostAttempts)
    return {
      answer: { kind: "failed", message: "no worker got to its end: ask again, or look at the worker's log" },
      baseline: null,
    }
  const secrets = createSecrets(deps.environment)
  let redact: readonly string[] = []
  try {
    const plan = (await deps.plans.load()).plans.get(request.environment)?.plan
    if (!plan) throw new StepbackError("refused", "this worker has no valid plan of it")
    redact = plan.redact
    return request.what === "capture"
      ? await capture(plan, request.name, `<@${request.requester_id}>`, secrets, deps)
      : { answer: await compare(plan, request.name, secrets, deps), baseline: null }
  } catch (error) {
    deps.log.warn({ err: error, environment: request.environment }, "baseline request failed")
    // The channel reads it: the words of the database may quote what the plan says is never shown.
    const { message } = sqlFailure(error, "", { secrets, redact })
    return { answer: { kind: "failed", message }, baseline: null }
  }
}

type CaptureDeps = Pick<BaselineDeps, "targets">

/** Throws a StepbackError with the way out when it cannot. Keeps nothing: that is the caller's, with what else it writes. */
export async function capture(plan: Plan, name: string, by: string, secrets: Secrets, { targets }: CaptureDeps) {
  const { rules, pool } = openBaseline(plan, secrets, targets)
  const { snapshot, content, sha256 } = await captureBaseline(pool, {
    environment: plan.environment,
    name,
    rules,
    database: plan.target.expect.database,
  })
  const tables = snapshot.tables.map(({ table, rows }) => ({ table, rows: rows.length }))
  const { capturedAt } = snapshot
  const baseline: NewBaseline = {
    environment: plan.environment,
    name,
    sha256,
    content,
    tables,
    capturedAt,
    capturedBy: by,
  }
  const answer: BaselineAnswer = { kind: "captured", name, capturedAt, sha256, tables }
  return { answer, baseline, snapshot }
}

/** How the target differs from the newest snapshot of that name. */
export async function compare(
  plan: Plan,
  name: string,
  secrets: Secrets,
  { targets, store }: Pick<BaselineDeps, "targets"> & { store: Pick<BaselineDeps["store"], "baselines"> },
): Promise<BaselineAnswer> {
  const { rules, pool } = openBaseline(plan, secrets, targets)
  const kept = await store.baselines.newest(plan.environment, name)
  if (!kept) {
    const as = name === "baseline" ? "" : ` --as ${name}`
    throw new StepbackError(
      "refused",
      `there is no snapshot "${name}" of ${plan.environment} yet: capture it first, with /rollback baseline ${plan.environment} capture${as}`,
    )
  }
  const tables = await compareBaseline(pool, { kept, rules, redact: plan.redact, secrets })
  return { kind: "compared", name, capturedAt: kept.capturedAt, sha256: kept.sha256, tables }
}

function openBaseline(plan: Plan, secrets: Secrets, targets: BaselineDeps["targets"]) {
  if (plan.baseline === null)
    throw new StepbackError(
      "refused",
      `the plan of ${plan.environment} names no baseline: it says which tables are kept`,
    )
  const { pool } = openTarget({ postgres: plan.target.postgres, http: null }, secrets, targets)
  if (!pool) throw new StepbackError("refused", `the plan of ${plan.environment} has no target.postgres`)
  return { rules: plan.baseline, pool }
}

/** Posts the answer once: after an unknown outcome it is looked for before it is posted again. */
async function post(
  request: BaselineRequest,
  isOurs: () => boolean,
  { store, sender, drawBaseline, log }: BaselineDeps,
): Promise<void> {
  const { id, channel_id: channel, answer } = request
  if (answer === null) return
  const key = `baseline/${id}`
  const again = () => store.baselines.postpone(id, Math.min(500 * 2 ** Math.min(request.attempts, 6), 30_000))
  if (request.state === "posting") {
    const known = await sender.find({ channel, threadTs: null, key, since: request.created_at })
    if (known.kind === "unknown") return again()
    if (known.kind === "found") return store.baselines.markPosted(id, "posted")
  }
  if (!(await store.baselines.markPosting(id, request.attempts)) || !isOurs()) return
  const drawn = drawBaseline(answer, request)
  let sent = await sender.post({ channel, threadTs: null, key, drawn })
  if (sent.kind === "refused" && !sent.hopeless)
    sent = await sender.post({ channel, threadTs: null, key, drawn: { text: drawn.text } })
  if (sent.kind === "sent") return store.baselines.markPosted(id, "posted")
  if (sent.kind === "limited") return store.baselines.postpone(id, sent.waitMs)
  log.warn({ slackError: sent.error }, "Slack did not take the answer about a baseline")
  return sent.kind === "refused" ? store.baselines.markPosted(id, "refused") : again()
}
