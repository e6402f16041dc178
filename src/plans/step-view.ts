import { knownLater, type ComponentView, type StepView } from "../rollback/facts.ts"
import type { FrozenRun } from "./frozen.ts"
import type { PlanComponent, PlanStep } from "./plan.ts"
import { namesIn, type Values } from "./values.ts"

/** Steps as people read them. `${NAME}` stays a name: no secret is resolved here. */
export function componentViews(run: Pick<FrozenRun, "components" | "parameters" | "commits">): ComponentView[] {
  return run.components.map((component) => ({
    id: component.id,
    title: component.title,
    risk: component.risk,
    rtoMs: component.rtoMs,
    steps: component.steps.map((step) => stepView(step, { ...run.parameters, ...run.commits[step.id] })),
  }))
}

export function planViews(components: PlanComponent[], parameters: Values): ComponentView[] {
  return componentViews({ components, parameters: { ...parameters }, commits: {} })
}

export function stepView(step: PlanStep, values: Values): StepView {
  return {
    id: step.id,
    title: step.title,
    kind: step.kind,
    effect: step.effect,
    irreversible: step.irreversible,
    script: scriptOf(step),
    bindings: bindingsOf(step, values),
    paste: pasteOf(step, values),
    count: countOf(step, values),
    asks: step.onFailure === "ask",
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

function pasteOf(step: PlanStep, values: Values): string | null {
  if (step.kind === "sql" || step.kind === "check") return pasteable(step.sql, step.params, values)
  if (step.kind !== "purge") return null
  const rows = pasteable(`from ${step.table} where ${step.where}`, step.params, values)
  const kept = `stepback_by_hand_${step.id.replaceAll("-", "_")}`
  const lost =
    step.cascade.length === 0
      ? ""
      : `-- rows of ${step.cascade.join(", ")} go along and are not kept by this: plan show --sql prints what keeps them\n`
  return `${lost}create table ${kept} as select * ${rows}\ndelete ${rows}`
}

/** What tells how many rows a step would meet now, for looking before anything is decided. */
function countOf(step: PlanStep, values: Values): string | null {
  if (step.kind === "purge")
    return pasteable(`select count(*) from ${step.table} where ${step.where}`, step.params, values)
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
  const token = /[eE]'(?:\\.|''|[^'\\])*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(\d+)/g
  const text = sql
    .trim()
    .replace(/;\s*$/, "")
    .replace(token, (whole, number: string | undefined) => {
      if (number === undefined) return whole
      const name = params[Number(number) - 1] ?? ""
      const value = values[name]
      return value === undefined ? `:'${name}'` : sqlLiteral(value)
    })
  return `${text};`
}
