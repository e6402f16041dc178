import { refuse, type Refused } from "../rollback/refusals.ts"
import { mayAct, mayUse, tidy, type Actor, type Deps } from "./ports.ts"
import { findPlan } from "./request.ts"

/** Writes down what somebody did by hand, so that it gets its number and its analysis. Any full member may. */
export async function record(
  done: { environment: string; text: string; channelId: string; actor: Actor },
  deps: Deps,
): Promise<{ kind: "recorded" } | Refused> {
  const text = tidy(done.text)
  if (text === "")
    return refuse(null, { reason: "missing_text", usage: "/rollback record <environment> what was done" })
  const found = await findPlan(done.environment, deps)
  if ("kind" in found) return { ...found, verb: null }
  const [notMember, channel] = await Promise.all([
    mayAct(deps.people, done.actor.userId, "anyone"),
    mayUse(deps.people, done.channelId),
  ])
  if (notMember) return refuse(null, notMember)
  if (channel) return refuse(null, channel)
  await deps.store.byHand.record({
    id: deps.newId(),
    environment: found.plan.environment,
    title: found.plan.title,
    requesterId: done.actor.userId,
    teamId: done.actor.teamId,
    channelId: done.channelId,
    requestKey: done.actor.requestKey,
    text,
    remindMs: found.plan.analysis.remindMs,
  })
  deps.wakeOutbox()
  return { kind: "recorded" }
}
