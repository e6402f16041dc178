import { listSteps } from "./finding.ts"
import type { Finding } from "./finding.ts"
import { STEP_KINDS } from "./not-yet.ts"
import type { WrittenPlan } from "./schema.ts"
import { getStepKind } from "./step-schema.ts"

/** What the language knows and the program does not run yet. */
export function checkSupport(plan: WrittenPlan, notYet: ReadonlySet<string>): Finding[] {
  const supported = STEP_KINDS.filter((kind) => !notYet.has(kind)).join(", ")
  const findings = listSteps(plan).flatMap(({ step, path }): Finding[] => {
    const kind = getStepKind(step)
    const isAsking = step.on_failure === "ask" && notYet.has("on_failure: ask")
    return [
      ...(notYet.has(kind)
        ? [
            {
              path: [...path, kind],
              want: "key" as const,
              message: `step kind "${kind}" is not supported yet; supported: ${supported}`,
            },
          ]
        : []),
      ...(isAsking
        ? [
            {
              path: [...path, "on_failure"],
              message: "on_failure: ask is not supported yet; supported: stop, continue",
            },
          ]
        : []),
    ]
  })
  for (const key of ["watch", "baseline"] as const) {
    if (plan[key] && notYet.has(key))
      findings.push({ path: [key], want: "key", message: `"${key}" is not supported yet: leave it out` })
  }
  const hasHook = plan.escalate?.hook && notYet.has("hook")
  return hasHook
    ? [...findings, { path: ["escalate", "hook"], want: "key", message: '"hook" is not supported yet: leave it out' }]
    : findings
}
