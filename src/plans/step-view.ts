import { knownLater, type ComponentView, type StepView } from "../rollback/facts.ts"
import type { FrozenRun } from "./frozen.ts"
import type { PlanComponent, PlanStep, PurgeStep } from "./plan.ts"
import { commandLine, curlLine, workflowLine } from "./shell-line.ts"
import { replaceParameters } from "./sql-tokens.ts"
import { namesIn, type Values } from "./values.ts"

/** Steps as people read them. `${NAME}` stays a name: no secret is resolved here. */
export function componentViews(
  run: Pick<FrozenRun, "components" | "parameters" | "commits" | "hide"> & { target: { http: string | null } },
): ComponentView[] {
  return run.components.map((component) => ({
    id: component.id,
    title: component.title,
    risk: component.risk,
    rtoMs: component.rtoMs,
    steps: component.steps.map((step) =>
      stepView(step, { ...run.parameters, ...shownOf(run, step.id) }, run.target.http),
    ),
  }))
}

function shownOf({ commits, hide = [] }: Pick<FrozenRun, "commits" | "hide">, stepId: string): Values {
  return Object.fromEntries(Object.entries(commits[stepId] ?? {}).filter(([name]) => !hide.includes(name)))
}

export function planViews(
  { components, target }: { components: PlanComponent[]; target: { http: string | null } },
  parameters: Values,
): ComponentView[] {
  return componentViews({ components, parameters: { ...parameters }, commits: {}, target })
}

/** `http` is where the requests of its plan go. */
export function stepView(step: PlanStep, values: Values, http: string | null): StepView {
  return {
    id: step.id,
    title: step.title,
    kind: step.kind,
    effect: step.effect,
    irreversible: step.irreversible,
    script: scriptOf(step),
    bindings: bindingsOf(step, values),
    paste: pasteOf(step, values, http),
    count: countOf(step, values),
    asks: step.onFailure === "ask",
    goesOn: step.onFailure === "continue",
    informative:
      step.kind === "check" &&
      Object.keys(step.expect.values).length === 0 &&
      step.expect.matches === null &&
      Object.keys(step.capture).length === 0,
  }
}

function scriptOf(step: PlanStep): string {
  switch (step.kind) {
    case "sql":
    case "check":
      return step.sql.trim()
    case "http":
      return [
        `${step.method} ${step.path}`,
        step.json === null || step.json === undefined ? step.body : JSON.stringify(step.json),
      ]
        .filter((part) => part !== null)
        .join("\n")
    case "command":
      return step.command.map((part) => (/[\s'"]/.test(part) ? JSON.stringify(part) : part)).join(" ")
    case "restore":
      return `put ${step.keys === null ? "rows" : step.keys.join(", ")} of ${step.table} back to the baseline${
        step.after === null ? "" : `: what had changed by the snapshot "${step.after}" and has not changed since`
      }`
    case "purge":
      return `archive and delete from ${step.table} where ${step.where}`
    case "workflow":
      return [
        `${step.repo} ${step.file} at ${step.ref}`,
        ...Object.entries(step.inputs).map(([name, value]) => `${name}: ${value}`),
      ].join("\n")
    case "manual":
      return step.instruction
    case "undo":
      return `give back what step ${step.ofStep} replaced, as it was kept`
  }
}

function bindingsOf(step: PlanStep, values: Values): string[] {
  const show = (name: string) => (name in values ? JSON.stringify(values[name]) : knownLater)
  if (step.kind === "sql" || step.kind === "check" || step.kind === "purge")
    return step.params.map((name, index) => `$${index + 1} = ${name} = ${show(name)}`)
  return [...new Set(namesIn(scriptOf(step)))].map((name) => `$${name} = ${show(name)}`)
}

/** What a person does in the step's place: statements for psql, a line for a shell. */
function pasteOf(step: PlanStep, values: Values, http: string | null): string | null {
  switch (step.kind) {
    case "sql":
    case "check":
      return pasteable(step.sql, step.params, values)
    case "purge":
      return purgeByHand(step, values)
    case "http":
      return curlLine(step, http, values)
    case "command":
      return commandLine(step, values)
    case "workflow":
      return workflowLine(step, values)
    default:
      return null
  }
}

/**
 * The rows are kept and removed in one transaction in which nobody else writes, and nothing happens when they are more
 * than the plan allows or when others would go along. What keeps those too is longer: `plan show --sql` has it.
 */
function purgeByHand(step: PurgeStep, values: Values): string {
  const elsewhere = "stepback plan show ENVIRONMENT --sql prints what keeps them too"
  if (step.cascade.length > 0)
    return `-- rows of ${step.cascade.join(", ")} go along: ${elsewhere}; this only counts\n${countOf(step, values) ?? ""}`
  const kept = `stepback_by_hand_${step.id.replaceAll("-", "_")}`
  const name = tableName(step)
  const table = sqlLiteral(name)
  const raise = (text: string) => `raise exception ${sqlLiteral(`${text}: nothing is changed`)};`
  return [
    "begin;",
    `lock table ${name} in share row exclusive mode;`,
    "set local timezone = 'UTC';",
    pasteable(`create table ${kept} as select * from ${name} where ${step.where}`, step.params, values),
    [
      `do $$ begin if (select count(*) from ${kept}) > ${step.atMost} then ${raise(`more than ${step.atMost} rows match`)} end if;`,
      `if exists (select from pg_constraint where contype = 'f' and confdeltype in ('c', 'n', 'd') and (confrelid = ${table}::regclass`,
      `or confrelid in (select t.relid from pg_partition_tree(${table}::regclass) t)))`,
      `or exists (select from pg_inherits join pg_class on oid = inhparent where inhparent = ${table}::regclass and relkind = 'r')`,
      `then ${raise(`rows of other tables would go along, and ${elsewhere}`)} end if; end $$;`,
    ].join(" "),
    pasteable(`delete from ${name} where ${step.where}`, step.params, values),
    "commit;",
  ].join("\n")
}

/** Without quotes capitals would be small ones, and the name that of another table. */
function tableName({ table }: PurgeStep): string {
  return table
    .split(".")
    .map((part) => (/[A-Z]/.test(part) ? `"${part}"` : part))
    .join(".")
}

/** What tells how many rows a step would meet now, for looking before anything is decided. */
function countOf(step: PlanStep, values: Values): string | null {
  if (step.kind === "purge")
    return pasteable(`select count(*) from ${tableName(step)} where ${step.where}`, step.params, values)
  if (step.kind !== "sql" || step.facts.matching === null) return null
  const head = step.facts.with === null ? "" : `${step.facts.with} `
  return pasteable(`${head}select count(*) ${step.facts.matching}`, step.params, values)
}

/** A value as a SQL literal, for statements that people paste. */
export function sqlLiteral(value: string): string {
  const quoted = `'${value.replaceAll("'", "''")}'`
  return value.includes("\\") ? `E${quoted.replaceAll("\\", "\\\\")}` : quoted
}

/** The statement with its parameters as literals: for pasting, never for running from here. */
export function pasteable(sql: string, params: readonly string[], values: Values): string {
  const text = replaceParameters(sql.trim().replace(/;\s*$/, ""), (number) => {
    const name = params[number - 1] ?? ""
    const value = values[name]
    return value === undefined ? `:'${name}'` : sqlLiteral(value)
  })
  // A line comment at its end would swallow the semicolon.
  return text.slice(text.lastIndexOf("\n") + 1).includes("--") ? `${text}\n;` : `${text};`
}
