import { setTimeout as pause } from "node:timers/promises"
import pg, { type CustomTypesConfig, type PoolClient } from "pg"
import { isPassing } from "../errors.ts"
import { findHiddenOutputs, isHidden, type HiddenOutputs } from "../plans/hidden-outputs.ts"
import type { CheckStep } from "../plans/plan.ts"
import { patternOf } from "../plans/values.ts"
import type { StepResult } from "../rollback/facts.ts"
import { mismatch, parseExactly, textOf } from "./expect.ts"
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
  type StepContext,
  type StepType,
} from "./step.ts"
import { looking, statement } from "./target.ts"
import { zonelessColumns } from "./zoneless.ts"

/** One read-only query and what it should say. */
export const checkStep: StepType<CheckStep> = {
  async rehearse(step, context) {
    if (!context.target.pool)
      return rehearsed(step.id, { outcome: "unknown", note: "the target database is not reachable" })
    // Without numbers to compare with it is the look that gives them.
    const result = await ask(step, { ...context, rehearsed: context.rehearsed ?? undefined }, false)
    if (result.failure && result.failure.code !== "expectation")
      return rehearsed(step.id, {
        outcome: "unknown",
        note: `${result.failure.code} ${result.failure.message}`,
        ms: result.ms,
      })
    const { pool } = context.target
    // Only said, on the card: what cannot be found out is told by the query itself. A watch asks often and says none of it.
    const warnings =
      pool && context.patient !== true
        ? await looking(pool, step.timeoutMs, (client) => zonelessColumns(client, step.sql)).catch(() => [])
        : []
    return rehearsed(step.id, {
      warnings,
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
  const { pool } = context.target
  if (!pool)
    return stepResult({ outcome: "failed", failure: failure("no_database", "the plan's target has no database") })
  for (let attempt = 1; ; attempt++) {
    try {
      const result = await looking(pool, step.timeoutMs, (client) => read(client, step, context))
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
        attempts: attempt,
      })
    }
  }
}

/** Integers, numbers and moments that JavaScript would round, and bytes: what is captured goes into later statements as it was. */
const textual = new Set([17, 20, 700, 701, 1082, 1083, 1114, 1184, 1186, 1266, 1700])
/** Lists of these. */
const textualLists = new Set([1001, 1016, 1021, 1022, 1115, 1182, 1183, 1185, 1187, 1231, 1270])
const textList = 1009
const json = new Set([114, 3802])
// pg's types name the oids that it knows; the server has more.
const defaultParser = pg.types.getTypeParser as (oid: number, format?: "text") => (text: string) => unknown

/** How the server wrote what is an array, or a point, here. */
const written = new WeakMap<object, string>()

function parserOf(oid: number, format?: "text"): (text: string) => unknown {
  if (textual.has(oid)) return String
  if (json.has(oid)) return parseExactly
  const parse = defaultParser(textualLists.has(oid) ? textList : oid, format)
  return (text) => {
    const value = parse(text)
    if (typeof value === "object" && value !== null) written.set(value, text)
    return value
  }
}

const exact: CustomTypesConfig = { getTypeParser: parserOf as CustomTypesConfig["getTypeParser"] }

/** A value as a later statement can have it, and as it is shown. */
function asWritten(value: unknown): string {
  return (typeof value === "object" && value !== null ? written.get(value) : undefined) ?? textOf(value)
}

type Row = Record<string, unknown>
/** The first rows, and how many there are in all. */
type Found = { rows: Row[]; count: number }

/** Rows that are read at the most; the others are counted where they are. */
const rowsRead = 1_000
const declaring = "declare stepback_check no scroll cursor for "

async function find(client: PoolClient, step: CheckStep, context: StepContext): Promise<Found> {
  const values = step.params.map((name) => context.values[name] ?? "")
  const [, declared, fetched] = await Promise.allSettled([
    // A cursor is planned for its first rows, and here the others are counted too.
    client.query("set local cursor_tuple_fraction = 1"),
    statement(client, `${declaring}${step.sql}`, values),
    statement(client, `fetch ${rowsRead} from stepback_check`, [], exact),
  ])
  if (declared.status === "rejected") throw inStatement(declared.reason)
  if (fetched.status === "rejected") throw fetched.reason
  const rows = fetched.value.rows as Row[]
  if (rows.length < rowsRead) return { rows, count: rows.length }
  const passed = await client.query("move forward all in stepback_check")
  return { rows, count: rows.length + (passed.rowCount ?? 0) }
}

/** The error with its place in the plan's own statement. */
function inStatement(error: unknown): unknown {
  const facts = error as { position?: string }
  if (facts.position !== undefined) facts.position = String(Number(facts.position) - declaring.length)
  return error
}

async function read(client: PoolClient, step: CheckStep, context: StepContext): Promise<StepResult> {
  const found = await find(client, step, context)
  const first = found.rows[0]
  const outputs = await findHiddenOutputs(step.sql, context.redact)
  const wrong = complaints(step, found, context, outputs)
  const captures: Record<string, string> = {}
  for (const [name, column] of Object.entries(step.capture)) {
    // A later step would be given the word "null".
    const has = first !== undefined && Object.hasOwn(first, column)
    if (has && first[column] === null) wrong.push(`${column} is null: there is nothing to capture`)
    else if (has) {
      captures[name] = asWritten(first[column])
      // What later steps do may quote it.
      if (isHidden(column, outputs)) context.secrets.hide(captures[name])
    } else wrong.push(`there is no ${column} to capture`)
  }
  const count = found.count === 1 ? "1 row" : `${found.count} rows`
  const seen = first === undefined ? "" : `: ${describeRow(first, context, outputs)}`
  return stepResult({
    outcome: wrong.length === 0 ? "succeeded" : "failed",
    rows: found.count,
    captures,
    evidence: [context.secrets.redact(`${count}${seen}${found.count > 1 ? " …" : ""}`)],
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

function rowsAllowed(step: CheckStep, { rehearsed }: StepContext): { min: number; max: number } | null {
  return step.expect.rows === null ? null : allowedRows(step.expect.rows, rehearsed?.rows ?? null)
}

/** Only a run and a watch have numbers to compare with; the rehearsal is what gives them. */
function unrehearsed(step: CheckStep, context: StepContext): boolean {
  return step.expect.rows !== null && context.rehearsed !== undefined && rowsAllowed(step, context) === null
}

function complaints(step: CheckStep, { rows, count }: Found, context: StepContext, outputs: HiddenOutputs): string[] {
  const wrong: string[] = []
  const { expect } = step
  const allowed = rowsAllowed(step, context)
  if (unrehearsed(step, context)) wrong.push("how many rows to expect was not known when this was approved")
  else if (allowed !== null && (count < allowed.min || count > allowed.max))
    wrong.push(`${count} rows, ${describeRange(allowed)} expected`)
  for (const [column, expected] of Object.entries(expect.values)) {
    const first = rows[0]
    if (!first) wrong.push(`no row, so ${column} is nothing`)
    else if (!Object.hasOwn(first, column)) wrong.push(`the query has no column ${column}`)
    else if (expected.kind !== "ref" || context.values[expected.name] !== asWritten(first[column])) {
      const complaint = mismatch(column, first[column], expected, context.values, context.secrets.redact)
      if (complaint) wrong.push(isHidden(column, outputs) ? `${column} is not as expected` : complaint)
    }
  }
  if (expect.matches !== null) {
    const pattern = patternOf(expect.matches, context.values)
    // Null is no text: a row of nothing else has none.
    const texts = rows.map((row) =>
      Object.values(row)
        .filter((value) => value !== null)
        .map(textOf),
    )
    const found = texts.some((row) => row.length > 0 && pattern.test(row.join(" ")))
    if (!found) wrong.push(`no row matches /${expect.matches}/`)
  }
  return wrong
}

function describeRow(row: Row, context: StepContext, outputs: HiddenOutputs): string {
  return Object.entries(row)
    .map(
      ([column, value]) =>
        `${column} = ${isHidden(column, outputs) ? hidden : shorten(context.secrets.redact(asWritten(value)), 80)}`,
    )
    .join(", ")
}
