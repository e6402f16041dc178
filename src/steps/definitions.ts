import type { PlanStep } from "../plans/plan.ts"
import type { RehearsedStep, StepResult } from "../rollback/facts.ts"
import { checkStep } from "./check.ts"
import { commandStep } from "./command.ts"
import { httpStep } from "./http.ts"
import { manualStep } from "./manual.ts"
import { purgeStep } from "./purge.ts"
import { restoreStep } from "./restore.ts"
import { sqlStep } from "./sql.ts"
import { undoStep } from "./undo.ts"
import { workflowStep } from "./workflow.ts"
import type { RunContext, StepContext } from "./step.ts"

/** Looks at what a step would do. Never has an effect. */
export async function rehearseStep(step: PlanStep, context: StepContext): Promise<RehearsedStep> {
  switch (step.kind) {
    case "sql":
      return sqlStep.rehearse(step, context)
    case "check":
      return checkStep.rehearse(step, context)
    case "http":
      return httpStep.rehearse(step, context)
    case "command":
      return commandStep.rehearse(step, context)
    case "purge":
      return purgeStep.rehearse(step, context)
    case "restore":
      return restoreStep.rehearse(step, context)
    case "undo":
      return undoStep.rehearse(step, context)
    case "workflow":
      return workflowStep.rehearse(step, context)
    case "manual":
      return manualStep.rehearse(step, context)
  }
}

export async function runStep(step: PlanStep, context: RunContext): Promise<StepResult> {
  switch (step.kind) {
    case "sql":
      return sqlStep.run(step, context)
    case "check":
      return checkStep.run(step, context)
    case "http":
      return httpStep.run(step, context)
    case "command":
      return commandStep.run(step, context)
    case "purge":
      return purgeStep.run(step, context)
    case "restore":
      return restoreStep.run(step, context)
    case "undo":
      return undoStep.run(step, context)
    case "workflow":
      return workflowStep.run(step, context)
    case "manual":
      return manualStep.run(step, context)
  }
}
