import { readdir, readFile, stat } from "node:fs/promises"
import { join } from "node:path"
import { checkEnvironment, checkName } from "./check-environment.ts"
import { checkNames, warnNames } from "./check-names.ts"
import { checkParams } from "./check-params.ts"
import { checkPolicy } from "./check-policy.ts"
import { checkReferences } from "./check-references.ts"
import { checkSql } from "./check-sql.ts"
import { checkSteps } from "./check-steps.ts"
import { toProblem } from "./finding.ts"
import { sha256 } from "./frozen.ts"
import { describeIssues } from "./issues.ts"
import { followsFrom, mend } from "./mend.ts"
import { normalisePlan } from "./normalise.ts"
import type { LoadedPlan, Problem } from "./plan.ts"
import { planSchema } from "./schema.ts"
import type { WrittenPlan } from "./schema.ts"
import { locate, readYaml } from "./yaml-source.ts"
import type { YamlSource } from "./yaml-source.ts"

/** `plan` is null exactly when there are problems. Warnings do not stand in the way. */
export type CheckedPlan = { plan: LoadedPlan | null; problems: Problem[]; warnings: Problem[] }

export type InvalidPlan = { file: string; environment: string | null; problems: Problem[] }
export type LoadedPlans = { plans: Map<string, LoadedPlan>; invalid: InvalidPlan[] }

const LARGEST = 1_000_000
const MOST_PROBLEMS = 100

/** Validates a plan file. Whatever is wrong with the file is a problem, never a throw. */
export async function checkPlanFile(file: string): Promise<CheckedPlan> {
  const read = await readPlanFile(file)
  return "source" in read ? checkPlanSource(file, read.source) : refuse([read.problem])
}

/** Validates the text of a plan file. `file` is the name that problems carry. */
export async function checkPlanSource(file: string, source: string): Promise<CheckedPlan> {
  try {
    return await checkSource(file, source)
  } catch (error) {
    // Depth that exhausts the stack ends here; nothing in a file may end the process.
    const message = error instanceof Error ? error.message : String(error)
    return refuse([{ file, line: 1, column: 1, message: `the plan cannot be read: ${message}` }])
  }
}

async function checkSource(file: string, source: string): Promise<CheckedPlan> {
  const read = readYaml(file, source)
  if ("problems" in read) return refuse(read.problems)
  const { yaml } = read
  const parsed = planSchema.safeParse(yaml.value)
  if (!parsed.success) {
    const { issues } = parsed.error
    return refuse([...describeIssues(yaml, issues), ...(await checkRest(yaml, issues))])
  }
  const written = parsed.data
  const sql = await checkSql(written, yaml)
  const findings = [...checkWritten(written, yaml), ...sql.findings]
  const warnings = [...warnNames(written), ...sql.warnings].map((warning) => toProblem(yaml, warning))
  if (findings.length > 0) return { ...refuse(findings.map((finding) => toProblem(yaml, finding))), warnings }
  return {
    plan: { plan: normalisePlan(written, sql.facts), file, source, sha256: sha256(source) },
    problems: [],
    warnings,
  }
}

/** What can be said beside what the schema refuses, so that one round names all of it; nothing that follows from that. */
async function checkRest(yaml: YamlSource, issues: Parameters<typeof mend>[1]): Promise<Problem[]> {
  const { value, changed } = mend(yaml.value, issues)
  const parsed = planSchema.safeParse(value)
  if (!parsed.success) return []
  const { findings } = await checkSql(parsed.data, yaml)
  return [...findings, ...checkWritten(parsed.data, yaml)]
    .filter((finding) => !followsFrom(finding, changed))
    .map((finding) => toProblem(yaml, finding))
}

function checkWritten(written: WrittenPlan, yaml: YamlSource) {
  return [
    ...checkPolicy(written),
    ...checkParams(written),
    ...checkNames(written),
    ...checkSteps(written),
    ...checkReferences(written),
    ...checkEnvironment(yaml.value),
    ...checkName(written.environment),
  ]
}

function refuse(problems: readonly Problem[]): CheckedPlan {
  const sorted = problems.toSorted((a, b) => a.line - b.line || a.column - b.column)
  const isNew = (problem: Problem, index: number) =>
    sorted.findIndex(
      (other) => other.line === problem.line && other.column === problem.column && other.message === problem.message,
    ) === index
  return { plan: null, problems: sorted.slice(0, MOST_PROBLEMS).filter(isNew), warnings: [] }
}

/** Loads all plans of a folder by environment. An invalid plan takes nothing from the others. */
export async function loadPlans(folder: string): Promise<LoadedPlans> {
  const result: LoadedPlans = { plans: new Map(), invalid: [] }
  let names: string[]
  try {
    names = (await readdir(folder)).filter((name) => /^[^.].*\.ya?ml$/.test(name)).toSorted()
  } catch (error) {
    const message = `the folder of plans cannot be read: ${describe(error)}`
    return {
      ...result,
      invalid: [{ file: folder, environment: null, problems: [{ file: folder, line: 1, column: 1, message }] }],
    }
  }
  const claims: {
    file: string
    environment: string | null
    place: { line: number; column: number }
    checked: CheckedPlan
  }[] = []
  for (const name of names) claims.push(await claim(join(folder, name)))
  for (const { file, environment, place, checked } of claims) {
    const rivals = claims.filter(
      (other) => other.environment === environment && other.file !== file && environment !== null,
    )
    const message = `environment "${environment}" is also that of ${rivals.map((rival) => rival.file).join(" and ")}: one file for each`
    const problems = rivals.length > 0 ? [...checked.problems, { file, ...place, message }] : checked.problems
    if (checked.plan && problems.length === 0) result.plans.set(checked.plan.plan.environment, checked.plan)
    else result.invalid.push({ file, environment, problems })
  }
  return result
}

/** One file, and the environment that it claims even when the rest of it is invalid. */
async function claim(file: string) {
  const read = await readPlanFile(file)
  const none = { file, environment: null, place: { line: 1, column: 1 } }
  if ("problem" in read) return { ...none, checked: refuse([read.problem]) }
  const checked = await checkPlanSource(file, read.source)
  const yaml = readYaml(file, read.source)
  const environment = "yaml" in yaml ? findEnvironment(yaml.yaml.value) : null
  if (!("yaml" in yaml) || environment === null) return { ...none, checked }
  return { file, environment, place: locate(yaml.yaml, ["environment"]), checked }
}

function findEnvironment(value: unknown): string | null {
  if (typeof value !== "object" || value === null || !("environment" in value)) return null
  const { environment } = value
  return typeof environment === "string" && /^[a-z0-9_-]{1,40}$/.test(environment) ? environment : null
}

async function readPlanFile(file: string): Promise<{ source: string } | { problem: Problem }> {
  const refusal = (message: string) => ({ problem: { file, line: 1, column: 1, message } })
  try {
    const found = await stat(file)
    if (!found.isFile()) return refusal("not a file")
    if (found.size > LARGEST) return refusal(`the file has ${found.size} bytes, more than a plan's ${LARGEST}`)
    const bytes = await readFile(file)
    if (bytes.includes(0)) return refusal("the file is binary, not text")
    return { source: new TextDecoder("utf-8", { fatal: true }).decode(bytes) }
  } catch (error) {
    return refusal(
      error instanceof TypeError ? "the file is not UTF-8 text" : `the file cannot be read: ${describe(error)}`,
    )
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
