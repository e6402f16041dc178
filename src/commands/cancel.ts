import { refuse, type Refused } from "../rollback/refusals.ts"
import type { StoredRollback } from "../store/rows.ts"
import { mayAct, type Actor, type Deps } from "./ports.ts"
import { findPlan } from "./request.ts"
import { readRun } from "./view.ts"

/** The requester, or who may approve, may cancel and stop, and leave as it is what broke off. */
export async function mayEnd(
  verb: "cancel" | "stop" | "leave",
  rollback: StoredRollback,
  actor: Actor,
  deps: Deps,
): Promise<Refused | null> {
  const own = rollback.requester_id === actor.userId
  const notAllowed = await mayAct(deps.people, actor.userId, own ? "anyone" : await approvers(rollback, deps))
  return notAllowed ? refuse(verb, notAllowed) : null
}

async function approvers(rollback: StoredRollback, deps: Deps): Promise<"anyone" | string[]> {
  const run = readRun(rollback)
  if (run) return run.policy.from
  // Nothing is frozen yet: whoever may approve the least risky is enough to call it off.
  const found = await findPlan(rollback.environment, deps)
  return "kind" in found ? [] : found.plan.approve.low.from
}

export async function cancel(
  rollback: StoredRollback,
  actor: Actor,
  deps: Deps,
): Promise<{ kind: "cancelled" } | Refused> {
  if (rollback.state === "approved" || rollback.state === "running")
    return refuse("cancel", { reason: "not_in_state", number: rollback.number, state: rollback.state, can: "stop" })
  const refused = await mayEnd("cancel", rollback, actor, deps)
  if (refused) return refused
  const moved = await deps.store.rollbacks.move(rollback.id, "cancelled", { actor: actor.userId })
  if (moved.kind === "not_moved") {
    const now = moved.rollback ?? rollback
    return refuse("cancel", {
      reason: "already_decided",
      state: now.state,
      by: now.ended_by,
      at: now.ended_at ?? now.approved_at,
      number: now.number,
    })
  }
  deps.wakeOutbox()
  return { kind: "cancelled" }
}

/** Asks the run to stop before its next step; a step on its way is finished or ended, never half counted. */
export async function stop(
  rollback: StoredRollback,
  actor: Actor,
  deps: Deps,
): Promise<{ kind: "stopping" } | Refused> {
  if (rollback.state === "preparing" || rollback.state === "awaiting_approval")
    return refuse("stop", { reason: "not_in_state", number: rollback.number, state: rollback.state, can: "cancel" })
  const refused = await mayEnd("stop", rollback, actor, deps)
  if (refused) return refused
  const moved = await deps.store.rollbacks.requestStop(rollback.id, actor.userId, actor.requestKey)
  if (moved.kind === "not_moved") {
    const now = moved.rollback ?? rollback
    if (now.stop_requested_at !== null && (now.state === "running" || now.state === "approved"))
      return { kind: "stopping" }
    return refuse("stop", {
      reason: "already_decided",
      state: now.state,
      by: now.ended_by,
      at: now.ended_at,
      number: now.number,
    })
  }
  deps.ring("run", rollback.id)
  deps.wakeOutbox()
  return { kind: "stopping" }
}

/** A run that broke off stays as it is: recorded with name and time, told in the thread; only Undo is left. */
export async function leave(rollback: StoredRollback, actor: Actor, deps: Deps): Promise<{ kind: "left" } | Refused> {
  const refused = await mayEnd("leave", rollback, actor, deps)
  if (refused) return refused
  const moved = await deps.store.rollbacks.leave(rollback.id, actor.userId)
  if (moved.kind === "not_moved") {
    const { number, state, left_by: by, left_at: at } = moved.rollback ?? rollback
    if (by !== null && at !== null) return refuse("leave", { reason: "left", number, by, at })
    return refuse("leave", { reason: "not_in_state", number, state, can: "status" })
  }
  deps.wakeOutbox()
  return { kind: "left" }
}
