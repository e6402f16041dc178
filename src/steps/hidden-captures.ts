import { findHiddenOutputs } from "../plans/hidden-outputs.ts"
import type { CheckStep, PlanStep } from "../plans/plan.ts"
import type { Values } from "../plans/values.ts"
import type { Secrets } from "./secrets.ts"

/** Names of what a check captures from columns that are not shown. */
export async function hiddenCaptures({ sql, capture }: CheckStep, redact: readonly string[]): Promise<string[]> {
  const outputs = await findHiddenOutputs(sql, redact)
  return Object.entries(capture)
    .filter(([, column]) => outputs === "all" || outputs.has(column))
    .map(([name]) => name)
}

/** What was captured from columns that are not shown is a secret from then on: what later steps do may quote it. */
export async function hideCaptured(
  steps: readonly PlanStep[],
  captures: Values,
  { redact, secrets }: { redact: readonly string[]; secrets: Secrets },
): Promise<void> {
  for (const step of steps)
    if (step.kind === "check") for (const name of await hiddenCaptures(step, redact)) secrets.hide(captures[name] ?? "")
}
