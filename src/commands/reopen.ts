import { stepsOf } from "../plans/frozen.ts"
import { firstTrouble, isBroken, latestRuns } from "../rollback/analysis.ts"
import { refuse, type Refused } from "../rollback/refusals.ts"
import type { StoredRollback } from "../store/rows.ts"
import { busyWith, mayRequest, tidy, type Actor, type Deps } from "./ports.ts"
import { readRun } from "./view.ts"

type Reopened = { kind: "reopened" } | Refused

async function mayReopen(
  verb: "retry" | "skip",
  rollback: StoredRollback,
  actor: Actor,
  deps: Deps,
): Promise<Refused | null> {
  const run = readRun(rollback)
  if (!run || (rollback.state !== "failed" && rollback.state !== "stopped"))
    return refuse(verb, { reason: "not_in_state", number: rollback.number, state: rollback.state, can: "status" })
  if (rollback.left_by !== null && rollback.left_at !== null)
    return refuse(verb, { reason: "left", number: rollback.number, by: rollback.left_by, at: rollback.left_at })
  const notAllowed = await mayRequest(deps.people, actor.userId, run)
  return notAllowed ? refuse(verb, notAllowed) : null
}

async function settled(
  verb: "retry" | "skip",
  rollback: StoredRollback,
  actor: Actor,
  skips: StoredRollback["skips"] | null,
  deps: Deps,
): Promise<Reopened> {
  const moved = await deps.store.rollbacks.reopen(rollback.id, {
    actor: actor.userId,
    requestKey: actor.requestKey,
    skips,
    epoch: skips === null ? null : rollback.epoch,
    generation: rollback.generation,
  })
  if (moved.kind === "busy") {
    const holder = await deps.store.rollbacks.findHolder(rollback.id)
    // It ended in between: pressed once more, it goes on.
    if (holder === null) return refuse(verb, { reason: "unexpected" })
    return refuse(verb, busyWith(holder, rollback.environment))
  }
  if (moved.kind === "not_moved") {
    const now = moved.rollback ?? rollback
    if (now.left_by !== null && now.left_at !== null)
      return refuse(verb, { reason: "left", number: now.number, by: now.left_by, at: now.left_at })
    if (skips !== null && (now.state === "failed" || now.state === "stopped") && now.epoch !== rollback.epoch)
      return refuse(verb, { reason: "other_failure", number: now.number, wrote: null })
    if (isTriedSince(now, rollback.generation)) return refuse(verb, { reason: "tried_since", number: now.number })
    const later = await deps.store.rollbacks.findLater(rollback.id)
    const { number, environment } = rollback
    if (later !== null) return refuse(verb, { reason: "overtaken", number, environment, by: later.number })
    return refuse(verb, { reason: "not_in_state", number: now.number, state: now.state, can: "status" })
  }
  deps.ring(skips === null ? "run" : "rehearse", rollback.id)
  deps.wakeOutbox()
  return { kind: "reopened" }
}

function isTriedSince({ state, generation }: StoredRollback, shown: number): boolean {
  return (state === "failed" || state === "stopped") && generation !== shown
}

/**
 * Goes on with what was approved, unchanged, from the step that failed: one person is enough. `shown`: the generation at whose
 * failure it was offered. Two who press it for one failure want it once; at the next one somebody has to look first.
 */
export async function retry(
  rollback: StoredRollback,
  actor: Actor,
  deps: Deps,
  shown = rollback.generation,
): Promise<Reopened> {
  const refused = await mayReopen("retry", rollback, actor, deps)
  if (refused) return refused
  if (isTriedSince(rollback, shown)) return refuse("retry", { reason: "tried_since", number: rollback.number })
  return settled("retry", rollback, actor, null, deps)
}

/** The step that a Skip would leave out: the one that the card names. */
async function failedStep(rollback: StoredRollback, deps: Deps): Promise<{ id: string; title: string } | null> {
  const run = readRun(rollback)
  const latest = latestRuns({ stepRuns: await deps.store.runs.listSteps(rollback.id) })
  const failed = (run === null ? [] : stepsOf(run)).flatMap(({ id, title, onFailure }) => {
    const result = latest.get(id)?.result
    return result && isBroken(result) ? [{ id, title, goesOn: onFailure === "continue" }] : []
  })
  const found = firstTrouble(failed)
  return found && { id: found.id, title: found.title }
}

export async function maySkip(
  rollback: StoredRollback,
  actor: Actor,
  deps: Deps,
): Promise<{ kind: "may"; step: { id: string; title: string } } | Refused> {
  const refused = await mayReopen("skip", rollback, actor, deps)
  if (refused) return refused
  const step = await failedStep(rollback, deps)
  return step ? { kind: "may", step } : refuse("skip", { reason: "no_failed_step", number: rollback.number })
}

/** A failure as a form names it. */
export type ShownFailure = { rollbackId: string; generation: number; stepId: string }

/** Skip as its form asks for it: the reason was written for the failure that was shown, and is good for no other. */
export async function skipShown(shown: ShownFailure, reason: string, actor: Actor, deps: Deps): Promise<Reopened> {
  const rollback = await deps.store.rollbacks.find(shown.rollbackId)
  if (!rollback) return refuse("skip", { reason: "old_card", number: null })
  const may = await maySkip(rollback, actor, deps)
  if (may.kind === "refuse") return may
  if (may.step.id !== shown.stepId || rollback.generation !== shown.generation)
    return refuse("skip", { reason: "other_failure", number: rollback.number, wrote: tidy(reason) })
  return skip(rollback, reason, actor, deps)
}

/** Leaves a failed step out. That changes what was approved, so a second person is asked again. */
export async function skip(rollback: StoredRollback, reason: string, actor: Actor, deps: Deps): Promise<Reopened> {
  const may = await maySkip(rollback, actor, deps)
  if (may.kind === "refuse") return may
  const clean = tidy(reason)
  if (clean === "") return refuse("skip", { reason: "missing_reason" })
  return settled(
    "skip",
    rollback,
    actor,
    { ...rollback.skips, [may.step.id]: { by: actor.userId, reason: clean } },
    deps,
  )
}
