import { planFingerprint, whatMoved } from "../plans/moved.ts"
import { refuse, type Refusal, type Refused } from "../rollback/refusals.ts"
import type { StoredRollback } from "../store/rows.ts"
import { askersOf, mayAct, type Actor, type Deps } from "./ports.ts"
import { readRun } from "./view.ts"

export type ApproveOutcome =
  | { kind: "approved"; rollback: StoredRollback }
  | { kind: "counted"; rollback: StoredRollback; have: number; needed: number }
  | Refused

/** A press of Approve on a card. Everything is checked now; the decision itself is one transaction. */
export async function approve(click: { token: string; actor: Actor }, deps: Deps): Promise<ApproveOutcome> {
  const card = await deps.store.rollbacks.findCard(click.token)
  if (!card) return refuse("approve", { reason: "old_card", number: null })
  const { rollback } = card
  const closed = notOpen(rollback, card.current)
  if (closed) return (await alreadyTheirs(click.actor, rollback, deps)) ?? closed
  const { userId, teamId } = click.actor
  if (askersOf(rollback).includes(userId)) return refuse("approve", { reason: "requester_cannot_approve" })
  const run = readRun(rollback)
  if (!run) return refuse("approve", { reason: "not_ready" })
  const [notAllowed, moved, left] = await Promise.all([
    mayAct(deps.people, userId, run.policy.from),
    sinceShown(rollback, deps),
    thoseWhoLeft(rollback, run.policy.from, deps),
  ])
  if (notAllowed) return refuse("approve", notAllowed)
  if ("unsure" in left) return refuse("approve", left.unsure)
  if (moved.length > 0) {
    await deps.store.rollbacks.prepareAgain(rollback.id, ["awaiting_approval"], moved, { round: card.round })
    deps.ring("rehearse", rollback.id)
    deps.wakeOutbox()
    return refuse("approve", { reason: "changed", moved })
  }
  if (left.gone.length > 0)
    await deps.store.approvals.void(rollback.id, rollback.round, left.gone, "may no longer approve")
  const outcome = await deps.store.approvals.approve({
    rollbackId: rollback.id,
    round: card.round,
    digest: card.digest,
    userId,
    teamId,
  })
  if (outcome.kind === "requester") return refuse("approve", { reason: "requester_cannot_approve" })
  if (outcome.kind === "already_yours") return refuse("approve", { reason: "already_yours", since: null })
  if (outcome.kind === "too_late") {
    const now = await deps.store.rollbacks.get(rollback.id)
    return (
      (await alreadyTheirs(click.actor, now, deps)) ??
      notOpen(now, now.token === click.token) ??
      refuse("approve", { reason: "already_decided", ...decision({ ...now, state: "expired" }) })
    )
  }
  if (outcome.kind === "approved") {
    deps.ring("run", rollback.id)
    deps.wakeOutbox()
    return { kind: "approved", rollback }
  }
  deps.wakeOutbox()
  return { kind: "counted", rollback, have: outcome.have, needed: rollback.approvals_needed }
}

/** Of one that runs or ran by their approval; what was given on a card of before does not count for it. */
async function alreadyTheirs(
  { userId }: Actor,
  { id, state, number, round }: StoredRollback,
  deps: Deps,
): Promise<Refused | null> {
  if (!["approved", "running", "succeeded", "failed", "stopped"].includes(state)) return null
  const given = await deps.store.approvals.list(id, round)
  return given.some((approval) => approval.userId === userId)
    ? refuse("approve", { reason: "already_yours", since: { state, number } })
    : null
}

function decision(rollback: StoredRollback) {
  return {
    state: rollback.state,
    by: rollback.ended_by,
    at: rollback.ended_at ?? rollback.approved_at,
    number: rollback.number,
  }
}

/** Why this card takes no decision any more; null when it does. */
export function notOpen(rollback: StoredRollback, current: boolean): Refused | null {
  if (rollback.state === "preparing") return refuse("approve", { reason: "not_ready" })
  if (rollback.state !== "awaiting_approval")
    return refuse("approve", { reason: "already_decided", ...decision(rollback) })
  return current ? null : refuse("approve", { reason: "old_card", number: rollback.number })
}

/** What differs between what the card shows and the plan as it is now. */
async function sinceShown(rollback: StoredRollback, deps: Deps): Promise<string[]> {
  const run = readRun(rollback)
  if (!run || run.kind !== "rollback") return []
  const { plans } = await deps.plans.load()
  const loaded = plans.get(rollback.environment)
  if (!loaded) return ["the plan file is gone or no longer valid"]
  return planFingerprint(loaded.plan) === run.planSha256 ? [] : whatMoved(run, loaded.plan, rollback.selection)
}

/** Who gave an approval and may no longer: it does not count towards a second one. Without an answer nobody can say. */
async function thoseWhoLeft(
  rollback: StoredRollback,
  from: "anyone" | string[],
  deps: Deps,
): Promise<{ gone: string[] } | { unsure: Refusal }> {
  if (rollback.approvals_needed < 2) return { gone: [] }
  const earlier = await deps.store.approvals.list(rollback.id, rollback.round)
  const checked = await Promise.all(
    earlier.map(async ({ userId }) => ({ userId, refusal: await mayAct(deps.people, userId, from) })),
  )
  const unsure = checked.find(({ refusal }) => refusal !== null && isSilence(refusal))?.refusal
  if (unsure) return { unsure }
  return { gone: checked.filter(({ refusal }) => refusal !== null).map(({ userId }) => userId) }
}

function isSilence({ reason }: Refusal): boolean {
  return reason === "could_not_check_person" || reason === "could_not_check_group"
}
