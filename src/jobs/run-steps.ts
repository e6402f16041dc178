import { setTimeout as pause } from "node:timers/promises"
import { errorMessage, isPassing, LostLeaseError, takesNoWrites } from "../errors.ts"
import { canonicalJson } from "../plans/frozen.ts"
import { namesOf } from "../plans/names.ts"
import type { PlanComponent, PlanStep } from "../plans/plan.ts"
import type { StepResult, StepRun } from "../rollback/facts.ts"
import { overwritten } from "../rollback/overwritten.ts"
import { endLeftover } from "../steps/command.ts"
import { askAfterFailure } from "../steps/manual.ts"
import { runStep } from "../steps/definitions.ts"
import { failure, stepResult } from "../steps/step.ts"
import { goesToApprovers } from "./conclude.ts"
import { escalate } from "./escalate.ts"
import { mayBeForgotten } from "./fence.ts"
import { hashFilesOf } from "./freeze-run.ts"
import { keysAfter, unusedKeys } from "./keys.ts"
import { contextOf, peopleOf, type RunState } from "./step-context.ts"
import type { WorkDeps } from "./work.ts"

/** Runs a component's steps, one after the other or, when the plan says parallel, as soon as what they need is done. */
export async function runComponent(component: PlanComponent, state: RunState, deps: WorkDeps): Promise<void> {
  const steps = new Map(component.steps.map((step) => [step.id, step]))
  const running = new Map<string, Promise<boolean>>()
  /** Each once; after what it needs, wherever that stands in the list. What it needs and failed, keeps it from running. */
  const begin = (step: PlanStep): Promise<boolean> => {
    const known = running.get(step.id)
    if (known) return known
    const needed = step.needs.flatMap((id) => steps.get(id) ?? []).map(begin)
    const run = Promise.all(needed).then(
      async (held) => held.every(Boolean) && mayBegin(state) && (await settle(step, state, deps)),
    )
    running.set(step.id, run)
    return run
  }
  if (component.parallel) for (const step of component.steps) void begin(step).catch(() => undefined)
  else
    for (const step of component.steps) {
      if (!mayBegin(state)) break
      await begin(step)
    }
  const ended = await Promise.allSettled(running.values())
  const broken = ended.find((result) => result.status === "rejected")
  if (broken) throw broken.reason
  const all = ended.every((result) => result.status === "fulfilled" && result.value)
  if (all && running.size === steps.size) state.heldComponents.add(component.id)
}

function mayBegin(state: RunState): boolean {
  return !state.failed && !state.lease.stopRequested() && !state.closing() && !state.lease.lost()
}

/** Brings one step to its end, as often as people want; true when what follows may rely on it. */
async function settle(step: PlanStep, state: RunState, deps: WorkDeps): Promise<boolean> {
  const before = state.latest.get(step.id)
  const older = before !== undefined && before.generation < state.rollback.generation
  let ended = await bringToEnd(step, older, state, deps)
  while (step.onFailure === "ask" && !isGood(ended) && !state.failed) {
    if ((await whatNow(step, ended, state, deps)) !== "retry") break
    ended = await bringToEnd(step, true, state, deps)
  }
  if (!isGood(ended) && step.onFailure !== "continue") state.failed = true
  return isGood(ended)
}

function isGood({ result }: StepRun): boolean {
  return result?.outcome === "succeeded" || result?.outcome === "skipped"
}

/** Runs a step and records its result. One that has a result keeps it, unless it is to be tried again. */
async function bringToEnd(step: PlanStep, tryAgain: boolean, state: RunState, deps: WorkDeps): Promise<StepRun> {
  const before = state.latest.get(step.id)
  if (before?.result && (isGood(before) || !tryAgain)) return before
  const again = before?.result != null
  const attempt = (before?.attempt ?? 1) + (again ? 1 : 0)
  const started = performance.now()
  const result = await tryPatiently(step, again ? undefined : before, attempt, state, deps)
  if (state.lease.lost()) throw new LostLeaseError(state.rollback.id)
  const timed = result.ms > 0 ? result : { ...result, ms: Math.round(performance.now() - started) }
  const ended = await recordResult(step, attempt, withNews(step, timed, state), state, deps)
  state.keys.set(step.id, keysAfter(state.keys.get(step.id) ?? unusedKeys, timed))
  if (timed.workflowRun !== undefined) state.workflowRuns.set(step.id, timed.workflowRun)
  Object.assign(state.captures, timed.captures)
  return ended
}

