import { findPlan } from "../commands/request.ts"
import { errorCode, errorMessage, isPassing, LostLeaseError, StepbackError, takesNoWrites } from "../errors.ts"
import { canonicalJson, freeze, rulesOf, sha256, type Fingerprint, type FrozenRun } from "../plans/frozen.ts"
import { planFingerprint } from "../plans/moved.ts"
import { nameRefs } from "../plans/name-refs.ts"
import { namesOf } from "../plans/names.ts"
import type { Plan, PlanComponent, PlanStep } from "../plans/plan.ts"
import { resolveParameters, selectComponents } from "../plans/select.ts"
import type { Values } from "../plans/values.ts"
import type { RehearsedStep, Rehearsal, SeenBefore } from "../rollback/facts.ts"
import { overallRisk } from "../rollback/risk.ts"
import { createSecrets } from "../steps/secrets.ts"
import type { StepContext } from "../steps/step.ts"
import { identify, inSentence, type Target } from "../steps/target.ts"
import type { StoredRollback } from "../store/rows.ts"
import { wentOn } from "./fence.ts"
import { hashFiles, resolveCommits } from "./freeze-run.ts"
import { baselineContext, lookAtBaseline, missingSnapshot } from "./look-at-baseline.ts"
import { openTarget } from "./open-target.ts"
import { raises, rehearseSteps } from "./rehearse-steps.ts"
import { prepareUndoRun } from "./prepare-undo.ts"
import type { WorkDeps } from "./work.ts"

/** Why there can be no card at all: people are told, and the request ends. */
class Refuse extends StepbackError {
  constructor(message: string) {
    super("refused", message)
  }
}

/** Looks at the live target, read-only, freezes what would run, and hands the card to the approvers. */
export async function rehearseRollback(rollback: StoredRollback, signal: AbortSignal, deps: WorkDeps): Promise<void> {
  const { store, log } = deps
  try {
    const past = await pastOf(rollback, deps)
    const run =
      rollback.kind === "undo"
        ? await prepareUndoRun(rollback, signal, deps)
        : await prepareRun(rollback, signal, deps, past?.commits)
    if (past) {
      refuseChangedPast(past, run)
      foreseeNoValue(past, run)
    }
    if (rollback.moved.length > 0) run.rehearsal.warnings.push(...(await wentOn(rollback, run, deps)))
    if (past?.begun) run.rehearsal.before = stoodBefore(past.before.rehearsal)
    const { frozen, digest } = freeze(run)
    await store.runs.saveRehearsal(
      rollback.id,
      rollback.epoch,
      {
        frozen,
        digest,
        token: deps.newId(),
        // A rehearsal holds no lock.
        fingerprint:
          // Without the server's own identifier two databases may only be alike.
          run.target.fingerprint?.systemIdentifier != null && rollback.kind !== "rehearsal"
            ? sha256(canonicalJson({ ...run.target.fingerprint, httpOrigin: null }))
            : null,
        risk: run.policy.risk,
        approvalsNeeded: run.policy.count,
        expiresMs: run.policy.expiresMs,
      },
      rollback.kind === "rehearsal",
    )
    log.info({ rollbackId: rollback.id, environment: rollback.environment, digest }, "rollback rehearsed")
  } catch (error) {
    if (error instanceof LostLeaseError) throw error
    if (signal.aborted || isPassing(error) || takesNoWrites(error)) throw error
    const reason = reasonOf(error)
    if (reason === notForeseen) log.error({ err: error }, "rehearsal failed")
    await store.rollbacks.move(rollback.id, "cancelled", { actor: "stepback", reason, epoch: rollback.epoch })
    log.warn({ rollbackId: rollback.id, reason }, "rehearsal refused")
  }
  deps.wakeOutbox()
}

/** What was approved before and is done in part. `commits`: of each step that is done, at which it was. */
type Past = {
  before: FrozenRun
  begun: boolean
  commits: Record<string, Record<string, string>>
  /** Names that have a value already. */
  captured: ReadonlySet<string>
}

