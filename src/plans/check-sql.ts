import { listSteps } from "./finding.ts"
import type { Finding, StepPlace } from "./finding.ts"
import type { StatementFacts } from "./plan.ts"
import type { WrittenPlan } from "./schema.ts"
import { hasSwallowedComment } from "./sql-place.ts"
import { describeCondition, describeStatement } from "./statements.ts"
import type { Path, YamlSource } from "./yaml-source.ts"

export type SqlCheck = { findings: Finding[]; warnings: Finding[]; facts: Map<string, StatementFacts> }

/**
 * Reads every statement of a plan. `facts` has an entry for each `sql` step whose statement is in order, and for each
 * purge whose condition reads its own table.
 */
export async function checkSql(plan: WrittenPlan, yaml: YamlSource): Promise<SqlCheck> {
  const result: SqlCheck = { findings: [], warnings: [], facts: new Map() }
  for (const place of listSteps(plan)) await checkStepSql(place, yaml, result)
  return result
}

async function checkStepSql({ step, path }: StepPlace, yaml: YamlSource, result: SqlCheck): Promise<void> {
  if (!("sql" in step || "check" in step || "purge" in step)) return
  const place: Path = [...path, ...("sql" in step ? ["sql"] : "check" in step ? ["check"] : ["purge", "where"])]
  const { findings } = result
  if (hasSwallowedComment(yaml, place)) {
    const message = `"${String(place.at(-1))}" ends at " #", and the rest of the line is a comment: put the SQL in quotes or under |`
    findings.push({ path: place, message })
    return
  }
  const described =
    "purge" in step
      ? await describeCondition(step.purge.table, step.purge.where, step.purge.cascade)
      : await describeStatement("sql" in step ? step.sql : step.check, "sql" in step ? "sql" : "check")
  if ("error" in described) {
    findings.push({ path: place, message: described.error, position: described.position })
    return
  }
  const { facts, obstacles, warnings } = described
  const reads = "reads" in described ? (described.reads as string[]) : []
  result.warnings.push(...warnings.map((message) => ({ path: place, message })))
  findings.push(...checkParameterCount(facts.parameters, step.params ?? [], path, place))
  if ("sql" in step && !facts.reversible && step.irreversible === undefined) {
    const message = `cannot be taken back because ${obstacles.join(" and ")}: write it without, or add irreversible: <reason>`
    findings.push({ path: place, message })
  }
  if ("sql" in step || reads.length > 0) result.facts.set(step.id, facts)
  if ("purge" in step && reads.length > 0) {
    const what = reads.includes(step.purge.table) ? `${step.purge.table} itself` : reads.join(", ")
    const message = `reads ${what}, so its rows go in one transaction: others who write to them wait for all of it`
    result.warnings.push({ path: place, message })
  }
}

function checkParameterCount(used: number, named: readonly string[], path: Path, place: Path): Finding[] {
  if (used === named.length) return []
  const wanted = used === 0 ? "uses no parameter" : `uses ${used === 1 ? "$1" : `$1 to $${used}`}`
  const given = named.length === 0 ? "params names none" : `params names ${named.length} (${named.join(", ")})`
  const message = `the statement ${wanted}, but ${given}`
  return [{ path: named.length === 0 ? place : [...path, "params"], message }]
}
