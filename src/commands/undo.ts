import { stepsOf } from "../plans/frozen.ts"
import { tookEffect } from "../rollback/effect.ts"
import { refuse, type Refused } from "../rollback/refusals.ts"
import { isLive } from "../rollback/states.ts"
import type { StoredRollback } from "../store/rows.ts"
import { busyWith, mayRequest, mayUse, tidy, type Actor, type Deps } from "./ports.ts"
import { readRun } from "./view.ts"

/** Asks for taking a rollback back: a rollback like any other, with a card and a second person of its own. */
export async function requestUndo(
  rollback: StoredRollback,
  request: { channelId: string; reason?: string; actor: Actor },
  deps: Deps,
): Promise<{ kind: "requested"; rollback: StoredRollback } | { kind: "repeated" } | Refused> {
  const run = readRun(rollback)
  const ended = !isLive(rollback.state)
  const { number, state, environment } = rollback
  if (rollback.kind === "record") return refuse("undo", { reason: "done_by_hand", number, environment })
  if (!ended)
    return refuse("undo", { reason: "not_in_state", number, state, can: state === "running" ? "stop" : "status" })
  if (!run) return refuse("undo", { reason: "nothing_to_undo", number })
  const steps = new Map(stepsOf(run).map((step) => [step.id, step]))
  const did = (await deps.store.runs.listSteps(rollback.id)).some(({ stepId, result }) => {
    const step = steps.get(stepId)
    return step !== undefined && result !== null && tookEffect(step, result)
  })
  if (!did) return refuse("undo", { reason: "nothing_to_undo", number })
  const [notAllowed, channel] = await Promise.all([
    mayRequest(deps.people, request.actor.userId, run),
    mayUse(deps.people, request.channelId),
  ])
  if (notAllowed) return refuse("undo", notAllowed)
  if (channel) return refuse("undo", channel)
  const { plans } = await deps.plans.load()
  const now = plans.get(rollback.environment)?.plan ?? run.rules
  // Older runs do not say: where it was asked for, it was allowed.
  const only = now ? now.channel : rollback.channel_id
  if (only !== null && only !== request.channelId) return refuse("undo", { reason: "wrong_channel", channel: only })
  const created = await deps.store.rollbacks.create({
    id: deps.newId(),
    kind: "undo",
    environment: rollback.environment,
    title: `Take back R-${number ?? "?"}`,
    requesterId: request.actor.userId,
    teamId: request.actor.teamId,
    channelId: request.channelId,
    reason: tidy(request.reason ?? "") || `take back R-${number ?? "?"}`,
    selection: { only: null, with: [], parameters: {} },
    requestKey: request.actor.requestKey,
    targetReference: run.target.postgres ?? run.target.http,
    undoOf: rollback.id,
  })
  if (created.kind === "repeated") return created
  if (created.kind === "busy") return refuse("undo", busyWith(created.rollback, rollback.environment))
  deps.ring("rehearse", created.rollback.id)
  deps.wakeOutbox()
  return { kind: "requested", rollback: created.rollback }
}