/** Says which values somebody had set between the card and the step. */
function withNews(step: PlanStep, result: StepResult, { run, latest }: RunState): StepResult {
  const shown = run.rehearsal.steps.find(({ stepId }) => stepId === step.id)?.changes
  if (step.kind !== "sql" || shown === undefined || result.outcome !== "succeeded") return result
  const earlier = [...latest.values()].flatMap((other) =>
    other.stepId === step.id ? [] : (other.result?.changes ?? []),
  )
  return { ...result, issues: [...result.issues, ...overwritten(shown, result.changes, earlier)] }
}

/** Writes a result down, for good and for the rest of this run. */
export async function recordResult(
  step: PlanStep,
  attempt: number,
  result: StepResult,
  state: RunState,
  deps: WorkDeps,
): Promise<StepRun> {
  await record(step, attempt, result, state, deps)
  const ended: StepRun = {
    stepId: step.id,
    attempt,
    generation: state.rollback.generation,
    result,
    startedAt: "",
    endedAt: null,
    skippedBy: null,
    skipReason: null,
  }
  state.latest.set(step.id, ended)
  return ended
}

/** What a worker had begun outside of any transaction when it died. */
export function interrupted(what = "the worker was interrupted while this ran"): StepResult {
  const message = `${what}; whether it took effect is not known: look, then retry or skip`
  return stepResult({ outcome: "unknown", failure: failure("interrupted", message) })
}

const forgotten = "a part of this run is not in Stepback's database any more, and this may have been done in it"

/**
 * `on_failure: ask`: the people on call hear of it at once, the thread is asked, and the run waits, on whichever worker,
 * for as long as an approval would. Nobody's answer is the end of the run.
 */
async function whatNow(step: PlanStep, ended: StepRun, state: RunState, deps: WorkDeps): Promise<string | null> {
  const { rollback, run, lease } = state
  if (ended.result && goesToApprovers(step, ended.result)) return null
  // The next worker finds the failure and asks.
  if (state.closing() && !state.failed && !lease.stopRequested()) throw new LostLeaseError(rollback.id)
  if (!mayBegin(state)) return null
  await patiently(state, () => escalate(rollback, run, { state: "running", reason: null, trouble: null }, deps))
  const context = contextOf(step, ended.attempt, state, deps)
  const people = peopleOf(step, ended.attempt, state, deps, "failure")
  const { answer, answeredBy, reason } = await askAfterFailure(
    people,
    run.policy.expiresMs,
    context,
    () => state.endsHere,
  )
  if (lease.lost()) throw new LostLeaseError(rollback.id)
  if (answer === "leave") state.endsHere = true
  if (state.endsHere) return null
  if (answer === "skip") state.skips = { ...state.skips, [step.id]: { by: answeredBy ?? "", reason: reason ?? "" } }
  return answer
}

/** What another try a moment later may cure: nothing of these took effect. */
const curable = new Set(["55P03", "40001", "40P01", "53300", "57014", "not_started"])
/** Of a request that had been sent and has an effect, the outcome is unknown, not failed; so it is where an earlier one is in doubt. */
const curableRequest = new Set(["unreachable", "timeout"])
const retryEveryMs = 1_000

/** As often as the plan's `retries` say, for errors that retrying can cure. A worker that ends leaves them to the next one. */
async function tryPatiently(
  step: PlanStep,
  before: StepRun | undefined,
  attempt: number,
  state: RunState,
  deps: WorkDeps,
): Promise<StepResult> {
  let attempts = 0
  for (let tried = 1; ; tried++) {
    const result = await tryStep(step, before, attempt, state, deps)
    attempts += result.attempts
    const code = result.failure?.code ?? ""
    const isCurable = curable.has(code) || (step.kind === "http" && curableRequest.has(code))
    const doubtful = step.effect === "keyed" && (before !== undefined || state.keys.get(step.id)?.doubt === true)
    // Under its first key alone: the next try would begin with that one.
    const isInDoubt = doubtful && result.outcome === "unknown" && (result.keysSpent ?? 0) === 0
    const isOpen = result.outcome === "failed" || isInDoubt
    const again = isOpen && isCurable && tried <= step.retries
    const closing = state.closing()
    // What is blind and has no result would be in doubt for whoever comes.
    if (!again || state.lease.signal.aborted || (closing && step.effect === "blind")) return { ...result, attempts }
    if (closing) throw new LostLeaseError(state.rollback.id)
    await pause(retryEveryMs)
  }
}

