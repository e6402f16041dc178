import { refuse, type Refused } from "../rollback/refusals.ts"
import { isLive } from "../rollback/states.ts"
import type { StoredRollback } from "../store/rows.ts"
import { mayAct, tidy, type Actor, type Deps } from "./ports.ts"

/** Writes down an issue that somebody met; it goes into the analysis, if there is one. Any full member may. */
export async function note(
  rollback: StoredRollback,
  text: string,
  actor: Actor,
  deps: Deps,
): Promise<{ kind: "noted"; analysed: boolean } | Refused> {
  const clean = tidy(text)
  if (clean === "") return refuse("note", { reason: "missing_text", usage: "/rollback note R-17 what happened" })
  const notAllowed = await mayAct(deps.people, actor.userId, "anyone")
  if (notAllowed) return refuse("note", notAllowed)
  await deps.store.records.note(rollback.id, { userId: actor.userId, text: clean, requestKey: actor.requestKey })
  deps.wakeOutbox()
  return { kind: "noted", analysed: isLive(rollback.state) || (await deps.store.analyses.find(rollback.id)) !== null }
}
