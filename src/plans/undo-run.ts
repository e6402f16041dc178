import type { StepRun } from "../rollback/facts.ts"
import type { FrozenRun } from "./frozen.ts"
import { tookEffect } from "../rollback/effect.ts"
import { namesOf } from "./names.ts"
import { sortByNeeds } from "./order.ts"
import type { PlanComponent, PlanStep } from "./plan.ts"
import { missing } from "./values.ts"

/** What taking a run back is made of: its steps backwards, each with the values that it needs. */
export type UndoDraft = {
  components: PlanComponent[]
  /** undo step -> values: what was deployed, what was captured, commits. */
  values: Record<string, Record<string, string>>
  /** Steps that did something and have no way back. */
  without: string[]
}

/** Makes the undo of a run out of what its steps did. Steps that only looked are left out. */
export function draftUndo(run: FrozenRun, done: readonly StepRun[]): UndoDraft {
  const captures = Object.assign({}, ...done.map((step) => step.result?.captures ?? {})) as Record<string, string>
  const values: UndoDraft["values"] = {}
  const without: string[] = []
  const backwards = lastFirst(run, done).flatMap(({ component, step }): Placed[] => {
    // What a first attempt replaced, later ones no longer see.
    const attempts = done.filter((each) => each.stepId === step.id).map((each) => each.result)
    const deployed = attempts.find((each) => each?.deployedBefore != null)?.deployedBefore ?? null
    const back = wayBack(step, run.rollbackId)
    if (!back) {
      without.push(`${step.title}: ${step.irreversible ?? "nothing to go back to is known"}`)
      return []
    }
    // What an undo was given to go back to is not what ran before it.
    const { deployed: _given, ...commits } = run.commits[step.id] ?? {}
    const known = { ...commits, ...captures, ...(deployed === null ? {} : { deployed }) }
    const unknown = missing(namesOf(back), { ...run.parameters, ...known })
    // Nothing in the undo gives it later: it would fail in the middle.
    if (unknown.length > 0) {
      without.push(`${step.title}: nothing to go back to is known ($${unknown.join(", $")} has no value)`)
      return []
    }
    values[back.id] = known
    return [{ component, step: back }]
  })
  return { components: togetherAgain(backwards), values, without }
}

type Placed = { component: PlanComponent; step: PlanStep }

/**
 * Steps that did something, the last of them first: what stands on another step's rows goes before these. What a Retry did
 * came after all that was done before it, wherever it stands in the plan.
 */
function lastFirst(run: FrozenRun, done: readonly StepRun[]): Placed[] {
  // The newest attempt that did something; a Skip after it did not take that back.
  const did = (step: PlanStep) =>
    done.findLast(({ stepId, result }) => stepId === step.id && result !== null && tookEffect(step, result))
  return run.components
    .flatMap((component) =>
      inOrder(component, (step) => did(step)?.endedAt ?? "").flatMap((step) => {
        const ran = did(step)
        return ran === undefined ? [] : [{ component, step, generation: ran.generation }]
      }),
    )
    .toSorted((a, b) => a.generation - b.generation)
    .toReversed()
}

/** A component's steps as they ran: side by side, as they ended, each after what it needs. */
function inOrder({ steps, parallel }: PlanComponent, endOf: (step: PlanStep) => string): PlanStep[] {
  if (!parallel) return steps
  const byEnd = steps.toSorted((a, b) => (endOf(a) < endOf(b) ? -1 : Number(endOf(a) > endOf(b))))
  const sorted = sortByNeeds(byEnd)
  return "order" in sorted ? sorted.order.flatMap((id) => steps.find((step) => step.id === id) ?? []) : byEnd
}

/** Components of the undo. One whose steps another stood between comes twice. */
function togetherAgain(steps: readonly Placed[]): PlanComponent[] {
  const components: PlanComponent[] = []
  for (const { component, step } of steps) {
    const last = components.at(-1)
    if (last?.id === component.id) last.steps.push(step)
    else components.push({ ...component, optional: false, parallel: false, needs: [], steps: [step] })
  }
  return components
}

function wayBack(step: PlanStep, rollbackId: string): PlanStep | null {
  const common = {
    id: `undo-${step.id}`,
    title: `Undo: ${step.title.replace(/^Undo: /, "")}`,
    // Giving back is one statement per table, however many batches the taking was.
    timeoutMs: Math.max(step.timeoutMs, step.effect === "transactional" ? 600_000 : 60_000),
    retries: step.retries,
    needs: [],
    onFailure: "stop" as const,
    irreversible: null,
  }
  switch (step.kind) {
    case "sql":
    case "restore":
    case "purge":
    case "undo":
      return step.irreversible === null
        ? { ...common, kind: "undo", effect: "transactional", ofRollback: rollbackId, ofStep: step.id }
        : null
    case "command":
      return step.undo === null
        ? null
        : // Another program: the exit code that the step's own should end with says nothing of it.
          { ...step, ...common, command: step.undo, capture: {}, expect: { exit: 0, stdout: null } }
    case "http":
      return step.undo === null
        ? null
        : {
            ...step,
            ...common,
            method: step.undo.method,
            path: step.undo.path,
            headers: step.undo.headers,
            json: step.undo.json,
            body: null,
            capture: {},
            expect: { status: null, json: {}, underMs: null, matches: null },
            undo: null,
          }
    case "workflow":
      return step.undo === null ? null : { ...step, ...common, inputs: step.undo, undo: null }
    default:
      return null
  }
}
