import { refuse, type Refused } from "../rollback/refusals.ts"
import type { Confirmation } from "../rollback/facts.ts"
import { mayAct, type Actor, type Deps } from "./ports.ts"

export type Confirmed = { kind: "confirmed" } | { kind: "late"; answer: Confirmation["answer"] }

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