/** The state database may be away, or take no writes, for a while: what must be written before an effect is written then. */
async function patiently<T>(state: RunState, work: () => Promise<T>): Promise<T> {
  for (let wait = 50; ; wait = Math.min(wait * 2, 1_000)) {
    try {
      return await work()
    } catch (error) {
      const passes = isPassing(error) || takesNoWrites(error)
      if (!passes || state.lease.lost() || state.closing()) throw error
      await pause(wait)
    }
  }
}

/** The state database may be away for a while; a result that cannot be written yet is kept and written then. */
async function record(
  step: PlanStep,
  attempt: number,
  result: StepResult,
  state: RunState,
  deps: WorkDeps,
): Promise<void> {
  const { stop } = await patiently({ ...state, closing: () => false }, () =>
    deps.store.runs.recordStep(state.rollback.id, state.rollback.epoch, {
      id: step.id,
      attempt,
      result,
      asked: step.kind === "manual",
      long: step.kind === "purge",
    }),
  )
  if (stop) state.lease.sawStop()
  deps.wakeOutbox()
  deps.stepEnded?.(step.kind, result.outcome, result.ms)
  deps.log.info({ step: step.id, attempt, outcome: result.outcome, ms: result.ms }, "step ended")
}

async function tryStep(
  step: PlanStep,
  before: StepRun | undefined,
  attempt: number,
  state: RunState,
  deps: WorkDeps,
): Promise<StepResult> {
  const { rollback } = state
  const skip = state.run.skip[step.id]
  if (skip) return stepResult({ outcome: "skipped", skipped: skip, evidence: [`skipped: ${skip.reason}`] })
  // A step that would have given it failed or was left out: nothing stands in for a value.
  const { values } = contextOf(step, attempt, state, deps)
  const gone = namesOf(step).filter((name) => !(name in values))
  if (gone.length > 0) {
    const names = gone.map((name) => `$${name}`).join(", ")
    return stepResult({
      outcome: "failed",
      failure: failure("no_value", `${names} has no value, since the step that gives it did not: nothing was done`),
    })
  }
  const outside = step.effect === "keyed" || step.effect === "blind"
  // What a person is asked for is kept until it is answered: the next worker goes on waiting.
  const begun = before !== undefined || mayBeForgotten(step, state)
  const inDoubt = begun && outside && step.kind !== "manual"
  try {
    // Nobody times it any more, and a Retry would start a second one beside it.
    if (before && endLeftover(await patiently(state, () => deps.store.runs.findProcess(rollback.id, step.id, attempt))))
      deps.log.warn({ step: step.id }, "a leftover process of an earlier worker was ended")
    if (inDoubt && step.effect === "blind") return before ? interrupted() : interrupted(forgotten)
    if (step.kind === "command") {
      const files = await hashFilesOf(step, state.secrets, values)
      if (canonicalJson(files) !== canonicalJson(state.run.files[step.id] ?? {}))
        return notBegun("changed", "a file that this command runs is not the one that was approved", inDoubt)
    }
    if (outside || step.kind === "command")
      await patiently(state, () => deps.store.runs.recordIntent(rollback.id, rollback.epoch, step.id, attempt))
    await state.lease.stillOurs()
    const over = state.lease.underway(step.id)
    try {
      const result = await runStep(step, { ...contextOf(step, attempt, state, deps), interrupted: begun })
      const isOpen = inDoubt && result.failure?.code === "not_started"
      return isOpen ? { ...result, outcome: "unknown" } : result
    } finally {
      over()
    }
  } catch (error) {
    if (error instanceof LostLeaseError) throw error
    return notBegun("error", state.secrets.redact(errorMessage(error)), inDoubt)
  }
}

/** What keeps this worker from a step says nothing of what an earlier one did: a Retry must not take it for not done. */
function notBegun(code: string, message: string, inDoubt: boolean): StepResult {
  if (inDoubt) return { ...interrupted(), evidence: [message] }
  return stepResult({ outcome: "failed", failure: failure(code, message) })
}
