import type { PurgeStep } from "../plans/plan.ts"
import type { Failure, StepResult } from "../rollback/facts.ts"
import { countProblem } from "./purge-counts.ts"
import { cutLoose, type Progress, type Removed } from "./purge-progress.ts"
import type { Purge } from "./purge-batch.ts"
import type { Late } from "./purge-lane.ts"
import { failure, stepResult } from "./step.ts"

function affected(removed: Readonly<Removed>): StepResult["affected"] {
  return Object.entries(removed).map(([table, rows]) =>
    table.startsWith(cutLoose)
      ? { table: table.slice(cutLoose.length), did: "changed" as const, rows }
      : { table, did: "removed" as const, rows },
  )
}

/** The end of a purge that did not come to its own: what it removed until then stands, and can be undone. */
export function brokenOff(step: PurgeStep, progress: Progress, why: Failure): StepResult {
  const rows = progress.rows()
  const none = progress.batches() === 0
  return stepResult({
    outcome: "failed",
    rows: none ? null : rows,
    affected: affected(progress.removed),
    evidence: none ? [] : [`${rows} rows of ${step.table} archived and removed so far`],
    failure: why,
  })
}

/** `left`: rows that came meanwhile and stay, since more than was approved would go. */
export function summary({ step, context, progress }: Purge, { left, since }: Late): StepResult {
  const rows = progress.rows()
  const batches = progress.batches()
  const match = step.whole ? "match now" : "arrived meanwhile"
  const others = Object.entries(progress.removed).filter(([table]) => table !== progress.table)
  const unapproved = countProblem(step, context.rehearsed?.rows ?? null, rows)
  return stepResult({
    ...(unapproved
      ? {
          outcome: "failed" as const,
          failure: failure("row_count", `${rows} rows were removed, which is not what was approved`),
        }
      : {}),
    rows,
    changed: rows,
    affected: affected(progress.removed),
    issues: left > 0 ? [`${left} rows of ${step.table} ${match} and were left`] : [],
    evidence: [
      `${rows} rows of ${step.table} archived and removed in ${batches === 1 ? "1 batch" : `${batches} batches`}`,
      ...others.map(([table, count]) =>
        table.startsWith(cutLoose)
          ? `${count} rows of ${table.slice(cutLoose.length)} lost their parent`
          : `${count} rows of ${table} with them`,
      ),
      ...(left > 0 ? [`${left} rows ${match} and were left`] : []),
      ...(since ? [`rows that came after ${since} UTC were not looked for`] : []),
    ],
  })
}
