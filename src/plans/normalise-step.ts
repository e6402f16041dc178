import type { StatementFacts, PlanStep, RowExpectation } from "./plan.ts"
import { getEffect, getStepKind } from "./step-schema.ts"
import type { WrittenStep } from "./step-schema.ts"
import { toTitle } from "./title.ts"

const SHORT_MS = 30_000
const LONG_MS = 300_000
/** A person has to see it, do it and come back. */
const BY_HAND_MS = 3_600_000
const MAX_SHARE = 0.2
const BATCH = 10_000

/** What is said of a step with an effect whose author gave neither an undo nor a reason. */
export const noUndoGiven = "the plan gives no undo for it"

type Written<Key extends string> = Extract<WrittenStep, Record<Key, unknown>>

/** A step as the rest of the program sees it. `facts`: those of `sql` steps and of purges that read their own table. */
export function normaliseStep(step: WrittenStep, facts: ReadonlyMap<string, StatementFacts>): PlanStep {
  if ("sql" in step) return normaliseSql(step, facts)
  if ("check" in step) return normaliseCheck(step)
  if ("http" in step) return normaliseHttp(step)
  if ("command" in step) return normaliseCommand(step)
  if ("purge" in step) return normalisePurge(step, facts.has(step.id))
  if ("restore" in step) {
    const { table, keys = null, after = null } = step.restore
    return { ...common(step), kind: "restore", table, keys, after }
  }
  if ("manual" in step) return { ...common(step), kind: "manual", instruction: step.manual }
  const { repo, file, ref, inputs = {}, token, api = null } = step.workflow
  return { ...common(step), kind: "workflow", repo, file, ref, inputs, token, api, undo: step.undo ?? null }
}

function common(step: WrittenStep) {
  const kind = getStepKind(step)
  return {
    id: step.id,
    title: step.title ?? toTitle(step.id),
    effect: getEffect(step),
    timeoutMs:
      step.timeout ?? (kind === "manual" ? BY_HAND_MS : kind === "command" || kind === "workflow" ? LONG_MS : SHORT_MS),
    retries: step.retries ?? 0,
    needs: step.needs ?? [],
    onFailure: step.on_failure ?? "stop",
    irreversible: step.irreversible ?? findLackOfUndo(step),
  }
}

/** What has an effect outside the database and no `undo` has no way back, whether its author says so or not. */
function findLackOfUndo(step: WrittenStep): string | null {
  const effect = getEffect(step)
  if (effect === "none" || effect === "transactional") return null
  if ("manual" in step) return "done by hand"
  return "undo" in step && step.undo !== undefined ? null : noUndoGiven
}

function normaliseSql(step: Written<"sql">, facts: ReadonlyMap<string, StatementFacts>): PlanStep {
  const found = facts.get(step.id)
  if (!found) throw new Error(`step ${step.id} has no statement facts`)
  const { sql, params = [], expect } = step
  return {
    ...common(step),
    kind: "sql",
    sql,
    params,
    expectRows: withTolerance(expect.rows, expect.tolerance),
    facts: found,
  }
}

function normaliseCheck(step: Written<"check">): PlanStep {
  const { check, params = [], expect = {}, capture = {} } = step
  const rows = expect.rows ? withTolerance(expect.rows, expect.tolerance) : null
  const expectation = { rows, values: expect.values ?? {}, matches: expect.matches ?? null }
  return { ...common(step), kind: "check", sql: check, params, expect: expectation, capture }
}

function normaliseHttp(step: Written<"http">): PlanStep {
  const { method = "GET", path, headers = {}, json = null, body = null, attempts = 1, every = 1000 } = step.http
  const { status = null, json: values = {}, under = null, matches = null } = step.expect ?? {}
  const { undo } = step
  return {
    ...common(step),
    kind: "http",
    method,
    path,
    headers,
    json,
    body,
    attempts,
    everyMs: every,
    expect: { status, json: values, underMs: under, matches },
    capture: step.capture ?? {},
    undo: undo
      ? { method: undo.method ?? "POST", path: undo.path, headers: undo.headers ?? {}, json: undo.json ?? null }
      : null,
  }
}

function normaliseCommand(step: Written<"command">): PlanStep {
  const { command, cwd = null, env = [], files = [], deployed = null, undo = null, expect = {}, capture = {} } = step
  const expectation = { exit: expect.exit ?? 0, stdout: expect.stdout ?? null }
  return { ...common(step), kind: "command", command, cwd, env, files, deployed, undo, expect: expectation, capture }
}

function normalisePurge(step: Written<"purge">, whole: boolean): PlanStep {
  const { table, where, cascade = [], at_most: atMost, max_share: maxShare = MAX_SHARE, batch = BATCH } = step.purge
  const { rows = { kind: "rehearsed", tolerance: null }, tolerance } = step.expect ?? {}
  const expectRows = withTolerance(rows, tolerance)
  return {
    ...common(step),
    kind: "purge",
    table,
    // It is put in parentheses: a line comment at its end would swallow the one that closes.
    where: where.slice(where.lastIndexOf("\n") + 1).includes("--") ? `${where}\n` : where,
    params: step.params ?? [],
    cascade,
    atMost,
    maxShare,
    batch,
    expectRows,
    ...(whole ? { whole } : {}),
  }
}

function withTolerance(rows: RowExpectation, tolerance: number | undefined): RowExpectation {
  return rows.kind === "rehearsed" ? { kind: "rehearsed", tolerance: tolerance ?? null } : rows
}
