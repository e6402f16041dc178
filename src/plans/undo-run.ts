import type { StepResult, StepRun } from "../rollback/facts.ts"
import type { FrozenRun } from "./frozen.ts"
import type { PlanComponent, PlanStep } from "./plan.ts"

/** What taking a run back is made of: its steps backwards, each with the values that it needs. */
export type UndoDraft = {
  components: PlanComponent[]
  /** undo step -> values: what was deployed, what was captured, commits. */
  values: Record<string, Record<string, string>>
  /** Steps that did something and have no way back. */
  without: string[]
}

/** Makes the undo of a run out of what its steps did. Steps that only looked are left out. */
export function draftUndo(run: FrozenRun, done: ReadonlyMap<string, StepRun>): UndoDraft {
  const captures = Object.assign({}, ...[...done.values()].map((step) => step.result?.captures ?? {})) as Record<
    string,
    string
  >
  const values: UndoDraft["values"] = {}
  const without: string[] = []
  const components = [...run.components].reverse().flatMap((component): PlanComponent[] => {
    const steps = [...component.steps].reverse().flatMap((step): PlanStep[] => {
      const result = done.get(step.id)?.result
      if (!result || !tookEffect(step, result)) return []
      const back = wayBack(step, run.rollbackId)
      if (!back) {
        without.push(`${step.title}: ${step.irreversible ?? "nothing to go back to is known"}`)
        return []
      }
      values[back.id] = {
        ...run.commits[step.id],
        ...captures,
        ...(result.deployedBefore === null ? {} : { deployed: result.deployedBefore }),
      }
      return [back]
    })
    return steps.length === 0 ? [] : [{ ...component, optional: false, parallel: false, needs: [], steps }]
  })
  return { components, values, without }
}

function tookEffect(step: PlanStep, result: StepResult): boolean {
  if (step.effect === "none") return false
  // A purge that was broken off has removed rows all the same.
  return result.outcome === "succeeded" || result.outcome === "unknown" || result.affected.length > 0
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
        : { ...step, ...common, command: step.undo, capture: {}, expect: { exit: step.expect.exit, stdout: null } }
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
