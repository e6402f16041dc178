import { isPassing, StepbackError } from "../errors.ts"
import { readRun } from "../commands/view.ts"
import type { ApprovalRule, PlanStep } from "../plans/plan.ts"
import { draftUndo } from "../plans/undo-run.ts"
import type { Risk } from "../rollback/facts.ts"
import { isRiskier, overallRisk } from "../rollback/risk.ts"
import { hideKnown, namesToHide } from "../steps/hidden-captures.ts"
import { createSecrets, type Secrets } from "../steps/secrets.ts"
import { identify, inSentence, type Target } from "../steps/target.ts"
import { noLedger, nothingKept } from "../steps/undo-parts.ts"
import type { StoredRollback } from "../store/rows.ts"
import { canonicalJson, rulesOf, stepsOf, type Fingerprint, type FrozenRun } from "../plans/frozen.ts"
import { hashFiles } from "./freeze-run.ts"
import { openTarget } from "./open-target.ts"
import { raises, rehearseSteps } from "./rehearse-steps.ts"
import type { WorkDeps } from "./work.ts"

/** Makes and looks at the run that takes an earlier one back. */
export async function prepareUndoRun(undo: StoredRollback, signal: AbortSignal, deps: WorkDeps): Promise<FrozenRun> {
  const of = await deps.store.rollbacks.get(undo.undo_of ?? "")
  const run = readRun(of)
  if (!run) throw new StepbackError("refused", `R-${of.number ?? "?"} never ran: there is nothing to take back`)
  const stepRuns = await deps.store.runs.listSteps(of.id)
  const { components, values, without } = draftUndo(run, stepRuns)
  if (components.length === 0)
    throw new StepbackError(
      "refused",
      `there is no way back from R-${of.number ?? "?"}: ${without.join("; ") || "it changed nothing"}`,
    )
  const secrets = createSecrets(deps.environment)
  const hidden = await hideValues(run, values, secrets)
  const target = openTarget(run.target, secrets, deps.targets)
  const fingerprint = await sameTarget(of, run, target)
  const base = {
    rollbackId: undo.id,
    environment: run.environment,
    secrets,
    target,
    redact: run.redact,
    signal,
    log: deps.log,
  }
  const valuesOf = (step: PlanStep) => ({ ...run.parameters, ...values[step.id] })
  const steps = await rehearseSteps(components, (step) => ({ ...base, values: valuesOf(step) }))
  if (steps.every(({ note }) => note === nothingKept || note === noLedger))
    throw new StepbackError("refused", `the undo of R-${of.number ?? "?"} is withdrawn: ${steps[0]?.note ?? noLedger}`)
  const reasons = [...raises(components, steps), ...without.map((text) => `no way back: ${text}`)]
  const { risk } = overallRisk(
    components.map((component) => component.risk),
    reasons,
  )
  const plan = (await deps.plans.load()).plans.get(run.environment)?.plan
  const rules = plan ? rulesOf(plan) : run.rules
  const rule = rules?.approve[risk] ?? ownRule(run, risk)
  return {
    ...run,
    rollbackId: undo.id,
    kind: "undo",
    title: undo.title,
    notes: null,
    commits: values,
    ...hidden,
    files: await hashFiles(components, secrets, valuesOf),
    target: { ...run.target, fingerprint: fingerprint ?? run.target.fingerprint },
    policy: { risk, riskReasons: reasons, count: rule.count, from: rule.from, expiresMs: run.policy.expiresMs },
    ...(rules ? { rules } : {}),
    watch: null,
    success: [
      {
        text: "What was replaced is given back, no conflicts",
        from: components.flatMap((component) => component.steps.map((step) => step.id)),
      },
    ],
    skip: undo.skips,
    components,
    rehearsal: { lookedAt: new Date().toISOString(), steps, problems: [], warnings: without },
  }
}

/** Who approved the run, where nothing says who approves at another risk: enough for what is no riskier. */
function ownRule({ policy, environment }: FrozenRun, risk: Risk): ApprovalRule {
  if (!isRiskier(risk, policy.risk)) return policy
  throw new StepbackError(
    "refused",
    `taking this back is of ${risk} risk, and who approves that stands in the plan of ${environment}, which is gone or invalid: mend the plan file, then ask again`,
  )
}

/** What the run had captured and must not show, the undo must not either. */
async function hideValues(
  run: FrozenRun,
  values: FrozenRun["commits"],
  secrets: Secrets,
): Promise<{ hide?: string[] }> {
  const hide = [...(run.hide ?? []), ...(await namesToHide(stepsOf(run), run.redact))]
  hideKnown({ commits: values, hide }, secrets)
  return hide.length === 0 ? {} : { hide }
}

/** What was kept is in the database that the run was on, and nowhere else. Throws with the way out. */
async function sameTarget(of: StoredRollback, run: FrozenRun, target: Target): Promise<Fingerprint | null> {
  if (!target.pool) return null
  const { fingerprint, closed } = await identify(target.pool, target.httpBase).catch((error: unknown) => {
    if (!isPassing(error)) throw error
    throw new StepbackError(
      "refused",
      "the target cannot be reached, so nothing can be taken back now: ask again later",
      { cause: error },
    )
  })
  if (closed) throw new StepbackError("refused", inSentence("the target", closed))
  if (run.target.fingerprint && canonicalJson(fingerprint) !== canonicalJson(run.target.fingerprint))
    throw new StepbackError(
      "refused",
      `the target is not the database that R-${of.number ?? "?"} ran on: what it kept is not here`,
    )
  return fingerprint
}
