import type { PoolClient } from "pg"
import { errorCode, errorMessage } from "../errors.ts"
import type { Fingerprint } from "../plans/frozen.ts"
import type { BaselineRules, PlanStep, RowExpectation } from "../plans/plan.ts"
import type { Values } from "../plans/values.ts"
import type { Logger } from "../log.ts"
import type { Confirmation, Failure, RehearsedStep, StepProgress, StepResult } from "../rollback/facts.ts"
import { withHolders } from "./locks.ts"
import type { KeptSnapshot } from "./baseline.ts"
import type { RunKey } from "./ledger.ts"
import type { Secrets } from "./secrets.ts"
import { looking, type Target } from "./target.ts"

/** What every step is given, whether it looks or acts. */
export type StepContext = {
  rollbackId: string
  environment: string
  values: Values
  secrets: Secrets
  target: Target
  redact: readonly string[]
  /** Aborted by Stop, by a lost lease and by the end of the process. */
  signal: AbortSignal
  log: Logger
  /** A watch has the time that the run has; a rehearsal does not keep people waiting. */
  patient?: true
  /** What the rehearsal saw of this step, for a run and a watch to compare with; a rehearsal itself has nothing yet. */
  rehearsed?: RehearsedStep | null | undefined
  /** Null where the state database is not looked at. */
  baseline?: BaselineContext | null
}

/** What `restore` needs: the plan's rules (null in a run, which has them frozen), the snapshots, the steps beside it. */
export type BaselineContext = {
  rules: BaselineRules | null
  newest(name: string): Promise<KeptSnapshot | null>
  find(sha256: string): Promise<KeptSnapshot | null>
  others: readonly { step: PlanStep; values: Values }[]
}

export type RunContext = StepContext & {
  key: RunKey
  attempt: number
  /** One more than the earlier attempts whose outcome is known: an idempotency key is kept after an unknown one. */
  keyNumber?: number
  /** An earlier attempt under this key may have taken effect. */
  inDoubt?: boolean
  /** The run at GitHub that an earlier attempt was told of last. */
  workflowRun?: number | null
  /** An earlier worker began this attempt and left no result: it may have taken effect already. */
  interrupted?: boolean
  rehearsed: RehearsedStep | null
  fingerprint: Fingerprint | null
  /** Writes down which process group runs, so that a takeover can end it. */
  recordProcess(process: { pid: number; host: string; birth: string | null }): void
  /** A sign of life between batches; throws when the lease is lost or Stop was pressed. */
  checkpoint(): Promise<void>
  /**
   * Just before an effect that no fence guards, after anything that took time: throws when this process stood still
   * meanwhile and the run is another worker's by now, which has told of this step already.
   */
  stillOurs(): Promise<void>
  /** The process is about to end: who waits for the world outside leaves the rollback to the next worker. */
  closing?(): boolean
  /** Somebody has said of a failure that the run ends here: nobody is waited for any more. */
  endsHere?(): boolean
  /** Tells the thread how far it has come; waits for nothing. */
  tell?(progress: StepProgress): void
  /** When the rollback was asked for. */
  since?: string
  /** The people in the rollback's thread. */
  people?: People
}

/** Asks people; the question and its answer outlive workers. */
export type People = {
  /** Once per attempt: asked again, it is the same question. */
  ask(instruction: string, timeoutMs: number): Promise<Confirmation>
  look(id: string): Promise<Confirmation | null>
  /** Ends the wait, without an answer unless there is one, and has the question drawn as it stands then. */
  close(id: string, why: "timed_out" | "stopped"): Promise<Confirmation>
}

/** One kind of step. `rehearse` never has an effect. */
export type StepType<S extends PlanStep> = {
  rehearse(step: S, context: StepContext): Promise<RehearsedStep>
  run(step: S, context: RunContext): Promise<StepResult>
}

export function rehearsed(stepId: string, facts: Partial<RehearsedStep>): RehearsedStep {
  return {
    stepId,
    outcome: "looked",
    rows: null,
    changed: null,
    total: null,
    changes: [],
    children: [],
    holds: null,
    note: null,
    warnings: [],
    ms: 0,
    ...facts,
  }
}

