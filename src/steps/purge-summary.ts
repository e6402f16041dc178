import type { PurgeStep } from "../plans/plan.ts"
import type { Failure, StepResult } from "../rollback/facts.ts"
import { countFamily, countProblem } from "./purge-counts.ts"
import { cutLoose, type Mark } from "./purge-batch.ts"
import type { Family } from "./purge-family.ts"
import { failure, stepResult, type RunContext } from "./step.ts"
import { looking } from "./target.ts"

function affected(mark: Mark): StepResult["affected"] {
  return Object.entries(mark.removed).map(([table, rows]) =>
    table.startsWith(cutLoose)
      ? { table: table.slice(cutLoose.length), did: "changed" as const, rows }
      : { table, did: "removed" as const, rows },
  )
}

/** The end of a purge that did not come to its own: what it removed until then stands, and can be undone. */
export function brokenOff(step: PurgeStep, family: Family, mark: Mark, why: Failure): StepResult {
  const rows = mark.removed[family.root.table.name] ?? 0
  return stepResult({
    outcome: "failed",
    rows: mark.batch === 0 ? null : rows,
    affected: affected(mark),
    evidence: mark.batch === 0 ? [] : [`${rows} rows of ${step.table} archived and removed so far`],
    failure: why,
  })
}

export async function summary(
  step: PurgeStep,
  family: Family,
  { mark, clean }: { mark: Mark; clean: boolean },
  values: readonly unknown[],
  context: RunContext,
): Promise<StepResult> {
  const rows = mark.removed[family.root.table.name] ?? 0
  const pool = context.target.pool
  const left =
    pool === null || clean
      ? 0
      : (await looking(pool, step.timeoutMs, (client) => countFamily(client, family, step, values))).rows
  const others = Object.entries(mark.removed).filter(([table]) => table !== family.root.table.name)
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
    affected: affected(mark),
    issues: left > 0 ? [`${left} rows of ${step.table} arrived meanwhile and were left`] : [],
    evidence: [
      `${rows} rows of ${step.table} archived and removed in ${mark.batch === 1 ? "1 batch" : `${mark.batch} batches`}`,
      ...others.map(([table, count]) =>
        table.startsWith(cutLoose)
          ? `${count} rows of ${table.slice(cutLoose.length)} lost their parent`
          : `${count} rows of ${table} with them`,
      ),
      ...(left > 0 ? [`${left} rows arrived meanwhile and were left`] : []),
    ],
  })
}
