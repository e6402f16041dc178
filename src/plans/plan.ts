import type { Hook } from "../rollback/hook.ts"
import type { JsonTypes } from "./values.ts"

/**
 * A validated plan, normalised: durations are milliseconds, shares and tolerances are fractions,
 * shorthands are spelled out. What the YAML may look like is in `schema.ts`; this is what the rest
 * of the program sees.
 *
 * `${NAME}` references stay as they were written: only a worker resolves them, at the moment of use.
 */
export type Plan = {
  version: 1
  environment: string
  title: string
  notes: string | null
  /** Requests are accepted in this channel only; null: any channel that the bot is in. */
  channel: string | null
  target: PlanTarget
  params: Record<string, PlanParam>
  request: Audience
  approve: ApprovalRules
  rtoMs: number | null
  /** Columns whose values are never shown, stored in analyses or exported. */
  redact: string[]
  baseline: BaselineRules | null
  components: PlanComponent[]
  watch: WatchRules | null
  escalate: EscalationRules
  success: Criterion[]
  analysis: { remindMs: number }
  archive: { keepMs: number }
}

export type PlanTarget = {
  /** `${NAME}` or null for a plan without database steps. */
  postgres: string | null
  expect: { database: string | null }
  http: string | null
}

export type ParamType = "string" | "integer" | "number" | "boolean" | "timestamp" | "uuid" | "git_ref"
export type PlanParam = { type: ParamType; default: string | null; description: string | null }

/** `"anyone"`: any full member of the workspace. Otherwise user ids (`U…`/`W…`) and group ids (`S…`). */
export type Audience = "anyone" | string[]

export type Risk = "low" | "medium" | "high"
export type ApprovalRule = { count: number; from: Audience }
export type ApprovalRules = Record<Risk, ApprovalRule> & { expiresMs: number }

export type BaselineRules = {
  file: string | null
  maxAgeMs: number | null
  tables: { table: string; key: string[]; ignore: string[] }[]
}

export type WatchRules = {
  forMs: number
  everyMs: number
  steps: string[]
  slowerThan: number | null
  failures: number
}

export type EscalationRules = {
  /** null: the channel of the card. */
  channel: string | null
  mention: string[]
  acknowledgeWithinMs: number
  /** Called beside Slack. */
  hook: Hook | null
}

export type Criterion = { text: string; from: string[] }

export type PlanComponent = {
  id: string
  title: string
  risk: Risk
  rtoMs: number | null
  optional: boolean
  parallel: boolean
  needs: string[]
  /** null: the plan's own. */
  request: Audience | null
  steps: PlanStep[]
}

export type EffectClass = "transactional" | "none" | "keyed" | "blind"

type StepCommon = {
  id: string
  title: string
  effect: EffectClass
  timeoutMs: number
  retries: number
  needs: string[]
  onFailure: "stop" | "continue" | "ask"
  /** The reason why there is no way back; null when there is one. */
  irreversible: string | null
}

/** `rehearsed`: what the rehearsal counted, give or take `tolerance` (fraction); null: 2 % or 10 rows, whichever is larger. */
export type RowExpectation =
  | { kind: "range"; min: number; max: number }
  | { kind: "rehearsed"; tolerance: number | null }

/** A literal, `$name` (a parameter or a captured value, as `{ ref }`), or a regular expression (`/…/`). */
export type Expected =
  | { kind: "literal"; value: unknown }
  /** `number`: a parameter that is one, and so is compared as one. */
  | { kind: "ref"; name: string; number?: true }
  | { kind: "pattern"; source: string }

export type SqlStep = StepCommon & {
  kind: "sql"
  sql: string
  params: string[]
  expectRows: RowExpectation
  facts: StatementFacts
}

export type CheckStep = StepCommon & {
  kind: "check"
  sql: string
  params: string[]
  expect: {
    rows: RowExpectation | null
    /** Column of the first row -> expectation. */
    values: Record<string, Expected>
    /** A regular expression that some row's text must match. */
    matches: string | null
  }
  /** name -> column of the first row */
  capture: Record<string, string>
}

export type HttpStep = StepCommon & {
  kind: "http"
  method: string
  path: string
  headers: Record<string, string>
  json: unknown
  /** Of parameters that are all of a string in it and no text; left out where there are none. */
  types?: JsonTypes
  body: string | null
  attempts: number
  everyMs: number
  expect: {
    status: number[] | null
    /** JSON pointer -> expectation */
    json: Record<string, Expected>
    underMs: number | null
    matches: string | null
  }
  /** name -> JSON pointer */
  capture: Record<string, string>
  undo: { method: string; path: string; headers: Record<string, string>; json: unknown } | null
}

export type CommandStep = StepCommon & {
  kind: "command"
  /** Program and arguments; no shell. `$name` as a whole argument, or inside one, is replaced. */
  command: string[]
  cwd: string | null
  /** Names of the worker's environment variables that the command may see. */
  env: string[]
  files: string[]
  deployed: string[] | null
  undo: string[] | null
  expect: { exit: number; stdout: string | null }
  /** name -> regular expression; its first group, or the whole match */
  capture: Record<string, string>
}

export type RestoreStep = StepCommon & { kind: "restore"; table: string; keys: string[] | null; after: string | null }

export type PurgeStep = StepCommon & {
  kind: "purge"
  table: string
  where: string
  params: string[]
  cascade: string[]
  atMost: number
  maxShare: number
  batch: number
  expectRows: RowExpectation
  /** Its condition reads its own table: batch by batch it would mean something else each time. */
  whole?: true
}

export type WorkflowStep = StepCommon & {
  kind: "workflow"
  repo: string
  file: string
  ref: string
  inputs: Record<string, string>
  token: string
  api: string | null
  undo: Record<string, string> | null
}

export type ManualStep = StepCommon & { kind: "manual"; instruction: string }

/** Takes back what a step of another rollback did. No plan file has it: undo makes it. */
export type UndoStep = StepCommon & { kind: "undo"; ofRollback: string; ofStep: string }

export type PlanStep =
  | UndoStep
  | SqlStep
  | CheckStep
  | HttpStep
  | CommandStep
  | RestoreStep
  | PurgeStep
  | WorkflowStep
  | ManualStep

/** What Postgres's own parser says about a statement. All SQL in here is deparsed from its tree. */
export type StatementFacts = {
  verb: "insert" | "update" | "delete" | "select"
  /** The table written to; null for a select. `alias` is the name by which the statement calls it. */
  table: { schema: string | null; name: string; alias: string } | null
  /** `with …` in front of the statement, or null. */
  with: string | null
  /** update and delete: `from … where …` of the rows that match, ready to follow `select …`. */
  matching: string | null
  /** update and delete: other tables stand beside it (FROM, USING), so that a row may match more than once. */
  joined?: true
  /** update: what is set. `expression` is null when it cannot stand in a SELECT (DEFAULT, multi-assignment). */
  set: { column: string; expression: string | null; volatile: boolean }[]
  /** insert: the rows as a query (`select …` or `values …`), or null where DEFAULT is among them. */
  source: string | null
  /** insert: how many rows it writes where `source` is null; null when that cannot be told. */
  values?: number | null
  insertColumns: string[]
  onConflict: "nothing" | "update" | null
  /** The highest `$n`. */
  parameters: number
  /** false: its rows as they were cannot be kept (several tables, RETURNING tricks, writes in WITH…): the plan must say `irreversible`. */
  reversible: boolean
}

/** A place in a plan file and what is wrong there. Lines and columns count from 1. */
export type Problem = { file: string; line: number; column: number; message: string }

export type LoadedPlan = { plan: Plan; file: string; source: string; sha256: string }
