import type { Plan } from "../plans/plan.ts"
import { nearest, resolveParameters, selectComponents, type Selection } from "../plans/select.ts"
import { refuse, type Refused } from "../rollback/refusals.ts"
import type { StoredRollback } from "../store/rows.ts"
import { busyWith, mayRequest, mayUse, tidy, type Actor, type Deps } from "./ports.ts"

export type Requested = { kind: "requested"; rollback: StoredRollback } | { kind: "repeated" } | Refused

/**
 * Asks for a rollback (or for a look, with `rehearsalOnly`). Nothing of the target is touched here: the card follows
 * when a worker has looked.
 */
export async function requestRollback(
  request: {
    environment: string
    selection: Selection
    reason: string
    channelId: string
    actor: Actor
    rehearsalOnly: boolean
  },
  deps: Deps,
): Promise<Requested> {
  const found = await findPlan(request.environment, deps)
  if ("kind" in found) return found
  const { plan } = found
  const selected = selectComponents(plan, request.selection)
  if ("refusal" in selected) return refuse("request", selected.refusal)
  const parameters = resolveParameters(plan, request.selection.parameters)
  if ("refusal" in parameters) return refuse("request", parameters.refusal)
  if (plan.channel !== null && plan.channel !== request.channelId)
    return refuse("request", { reason: "wrong_channel", channel: plan.channel })
  const [channel, notThem] = await Promise.all([
    mayUse(deps.people, request.channelId),
    mayRequest(deps.people, request.actor.userId, { request: plan.request, components: selected.components }),
  ])
  if (notThem) return refuse("request", notThem)
  if (channel) return refuse("request", channel)
  const created = await deps.store.rollbacks.create({
    id: deps.newId(),
    kind: request.rehearsalOnly ? "rehearsal" : "rollback",
    environment: plan.environment,
    title: plan.title,
    requesterId: request.actor.userId,
    teamId: request.actor.teamId,
    channelId: request.channelId,
    reason: tidy(request.reason),
    selection: request.selection,
    requestKey: request.actor.requestKey,
    targetReference: plan.target.postgres ?? plan.target.http,
    undoOf: null,
  })
  if (created.kind === "repeated") return created
  if (created.kind === "busy") return refuse("request", busyWith(created.rollback, plan.environment))
  deps.ring("rehearse", created.rollback.id)
  deps.wakeOutbox()
  return { kind: "requested", rollback: created.rollback }
}

/** The valid plan of an environment, or why there is none. */
export async function findPlan(
  environment: string,
  deps: Pick<Deps, "plans">,
): Promise<{ plan: Plan; sha256: string } | Refused> {
  const { plans, invalid } = await deps.plans.load()
  const loaded = plans.get(environment)
  if (loaded) return { plan: loaded.plan, sha256: loaded.sha256 }
  // A file that is not even YAML claims no environment; then its name tells whose it is.
  const named = (file: string) => /([^/\\]+)\.ya?ml$/.exec(file)?.[1] === environment
  const broken =
    invalid.find((file) => file.environment === environment) ??
    invalid.find(({ file, environment: claimed }) => claimed === null && named(file))
  if (broken)
    return refuse("request", {
      reason: "plan_invalid",
      environment,
      problems: broken.problems.map(
        (problem) => `${problem.file}:${problem.line}:${problem.column}: ${problem.message}`,
      ),
    })
  const known = [...plans.keys()]
  return refuse("request", {
    reason: "unknown_environment",
    given: environment,
    nearest: nearest(environment, known),
    known,
  })
}
