import { setTimeout as pause } from "node:timers/promises"
import pg, { type CustomTypesConfig, type PoolClient } from "pg"
import { isPassing } from "../errors.ts"
import type { CheckStep } from "../plans/plan.ts"
import type { StepResult } from "../rollback/facts.ts"
import { mismatch, textOf } from "./expect.ts"
import { lockHolders } from "./locks.ts"
import { hidden, shorten } from "./shown.ts"
import {
  allowedRows,
  describeRange,
  elapsed,
  failure,
  rehearsed,
  sqlFailure,
  stepResult,
  type RunContext,
  type StepContext,
  type StepType,
} from "./step.ts"
import { looking, statement } from "./target.ts"

/** One read-only query and what it should say. */
export const checkStep: StepType<CheckStep> = {
  async rehearse(step, context) {
    const result = await ask(step, context, false)
    if (result.failure && result.failure.code !== "expectation")
      return rehearsed(step.id, {
        outcome: "unknown",
        note: `${result.failure.code} ${result.failure.message}`,
        ms: result.ms,
      })
    return rehearsed(step.id, {
      holds: result.outcome === "succeeded",
      rows: result.rows,
      note: result.failure?.message ?? result.evidence[0] ?? null,
      ms: result.ms,
    })
  },
  run: (step, context) => ask(step, context, true),
}

/** How long a database that is away is waited for. */
const patienceMs = 90_000

async function ask(step: CheckStep, context: StepContext, patient: boolean): Promise<StepResult> {
  const started = performance.now()
  // The rehearsal has nothing to compare with: it gives the numbers.
  const asked = patient ? context : { ...context, rehearsed: undefined }
  const { pool } = context.target
  if (!pool)
    return stepResult({ outcome: "failed", failure: failure("no_database", "the plan's target has no database") })
  for (let attempt = 1; ; attempt++) {
    try {
      const result = await looking(pool, step.timeoutMs, (client) => read(client, step, asked))
      return { ...result, ms: elapsed(started), attempts: attempt }
    } catch (error) {
      if (patient && isPassing(error) && elapsed(started) < patienceMs && !context.signal.aborted) {
        await pause(Math.min(100 * 2 ** attempt, 2_000))
        continue
      }
      const seen = sqlFailure(error, step.sql, context)
      if (seen.code === "55P03") seen.detail = await lockHolders(context)
      return stepResult({
        outcome: "failed",
        failure: seen,
        ms: elapsed(started),
      })
    }
  }
}

/** Integers, numbers and moments that JavaScript would round: what is captured goes into later statements as it was. */
const textual = new Set([20, 700, 701, 1082, 1083, 1114, 1184, 1186, 1266, 1700])
// pg's types name the oids that it knows; the server has more.
const defaultParser = pg.types.getTypeParser as (oid: number, format?: "text") => (text: string) => unknown

const exact: CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: "text") =>
    textual.has(oid) ? String : defaultParser(oid, format)) as CustomTypesConfig["getTypeParser"],
}

/** Rows that are read at the most; a check that returns more is still counted. */
const rowsRead = 1_000

async function read(client: PoolClient, step: CheckStep, context: StepContext): Promise<StepResult> {
  const values = step.params.map((name) => context.values[name] ?? "")
  const result = await statement(client, step.sql, values, exact)
  const rows = result.rows as Record<string, unknown>[]
  const first = rows[0]
  const wrong = complaints(step, rows, context)
  const captures: Record<string, string> = {}
  for (const [name, column] of Object.entries(step.capture)) {
    if (first && column in first) captures[name] = textOf(first[column])
    else wrong.push(`there is no ${column} to capture`)
  }
  const count = rows.length === 1 ? "1 row" : `${rows.length} rows`
  const seen = first === undefined ? "" : `: ${describeRow(first, context)}`
  return stepResult({
    outcome: wrong.length === 0 ? "succeeded" : "failed",
    rows: rows.length,
    captures,
    evidence: [context.secrets.redact(`${count}${seen}${rows.length > 1 ? " …" : ""}`)],
    failure:
      wrong.length === 0
        ? null
        : failure(
            unrehearsed(step, context) ? "not_rehearsed" : "expectation",
            context.secrets.redact(wrong.join("; ")),
            { statement: step.sql },
          ),
  })
}

function rowsAllowed(step: CheckStep, context: StepContext | RunContext): { min: number; max: number } | null {
  const seen = "rehearsed" in context ? (context.rehearsed?.rows ?? null) : null
  return step.expect.rows === null ? null : allowedRows(step.expect.rows, seen)
}

/** Only a run has numbers to compare with; the rehearsal is what gives them. */
function unrehearsed(step: CheckStep, context: StepContext | RunContext): boolean {
  return (
    step.expect.rows !== null &&
    "rehearsed" in context &&
    context.rehearsed !== undefined &&
    rowsAllowed(step, context) === null
  )
}

function complaints(step: CheckStep, rows: Record<string, unknown>[], context: StepContext): string[] {
  const wrong: string[] = []
  const { expect } = step
  const allowed = rowsAllowed(step, context)
  if (unrehearsed(step, context)) wrong.push("how many rows to expect was not known when this was approved")
  else if (allowed !== null && (rows.length < allowed.min || rows.length > allowed.max))
    wrong.push(`${rows.length} rows, ${describeRange(allowed)} expected`)
  for (const [column, expected] of Object.entries(expect.values)) {
    const first = rows[0]
    if (!first) wrong.push(`no row, so ${column} is nothing`)
    else if (!(column in first)) wrong.push(`the query has no column ${column}`)
    else {
      const complaint = mismatch(column, first[column], expected, context.values, context.secrets.redact)
      if (complaint) wrong.push(context.redact.includes(column) ? `${column} is not as expected` : complaint)
    }
  }
  if (expect.matches !== null) {
    const pattern = new RegExp(expect.matches)
    const found = rows.slice(0, rowsRead).some((row) => pattern.test(Object.values(row).map(textOf).join(" ")))
    if (!found) wrong.push(`no row matches /${expect.matches}/`)
  }
  return wrong
}

function describeRow(row: Record<string, unknown>, context: StepContext): string {
  return Object.entries(row)
    .map(
      ([column, value]) =>
        `${column} = ${context.redact.includes(column) ? hidden : shorten(context.secrets.redact(textOf(value)), 80)}`,
    )
    .join(", ")
}
