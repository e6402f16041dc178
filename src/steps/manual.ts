import { setTimeout as pause } from "node:timers/promises"
import { isPassing, LostLeaseError, takesNoWrites } from "../errors.ts"
import type { ManualStep } from "../plans/plan.ts"
import { fill } from "../plans/values.ts"
import type { Confirmation, StepResult } from "../rollback/facts.ts"
import { shorten } from "./shown.ts"
import { failure, rehearsed, stepResult, type People, type RunContext, type StepType } from "./step.ts"

/** Asks a person in the rollback's thread to do something and to say whether it is done. */
export const manualStep: StepType<ManualStep> = {
  rehearse(step, context) {
    return Promise.resolve(
      rehearsed(step.id, { outcome: "not_tried", note: shorten(fill(step.instruction, context.values)) }),
    )
  },

  async run(step, context) {
    const { people } = context
    if (!people) throw new Error("there is nobody here to ask")
    const instruction = context.secrets.redact(fill(step.instruction, context.values))
    const asked = await patiently(context, () => people.ask(instruction, step.timeoutMs))
    const answered = await answerTo(asked, people, context, context.endsHere)
    return resultOf(answered)
  },
}

/** Asks what is to become of a step that failed, and waits like a step by hand does, or until it does not matter any more. */
export async function askAfterFailure(
  people: People,
  timeoutMs: number,
  context: RunContext,
  isOver: () => boolean,
): Promise<Confirmation> {
  return answerTo(await patiently(context, () => people.ask("", timeoutMs)), people, context, isOver)
}

/** An answer is seen this soon; nobody presses faster. */
const lookEveryMs = 400

/** Waits as long as it takes. The wait is in the state database: leaving it to another worker loses nothing. */
async function answerTo(
  asked: Confirmation,
  people: People,
  context: RunContext,
  isOver = () => false,
): Promise<Confirmation> {
  let now = asked
  while (now.answer === null) {
    if (isOver()) return patiently(context, () => people.close(asked.id, "stopped"))
    if (context.signal.aborted) {
      // The signal tells of a lost lease too: then another worker waits on.
      await context.checkpoint()
      return patiently(context, () => people.close(asked.id, "stopped"))
    }
    if (now.expired) return patiently(context, () => people.close(asked.id, "timed_out"))
    if (context.closing?.() === true) throw new LostLeaseError(context.rollbackId)
    await pause(lookEveryMs, undefined, { signal: context.signal }).catch(() => undefined)
    now = (await patiently(context, () => people.look(asked.id))) ?? now
  }
  return now
}

/** The state database may be away, or take no writes, for a while. */
async function patiently<T>(context: RunContext, work: () => Promise<T>): Promise<T> {
  for (let wait = 100; ; wait = Math.min(wait * 2, 2_000)) {
    try {
      return await work()
    } catch (error) {
      if (!isPassing(error) && !takesNoWrites(error)) throw error
      if (context.closing?.() === true) throw new LostLeaseError(context.rollbackId)
      await context.checkpoint()
      await pause(wait)
    }
  }
}

function resultOf(answered: Confirmation): StepResult {
  const { answer, answeredBy, answeredAt, askedAt } = answered
  const at = (answeredAt ?? "").slice(11, 19)
  // A step of no time at all is timed by the worker, which did not see all of the wait.
  const ms = Math.max(1, Date.parse(answeredAt ?? askedAt) - Date.parse(askedAt))
  const by = answeredBy === null ? {} : { confirmedBy: answeredBy }
  if (answer === "done")
    return stepResult({ ms, ...by, evidence: [`done, confirmed by ${answeredBy ?? "somebody"} at ${at} UTC`] })
  const why = {
    not_done: failure("not_done", "a person says that it is not done: do it, then Retry, or Skip it"),
    timed_out: failure("timed_out", "nobody said in time whether it is done: do it, then Retry, or Skip it"),
  }
  const evidence = answer === "not_done" ? [`not done, says ${answeredBy ?? "somebody"} at ${at} UTC`] : []
  return stepResult({
    outcome: "failed",
    ms,
    ...by,
    evidence,
    failure:
      answer === "not_done" || answer === "timed_out"
        ? why[answer]
        : failure("stopped", "stopped while it waited for a person"),
  })
}