async function pastOf(rollback: StoredRollback, deps: WorkDeps): Promise<Past | null> {
  if (rollback.frozen === null || rollback.started_at === null) return null
  const before = JSON.parse(rollback.frozen) as FrozenRun
  const runs = await deps.store.runs.listSteps(rollback.id)
  const done = runs.filter(({ result }) => result?.outcome === "succeeded").map(({ stepId }) => stepId)
  return {
    before,
    begun: runs.length > 0,
    captured: new Set(runs.flatMap(({ result }) => Object.keys(result?.captures ?? {}))),
    commits: Object.fromEntries(done.map((id) => [id, before.commits[id] ?? {}])),
  }
}

/** A look on the way sees what the run has done, and what broke meanwhile: what stood before is kept beside it. */
function stoodBefore({ before, steps }: Rehearsal): SeenBefore[] {
  return before ?? steps.map(({ stepId, outcome, holds, note, ms }) => ({ stepId, outcome, holds, note, ms }))
}

/** A step that is done is not done again, so it must still be the step that was done. */
function refuseChangedPast({ before, commits }: Past, run: FrozenRun): void {
  const shape = (of: FrozenRun, id: string) => {
    const step = nameRefs(of.components, of.parameters)
      .flatMap(({ steps }) => steps)
      .find((each) => each.id === id)
    return canonicalJson(step ? [step, namesOf(step).map((name) => of.parameters[name] ?? null)] : null)
  }
  for (const [id, known] of Object.entries(commits)) {
    // A branch may have moved on: what is done was done at its commit.
    if (Object.keys(known).length > 0) run.commits[id] = known
    if (shape(before, id) === shape(run, id)) continue
    throw new Refuse(
      `step ${id} is done as it was approved, and the plan has changed it since: undo this rollback, or ask for a new one`,
    )
  }
}

/** What only a step gives that is left out, nothing gives: what uses it fails, and whoever approves reads that before. */
function foreseeNoValue({ captured, commits }: Past, { components, skip, rehearsal }: FrozenRun): void {
  const steps = components.flatMap((component) => component.steps).filter(({ id }) => commits[id] === undefined)
  const givers = new Map(
    steps.flatMap((step) =>
      skip[step.id] && "capture" in step ? Object.keys(step.capture).map((name) => [name, step.title] as const) : [],
    ),
  )
  for (const step of steps.filter(({ id }) => !skip[id])) {
    const name = namesOf(step).find((each) => givers.has(each) && !captured.has(each))
    if (name === undefined) continue
    const note = `$${name} has no value, since "${givers.get(name)}" is left out`
    rehearsal.steps = rehearsal.steps.map((seen) =>
      seen.stepId === step.id ? { ...seen, outcome: "unknown", refused: true, note } : seen,
    )
  }
}

/** Trying for good what fails for good would hold the environment and tell nobody. */
const notForeseen = "it could not be prepared, for a reason that is in the worker's log: ask again, or do it by hand"

function reasonOf(error: unknown): string {
  if (error instanceof StepbackError) return error.message
  if (errorCode(error) === "23505")
    return "another rollback is under way on the same database: wait for its end, or deny it"
  return notForeseen
}

/** What a look needs to know about who asks for it. */
export type AskedRun = Pick<StoredRollback, "id" | "kind" | "environment" | "selection"> & {
  skips?: StoredRollback["skips"]
}

/**
 * Looks at the live target, read-only, and gives the run as it would be frozen. Needs no state database; throws a
 * StepbackError with the way out when there can be no card.
 */
