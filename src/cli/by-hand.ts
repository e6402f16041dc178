import type { CheckStep, Plan, PlanComponent, PlanStep } from "../plans/plan.ts"
import { commandLine, curlLine, workflowLine } from "../plans/shell-line.ts"
import { pasteable, sqlLiteral } from "../plans/step-view.ts"
import type { Values } from "../plans/values.ts"
import { qualified } from "../steps/catalog.ts"
import { guardProcedure, keepAndWrite, type Write } from "./by-hand-sql.ts"
import { expectation } from "./expectation.ts"

export type ByHand = { plan: Plan; components: PlanComponent[]; parameters: Values; digest: string }

/**
 * The plan as a script for people without the bot: psql runs it from top to bottom, and every part of it can be pasted.
 * In the plan's own order, since later statements may need what a request before them did. Secrets stay `${NAME}`.
 */
export function byHand({ plan, components, parameters, digest }: ByHand): string {
  const lines = [...head(plan, components, digest), ...preparation(plan, components)]
  let writes: Write[] = []
  let behindOutside = false
  const flush = () => {
    if (writes.length > 0) lines.push(...transaction(plan.environment, writes, parameters, behindOutside))
    writes = []
  }
  for (const component of components) {
    flush()
    behindOutside = false
    lines.push("", comment(`---- ${component.title} (${component.id})`))
    for (const step of component.steps) {
      if (step.kind === "sql" || step.kind === "purge") {
        writes.push(step)
        continue
      }
      flush()
      behindOutside ||= step.effect !== "none"
      lines.push("", ...stepLines(step, plan, parameters))
    }
  }
  flush()
  return lines.join("\n")
}

/** What a statement means depends on them: as a run has them, whatever is set for the role or the database. */
const meanings = ["timezone = 'UTC'", "datestyle = 'ISO, YMD'", "standard_conforming_strings = on"]

/** Any text as a comment of SQL: no line break of it gets out. */
function comment(text: string): string {
  return text
    .split(/\r\n|[\r\n\u2028\u2029]/)
    .map((line) => `-- ${line}`.trimEnd())
    .join("\n")
}

function head(plan: Plan, components: PlanComponent[], digest: string): string[] {
  const outside = components.some((component) =>
    component.steps.some((step) => ["http", "command", "workflow"].includes(step.kind)),
  )
  return [
    comment(`${plan.title} (${plan.environment}), by hand`),
    comment(`plan and parameters: sha256 ${digest}`),
    ...(plan.notes === null ? [] : [comment(plan.notes)]),
    "--",
    comment(`psql runs this as it is:  psql "${plan.target.postgres ?? "the target"}" -f this-file.sql`),
    "-- In another editor leave out the lines that begin with a backslash, and put a value for each :'name'.",
    "-- Each transaction keeps the rows as they were in the schema stepback_by_hand, and ends without a change when",
    "-- the rows are not as many as expected.",
    ...(outside ? ['-- Lines that begin with "-- $" are for a shell, at that point of the order.'] : []),
    "",
    "\\set ON_ERROR_STOP on",
    ...meanings.map((setting) => `set ${setting};`),
  ]
}

function preparation(plan: Plan, components: PlanComponent[]): string[] {
  const expected = plan.target.expect.database
  const guarded = components.some((component) =>
    component.steps.some((step) => step.kind === "purge" || (step.kind === "sql" && step.facts.verb !== "insert")),
  )
  return [
    ...(expected === null
      ? []
      : [
          "",
          "-- The right database?",
          `do $$ begin if current_database() <> ${sqlLiteral(expected)} then raise exception 'this is database %, and the plan is for another', current_database(); end if; end $$;`,
        ]),
    ...(guarded
      ? [
          "",
          "-- The right role? The workers' own may not create a schema where it has no more than a plan needs.",
          "do $$ begin if not has_database_privilege(current_database(), 'create') then raise exception '% may not create the schema in which the rows are kept: run this as an owner of the database', current_user; end if; end $$;",
          "",
          "-- Once: where the rows are kept, and what looks at them before anything changes.",
          guardProcedure,
        ]
      : []),
  ]
}

function transaction(environment: string, steps: Write[], values: Values, behindOutside: boolean): string[] {
  return [
    "",
    ...(behindOutside
      ? ["-- Fewer rows are taken too: there are none to find while the shell lines above were not run."]
      : []),
    "begin;",
    "set local lock_timeout = '5s';",
    "set local row_security = off;",
    ...meanings.map((setting) => `set local ${setting};`),
    ...steps.flatMap((step) => ["", heading(step, values), ...keepAndWrite(environment, step, values, behindOutside)]),
    "",
    "commit;",
  ]
}

function heading(step: PlanStep, values: Values): string {
  const expected = expectation(step, values)
  return comment(`${step.title} (${step.id})${expected === null ? "" : `: expects ${expected}`}`)
}

function stepLines(step: PlanStep, plan: Plan, values: Values): string[] {
  switch (step.kind) {
    case "check":
      return [heading(step, values), ...checkLines(step, values)]
    case "http":
      return [
        heading(step, values),
        comment(`$ ${curlLine(step, plan.target.http, values)}`),
        ...captured(step.capture),
      ]
    case "command":
      return [heading(step, values), comment(`$ ${commandLine(step, values)}`), ...captured(step.capture)]
    case "workflow":
      return [heading(step, values), comment(`$ ${workflowLine(step, values)}`)]
    case "restore":
      return [
        heading(step, values),
        comment(
          `what ${step.table} was is in the baseline:  stepback baseline diff ${plan.environment}  says which rows differ`,
        ),
      ]
    case "manual":
      return [heading(step, values), comment(step.instruction)]
    default:
      return [heading(step, values), comment(`a step of kind ${step.kind} cannot be done by hand`)]
  }
}

/** What a program or a request gives must be told to psql by the person. */
function captured(capture: Record<string, string>): string[] {
  return Object.entries(capture).map(([name, from]) =>
    comment(`its ${from} is needed below:  \\set ${name} 'the value'`),
  )
}

function checkLines(step: CheckStep, values: Values): string[] {
  const statement = pasteable(step.sql, step.params, values)
  const names = Object.entries(step.capture)
  if (names.length === 0) return [statement]
  const columns = names.map(([name, column]) => `captured.${qualified(null, column)} as ${qualified(null, name)}`)
  return [
    `select ${columns.join(", ")} from (`,
    // A line of its own for what follows: the query may end in a comment.
    statement.slice(0, -1),
    ") as captured \\gset",
    ...names.map(([name]) => `\\echo ${name}=:'${name}'`),
  ]
}
