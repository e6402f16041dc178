import { refuse, type Refused } from "../rollback/refusals.ts"
import { mayAct, type Actor, type Deps } from "./ports.ts"

/** "I'm on it": recorded with its time; the telling ends. Any full member may. */
export async function acknowledge(
  escalationId: string,
  actor: Actor,
  deps: Deps,
): Promise<{ kind: "acknowledged"; first: boolean } | Refused> {
  const escalation = await deps.store.records.findEscalation(escalationId)
  if (!escalation) return refuse("acknowledge", { reason: "old_card", number: null })
  const notAllowed = await mayAct(deps.people, actor.userId, "anyone")
  if (notAllowed) return refuse("acknowledge", notAllowed)
  const first = await deps.store.records.acknowledge(escalationId, actor.userId)
  deps.wakeOutbox()
  return { kind: "acknowledged", first }
}