/** A rehearsal waits for less than a run does: what needs longer is not broken for that. */
export function tooSlowToLook(step: { timeoutMs: number }, probe: { timeoutMs: number }): string {
  return `no answer in the ${probe.timeoutMs / 1000} s that a look takes; the run waits for ${step.timeoutMs / 1000} s`
}

/** A read-only look at the target for one step. What cannot be looked at is unknown, and why. */
export async function rehearseLooking(
  step: { id: string; timeoutMs: number; sql?: string },
  context: StepContext,
  look: (client: PoolClient) => Promise<Partial<RehearsedStep>>,
  inWords = (code: string, message: string) => `${code} ${message}`,
): Promise<RehearsedStep> {
  const started = performance.now()
  const { pool } = context.target
  if (!pool) return rehearsed(step.id, { outcome: "unknown", note: "the target database is not reachable" })
  try {
    const facts = await looking(pool, step.timeoutMs, look)
    return rehearsed(step.id, { ...facts, ms: elapsed(started) })
  } catch (error) {
    const seen = sqlFailure(error, step.sql ?? "", context)
    const note = await withHolders(seen, inWords(seen.code, seen.message), context)
    return rehearsed(step.id, { outcome: "unknown", note, ms: elapsed(started) })
  }
}

export function stepResult(facts: Partial<StepResult>): StepResult {
  return {
    outcome: "succeeded",
    rows: null,
    changed: null,
    changes: [],
    affected: [],
    evidence: [],
    issues: [],
    captures: {},
    failure: null,
    // Tries within one run of the step; which run it is stands beside the result.
    attempts: 1,
    ms: 0,
    output: null,
    deployedBefore: null,
    skipped: null,
    ...facts,
  }
}

export function failure(code: string, message: string, facts: Partial<Failure> = {}): Failure {
  return { code, message, position: null, statement: null, detail: null, hint: null, ...facts }
}

/** A database error as people need it: SQLSTATE, message, position, statement. */
export function sqlFailure(
  error: unknown,
  statement: string,
  { secrets, redact }: Pick<StepContext, "secrets" | "redact">,
): Failure {
  const facts = error as { position?: string; detail?: string; hint?: string }
  const code = errorCode(error)
  // Postgres quotes the value that does not fit, and the row that a constraint refuses: redacted columns too.
  const quotes = redact.length > 0 && /^(22|23|44)[0-9A-Z]{3}$/.test(code)
  if (quotes)
    return failure(code, code.startsWith("22") ? unquoted(code) : secrets.redact(errorMessage(error)), {
      position: facts.position === undefined ? null : Number(facts.position),
      statement,
    })
  const clean = (text: string | undefined) => (text === undefined ? null : secrets.redact(text))
  return failure(code, secrets.redact(errorMessage(error)), {
    position: facts.position === undefined ? null : Number(facts.position),
    statement,
    detail: clean(facts.detail),
    hint: clean(facts.hint),
  })
}

const meanings: Record<string, string> = {
  "22001": "a value is too long for its column",
  "22003": "a number is out of range",
  "22007": "a value is not a date or time",
  "22008": "a date or time is out of range",
  "22012": "division by zero",
}

function unquoted(code: string): string {
  return `${meanings[code] ?? "a value does not fit its type"} (${code})`
}

/** Rows that the tolerance leaves room for when the plan does not say: whichever is larger. */
const defaultTolerance = { share: 0.02, rows: 10 }

/** The range that an expectation allows; null when it needs a rehearsal that gave no number. */
export function allowedRows(expected: RowExpectation, counted: number | null): { min: number; max: number } | null {
  if (expected.kind === "range") return expected
  if (counted === null) return null
  const slack =
    expected.tolerance === null
      ? Math.max(Math.ceil(counted * defaultTolerance.share), defaultTolerance.rows)
      : // 29 % of 100 are 28.999… as doubles.
        Math.floor(Number((counted * expected.tolerance).toPrecision(12)))
  return { min: Math.max(0, counted - slack), max: counted + slack }
}

export function describeRange(range: { min: number; max: number }): string {
  if (range.max >= Number.MAX_SAFE_INTEGER) return `${range.min} or more`
  return range.min === range.max ? String(range.min) : `${range.min} to ${range.max}`
}

export function elapsed(since: number): number {
  return Math.round(performance.now() - since)
}
