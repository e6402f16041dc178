import { noUndoGiven } from "../plans/normalise-step.ts"
import { namesOf } from "../plans/names.ts"
import type { PlanComponent, PlanStep } from "../plans/plan.ts"
import type { RehearsedStep } from "../rollback/facts.ts"
import { rehearseStep } from "../steps/definitions.ts"
import { describeRange, rehearsed, type StepContext } from "../steps/step.ts"

/** Database steps one after the other; requests and programs meanwhile, side by side. */
export async function rehearseSteps(
  components: PlanComponent[],
  contextOf: (step: PlanStep) => StepContext,
): Promise<RehearsedStep[]> {
  const steps = components.flatMap((component) => component.steps)
  const found = new Map<string, RehearsedStep>()
  const look = async (step: PlanStep) => {
    const context = contextOf(step)
    const unknown = namesOf(step).filter((name) => !(name in context.values))
    found.set(
      step.id,
      unknown.length > 0
        ? rehearsed(step.id, {
            outcome: "not_tried",
            note: `uses ${unknown.map((name) => `$${name}`).join(", ")}, which the run itself gives`,
          })
        : foreseen(step, await rehearseStep(step, context), steps),
    )
  }
  const outside = Promise.all(steps.filter((step) => step.kind === "http" || step.kind === "command").map(look))
  // Heard of at the end: one that fails before would otherwise end the process.
  outside.catch(() => undefined)
  for (const step of steps) if (step.kind !== "http" && step.kind !== "command") await look(step)
  await outside
  return steps.map((step) => found.get(step.id) as RehearsedStep)
}

/** What becomes of the run where a step fails. */
const thenWhat = {
  stop: "the run stops there",
  continue: "this step fails and the run goes on",
  ask: "this step fails and the run asks what to do",
} as const satisfies Record<PlanStep["onFailure"], string>

/** Rows that are not as many as the plan expects make this step fail, unless a step before it changes them. */
function foreseen(step: PlanStep, seen: RehearsedStep, steps: readonly PlanStep[]): RehearsedStep {
  if ((step.kind !== "sql" && step.kind !== "purge") || step.expectRows.kind !== "range") return seen
  const { min, max } = step.expectRows
  if (seen.outcome !== "looked" || seen.rows === null || (seen.rows >= min && seen.rows <= max)) return seen
  const changed = steps.slice(0, steps.indexOf(step)).some(({ effect }) => effect !== "none")
  const unless = changed ? ", unless a step before it changes that" : ""
  const matching = `${seen.rows} ${seen.rows === 1 ? "row matches" : "rows match"}`
  const warning = `${matching} and the plan expects ${describeRange({ min, max })}: as things stand, ${thenWhat[step.onFailure]}${unless}`
  return { ...seen, warnings: [...seen.warnings, warning] }
}

/** Why this is riskier than its components say. */
export function raises(components: PlanComponent[], rehearsal: RehearsedStep[]): string[] {
  const byId = new Map(rehearsal.map((step) => [step.stepId, step]))
  return components.flatMap((component) =>
    component.steps.flatMap((step) => {
      const seen = byId.get(step.id)
      const reasons: string[] = []
      if (step.irreversible !== null && step.irreversible !== noUndoGiven)
        reasons.push(`${step.title} has no way back: ${step.irreversible}`)
      if (step.effect !== "none" && seen?.outcome === "unknown")
        reasons.push(`${step.title}: ${seen.note ?? "could not be looked at"}`)
      else if (step.kind === "sql" && step.expectRows.kind === "rehearsed" && seen?.rows == null)
        reasons.push(`${step.title}: how many rows is not known`)
      reasons.push(...(seen?.raises ?? []).map((text) => `${step.title}: ${text}`))
      return reasons
    }),
  )
}