export async function prepareRun(
  rollback: AskedRun,
  signal: AbortSignal,
  deps: Pick<WorkDeps, "plans" | "targets" | "environment" | "log"> & { store?: Pick<WorkDeps["store"], "baselines"> },
  settled: Past["commits"] = {},
): Promise<FrozenRun> {
  const { plan, components, parameters } = await selectRun(rollback, deps)
  const secrets = createSecrets(deps.environment)
  const target = openTarget(plan.target, secrets, deps.targets)
  const problems: string[] = []
  const fingerprint = await lookAtTarget(plan, target, problems, (text) => secrets.redact(text))
  const commits = await resolveCommits(plan, components, parameters, secrets, settled)
  const valuesOf = (step: PlanStep): Values => ({ ...parameters, ...commits[step.id] })
  const files = await hashFiles(components, secrets, valuesOf)
  const reachable: Target = { ...target, pool: problems.length > 0 ? null : target.pool }
  const looking = { plan, components, target: reachable, secrets }
  const { id: rollbackId, skips = {} } = rollback
  const steps = await rehearsePlan({ ...looking, skips, rollbackId, signal, log: deps.log }, valuesOf, deps.store)
  const seen = await lookAtBaseline(looking, deps.store)
  const { risk, reasons } = overallRisk(
    components.map((component) => component.risk),
    [...problems, ...raises(components, steps), ...seen.reasons],
  )
  const rule = plan.approve[risk]
  return {
    format: 1,
    rollbackId: rollback.id,
    kind: rollback.kind === "rehearsal" ? "rehearsal" : "rollback",
    environment: plan.environment,
    title: plan.title,
    notes: plan.notes,
    planSha256: planFingerprint(plan),
    parameters,
    commits,
    files,
    target: {
      postgres: plan.target.postgres,
      http: plan.target.http,
      database: plan.target.expect.database,
      fingerprint,
    },
    policy: { risk, riskReasons: reasons, count: rule.count, from: rule.from, expiresMs: plan.approve.expiresMs },
    rules: rulesOf(plan),
    request: plan.request,
    rtoMs: plan.rtoMs,
    redact: plan.redact,
    escalate: plan.escalate,
    watch: plan.watch,
    success: plan.success,
    skip: skips,
    remindMs: plan.analysis.remindMs,
    keepMs: plan.archive.keepMs,
    components,
    rehearsal: { lookedAt: new Date().toISOString(), steps, problems, warnings: seen.warnings, notes: seen.notes },
  }
}

/** Each step with its own values; `restore` is told of the others that run, whose rows it leaves to them. */
function rehearsePlan(
  {
    plan,
    components,
    skips,
    ...base
  }: Pick<StepContext, "rollbackId" | "secrets" | "target" | "signal" | "log"> & {
    plan: Plan
    components: PlanComponent[]
    skips: StoredRollback["skips"]
  },
  valuesOf: (step: PlanStep) => Values,
  store: Pick<WorkDeps["store"], "baselines"> | undefined,
): Promise<RehearsedStep[]> {
  // What is left out sets no row.
  const others = components
    .flatMap((component) => component.steps)
    .filter(({ id }) => !skips[id])
    .map((step) => ({ step, values: valuesOf(step) }))
  const baseline = baselineContext(plan, store, others)
  const { environment, redact } = plan
  return rehearseSteps(components, (step) => ({ ...base, environment, redact, values: valuesOf(step), baseline }))
}

/** The plan as this worker's folder has it now, and what of it was asked for. */
async function selectRun(
  rollback: AskedRun,
  deps: Pick<WorkDeps, "plans"> & { store?: Pick<WorkDeps["store"], "baselines"> },
) {
  const found = await findPlan(rollback.environment, deps)
  if ("kind" in found) {
    const { refusal } = found
    throw new Refuse(
      refusal.reason === "plan_invalid"
        ? `the plan is invalid: ${refusal.problems[0]}`
        : "the worker has no plan of it: look at the folder that its STEPBACK_PLANS names",
    )
  }
  const { plan } = found
  const selected = selectComponents(plan, rollback.selection)
  const resolved = resolveParameters(plan, rollback.selection.parameters)
  if ("refusal" in selected || "refusal" in resolved) throw new Refuse("the plan has changed: ask again")
  const missing = await missingSnapshot(plan, selected.components, deps.store)
  if (missing !== null) throw new Refuse(missing)
  const { parameters } = resolved
  return { plan, components: nameRefs(selected.components, parameters), parameters }
}

async function lookAtTarget(
  plan: Plan,
  target: Target,
  problems: string[],
  redact: (text: string) => string,
): Promise<Fingerprint | null> {
  if (!target.pool) return { database: "", systemIdentifier: null, httpOrigin: target.httpBase?.origin ?? null }
  try {
    const { fingerprint, closed } = await identify(target.pool, target.httpBase)
    if (closed) throw new Refuse(inSentence("the target", closed))
    const expected = plan.target.expect.database
    if (expected !== null && expected !== fingerprint.database)
      throw new Refuse(
        `the target is database "${fingerprint.database}", and the plan expects "${expected}": check the worker's environment`,
      )
    return fingerprint
  } catch (error) {
    if (error instanceof StepbackError) throw error
    problems.push(`the target database could not be looked at: ${redact(errorMessage(error))}`)
    return null
  }
}
