import { refuse, type Refused } from "../rollback/refusals.ts"
import type { StoredBaseline } from "../store/baselines.ts"
import { mayAct, mayUse, type Actor, type Deps } from "./ports.ts"
import { findPlan } from "./request.ts"

export type BaselineWish = {
  environment: string
  what: "capture" | "diff"
  name: string
  channelId: string
  actor: Actor
}
export type BaselineAsked = { kind: "asked" } | { kind: "repeated" } | { kind: "no_baseline" } | Refused

/** Asks a worker to capture or compare; it answers in the channel. Who may request a rollback may ask for this. */
export async function askForBaseline(wish: BaselineWish, deps: Deps): Promise<BaselineAsked> {
  const found = await findPlan(wish.environment, deps)
  if ("kind" in found) return found
  const { plan } = found
  if (plan.channel !== null && plan.channel !== wish.channelId)
    return refuse("request", { reason: "wrong_channel", channel: plan.channel })
  const [channel, notThem] = await Promise.all([
    mayUse(deps.people, wish.channelId),
    mayAct(deps.people, wish.actor.userId, plan.request),
  ])
  if (notThem) return refuse("request", notThem)
  if (channel) return refuse("request", channel)
  if (plan.baseline === null) return { kind: "no_baseline" }
  const taken = await deps.store.baselines.request({
    id: deps.newId(),
    environment: plan.environment,
    what: wish.what,
    name: wish.name,
    requesterId: wish.actor.userId,
    channelId: wish.channelId,
    requestKey: wish.actor.requestKey,
  })
  return { kind: taken ? "asked" : "repeated" }
}

/** The newest snapshots of an environment, one of each name. */
export async function listBaselines(
  environment: string,
  actor: Actor,
  deps: Deps,
): Promise<StoredBaseline[] | Refused> {
  const notMember = await mayAct(deps.people, actor.userId, "anyone")
  if (notMember) return refuse(null, notMember)
  const found = await findPlan(environment, deps)
  return "kind" in found ? { ...found, verb: null } : deps.store.baselines.list(environment)
}
