import { refuse, type Refused } from "../rollback/refusals.ts"
import { mayAct, type Actor, type Deps } from "./ports.ts"

/** Why there is nothing to take on: it is theirs or another's already, it is over, or its step failed again since. */
export type Taken = "yours" | "others" | "over" | "followed"

/** "I'm on it": recorded with its time; the telling ends. Any full member may. */
export async function acknowledge(
  escalationId: string,
  actor: Actor,
  deps: Deps,
): Promise<{ kind: "acknowledged"; taken: Taken | null } | Refused> {
  const escalation = await deps.store.records.findEscalation(escalationId)
  if (!escalation) return refuse("acknowledge", { reason: "old_card", number: null })
  const notAllowed = await mayAct(deps.people, actor.userId, "anyone")
  if (notAllowed) return refuse("acknowledge", notAllowed)
  const first = await deps.store.records.acknowledge(escalationId, actor.userId)
  deps.wakeOutbox()
  return { kind: "acknowledged", taken: first ? null : await takenBy(escalationId, actor, deps) }
}

async function takenBy(escalationId: string, actor: Actor, { store }: Deps): Promise<Taken> {
  const now = await store.records.findEscalation(escalationId)
  if (now?.followed === true) return "followed"
  if (now?.acknowledgedBy != null) return now.acknowledgedBy === actor.userId ? "yours" : "others"
  return "over"
}
