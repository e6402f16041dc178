import { findHiddenOutputs, isHidden } from "../plans/hidden-outputs.ts"
import type { FrozenRun } from "../plans/frozen.ts"
import type { CheckStep, PlanStep } from "../plans/plan.ts"
import type { Values } from "../plans/values.ts"
import type { Secrets } from "./secrets.ts"

/** Names of what a check captures from columns that are not shown. */
async function hiddenCaptures({ sql, capture }: CheckStep, redact: readonly string[]): Promise<string[]> {
  const outputs = await findHiddenOutputs(sql, redact)
  return Object.entries(capture)
    .filter(([, column]) => isHidden(column, outputs))
    .map(([name]) => name)
}

/** Names of what the checks among these steps capture from columns that are not shown. */
export async function namesToHide(steps: readonly PlanStep[], redact: readonly string[]): Promise<string[]> {
  const checks = steps.filter((step) => step.kind === "check")
  return (await Promise.all(checks.map((step) => hiddenCaptures(step, redact)))).flat()
}

/** For whoever takes a run over, or probes after it: what it captured from columns that are not shown is a secret here too. */
export async function hideCaptured(
  steps: readonly PlanStep[],
  captures: Values,
  { redact, secrets }: { redact: readonly string[]; secrets: Secrets },
): Promise<void> {
  for (const name of await namesToHide(steps, redact)) secrets.hide(captures[name] ?? "")
}

/** The same for an undo, which has them in its bytes. */
export function hideKnown({ commits, hide = [] }: Pick<FrozenRun, "commits" | "hide">, secrets: Secrets): void {
  for (const values of Object.values(commits)) for (const name of hide) secrets.hide(values[name] ?? "")
}
