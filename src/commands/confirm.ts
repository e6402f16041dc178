import { refuse, type Refused } from "../rollback/refusals.ts"
import type { Confirmation, FailureAnswer } from "../rollback/facts.ts"
import type { StoredRollback } from "../store/rows.ts"
import { mayEnd } from "./cancel.ts"
import { mayAct, mayRequest, tidy, type Actor, type Deps } from "./ports.ts"
import { readRun } from "./view.ts"

export type Confirmed = { kind: "confirmed" } | { kind: "late"; answer: Confirmation["answer"] }

/** What is to become of a step that failed and asks. Retry is one person's; Skip goes to the approvers again. */
export async function decideFailure(
  confirmationId: string,
  decided: { answer: FailureAnswer; reason?: string },
  actor: Actor,
  deps: Deps,
): Promise<Confirmed | Refused> {
  const { answer } = decided
  const verb = answer === "leave" ? "stop" : answer
  const may = await mayDecideFailure(confirmationId, answer, actor, deps)
  if (may.kind === "refuse") return may
  const reason = answer === "skip" ? tidy(decided.reason ?? "") : null
  if (reason === "") return refuse(verb, { reason: "missing_reason" })
  const counted = await deps.store.confirmations.answer(confirmationId, actor.userId, answer, reason)
  if (!counted) return { kind: "late", answer: (await deps.store.confirmations.find(confirmationId))?.answer ?? null }
  deps.ring("run", may.asked.rollbackId)
  deps.wakeOutbox()
  return { kind: "confirmed" }
}

/** Asked when the button is pressed and once more when its form comes back. */
export async function mayDecideFailure(
  confirmationId: string,
  answer: FailureAnswer,
  actor: Actor,
  deps: Deps,
): Promise<{ kind: "may"; asked: Confirmation; rollback: StoredRollback } | Refused> {
  const asked = await deps.store.confirmations.find(confirmationId)
  const rollback = asked?.kind === "failure" ? await deps.store.rollbacks.find(asked.rollbackId) : null
  const run = rollback === null ? null : readRun(rollback)
  if (!asked || !rollback || !run) return refuse(null, { reason: "old_card", number: null })
  if (answer === "leave") return (await mayEnd("stop", rollback, actor, deps)) ?? { kind: "may", asked, rollback }
  const notAllowed = await mayRequest(deps.people, actor.userId, run)
  return notAllowed ? refuse(answer, notAllowed) : { kind: "may", asked, rollback }
}

/** Whether something was done by hand. Any full member may say so; the first counts. */
export async function confirm(
  confirmationId: string,
  answer: "done" | "not_done",
  actor: Actor,
  deps: Deps,
): Promise<Confirmed | Refused> {
  const asked = await deps.store.confirmations.find(confirmationId)
  if (!asked) return refuse(null, { reason: "old_card", number: null })
  const notAllowed = await mayAct(deps.people, actor.userId, "anyone")
  if (notAllowed) return refuse("confirm", notAllowed)
  const counted = await deps.store.confirmations.answer(asked.id, actor.userId, answer)
  if (!counted) return { kind: "late", answer: (await deps.store.confirmations.find(asked.id))?.answer ?? null }
  deps.ring("run", asked.rollbackId)
  deps.wakeOutbox()
  return { kind: "confirmed" }
}
