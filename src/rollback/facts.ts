/** What is known about a rollback, as plain data: the language between the parts. Times are ISO 8601, UTC. */
import type { RehearsedRestore } from "./baseline-facts.ts"
import type { RollbackState, TakenBack } from "./states.ts"
import type { Forecast } from "./forecast.ts"
export type { Confirmation, FailureAnswer } from "./confirmation.ts"
export type { Message, StepProgress } from "./message.ts"

export type Risk = "low" | "medium" | "high"
export type Audience = "anyone" | string[]
export type StepKind = "sql" | "check" | "http" | "command" | "restore" | "purge" | "workflow" | "manual" | "undo"

/** One value that a step changes. `after: null` with `afterKnown: false`: it is known only when it has run. */
export type Change = { row: string; column: string; before: string; after: string | null; afterKnown: boolean }

/** Rows of another table that go along. */
export type ChildRows = { table: string; rows: number; action: "cascade" | "set null" | "set default" }

/** What looking at the live target told about one step. */
export type RehearsedStep = {
  stepId: string
  /**
   * `looked`: the facts below are from the live target.
   * `unknown`: it could not be looked at, `note` says why; raises the risk when the step has an effect.
   * `not_tried`: the step has an effect that only a run may have, or needs a value that only a run gives.
   */
  outcome: "looked" | "unknown" | "not_tried"
  /** Rows that match now. */
  rows: number | null
  /** Rows whose values would differ afterwards. */
  changed: number | null
  /** Rows in the whole table, where it was counted. */
  total: number | null
  changes: Change[]
  children: ChildRows[]
  /** Probes and checks: whether the expectation holds now. */
  holds: boolean | null
  /** One line for people: "answers 500", "deployed: a1b2c3d". */
  note: string | null
  /** Triggers on the table that the step touches, and other things to know. */
  warnings: string[]
  ms: number
  /** A run would refuse it as things stand: `note` says why. */
  refused?: true
  /** Why this makes the run riskier than its component says. */
  raises?: string[]
  /** The schema of the tables that it touches, in short. */
  shape?: string
  /** The commit that a workflow's branch or tag points to. */
  commit?: string
  /** `restore`: which snapshots were compared, and which rows were shown. */
  restore?: RehearsedRestore
}

/** Why a step did not do what it should; `code` is an SQLSTATE, `http_500`, `exit_2`, `timeout`, `expectation`… */
export type Failure = {
  code: string
  message: string
  /** Where in the statement, counted from 1. */
  position: number | null
  statement: string | null
  detail: string | null
  hint: string | null
}

export type StepOutcome = "succeeded" | "failed" | "unknown" | "skipped"

/** What one run of a step did. */
export type StepResult = {
  outcome: StepOutcome
  /** Rows that the statement matched; null where rows are not the point. */
  rows: number | null
  /** Rows that it changed, of those. */
  changed: number | null
  changes: Change[]
  /** Data affected: table -> what was done to how many rows. */
  affected: { table: string; did: "changed" | "inserted" | "removed" | "restored"; rows: number }[]
  /** Lines for people: what was seen, numbers first. */
  evidence: string[]
  /** What went otherwise than wished although the step succeeded: conflicts left, late arrivals. Goes into the analysis. */
  issues: string[]
  captures: Record<string, string>
  failure: Failure | null
  attempts: number
  ms: number
  /** Long output, to be attached as a file. */
  output: string | null
  /** What ran before a command replaced it: where undo goes back to. */
  deployedBefore: string | null
  skipped: { by: string; reason: string } | null
  /** Whose word it is that something was done by hand, or was not. */
  confirmedBy?: string
  /** Idempotency keys that were answered for good before the last one, which an unknown outcome keeps. */
  keysSpent?: number
  /** A try before the last one may have done its work, or a part of it, where the last one did not. */
  earlierEffect?: true
  /** The run at GitHub that a workflow was. */
  workflowRun?: number
}

export type StepRun = {
  stepId: string
  attempt: number
  /** Which approval or Retry it belongs to. */
  generation: number
  /** null: its intent is recorded, no result yet. */
  result: StepResult | null
  startedAt: string
  endedAt: string | null
  /** Who had it skipped and why. */
  skippedBy: string | null
  skipReason: string | null
}

/** What a binding says whose value only the run gives. */
export const knownLater = "known when it runs"

/** A step as people see it. */
export type StepView = {
  id: string
  title: string
  kind: StepKind
  effect: "transactional" | "none" | "keyed" | "blind"
  irreversible: string | null
  /** The statement, request or argument list as it will run, for Details. */
  script: string
  /** Bound parameters: `$1 = "v1.2.0"`; secrets are never resolved here. */
  bindings: string[]
  /** When it fails: people are asked what to do, or the others run all the same. */
  asks?: boolean
  goesOn?: boolean
  /** A check that expects nothing in particular: it is there to be read. */
  informative?: boolean
  /** The statement with its values, as a person pastes it; null where there is none. */
  paste?: string | null
  /** What counts the rows that it would meet; null where there are none. */
  count?: string | null
}

export type ComponentView = { id: string; title: string; risk: Risk; rtoMs: number | null; steps: StepView[] }
export type Approval = { userId: string; decidedAt: string }

export type SeenBefore = Pick<RehearsedStep, "stepId" | "outcome" | "holds" | "note" | "ms">

export type Rehearsal = {
  lookedAt: string
  steps: RehearsedStep[]
  /** Of a look in the middle of a run: what stood before its first step, as a look before it had seen it. */
  before?: SeenBefore[]
  /** What could not be looked at at all, for example the target being unreachable. */
  problems: string[]
  warnings: string[]
  /** Worth knowing, and no warning. */
  notes?: string[]
}

export type CriterionResult = { text: string; outcome: "holds" | "fails" | "not_checked"; evidence: string }

/** All that the card, the thread and the analysis are made of. */
export type RollbackView = {
  id: string
  /** Which approval or Retry it stands at. */
  generation: number
  /** null for a rehearsal, which takes no number. */
  number: number | null
  kind: "rollback" | "undo" | "rehearsal" | "record"
  environment: string
  title: string
  state: RollbackState
  requesterId: string
  /** Whose Skip is to be approved: they cannot approve it either. */
  askedToo?: string[]
  /** Steps that are left out by a Skip, or will be when it is approved. */
  leftOut?: string[]
  channelId: string
  reason: string
  selection?: { only: string[] | null; with: string[]; parameters: Record<string, string> }
  planNotes: string | null
  createdAt: string
  rehearsedAt: string | null
  approvedAt: string | null
  startedAt: string | null
  endedAt: string | null
  expiresAt: string | null
  endedBy: string | null
  endReason: string | null
  stopRequestedBy: string | null
  /** Who decided that a run which broke off stays as it is, and when. */
  left: { by: string; at: string } | null
  takenBack?: TakenBack | null
  risk: Risk | null
  riskReasons: string[]
  rtoMs: number | null
  digest: string | null
  /** What the buttons of the newest card carry. */
  token: string | null
  round: number
  approvalsNeeded: number
  approveFrom: Audience
  approvals: Approval[]
  components: ComponentView[]
  rehearsal: Rehearsal | null
  stepRuns: StepRun[]
  forecast: Forecast | null
  /** Notes that people took with `/rollback note`. */
  notes: { userId: string; text: string; at: string }[]
  criteria: { text: string; from: string[] }[]
  /** What differed from what was shown when somebody approved it: the card before this one was void by it. */
  moved: string[]
  cardTs: string | null
  cardChannel: string | null
  permalink: string | null
}

export type EscalationTrigger =
  | "sql_failed"
  | "functions_failing"
  | "data_inconsistent"
  | "performance_degraded"
  | "step_failed"
  | "rto_breached"
  | "worker_lost"
  | "nobody_approved"

export type Escalation = {
  id: string
  trigger: EscalationTrigger
  stepId: string | null
  /** One line: what happened. */
  headline: string
  evidence: string[]
  /** Statements to paste. */
  byHand: string | null
  mention: string[]
  channelId: string | null
  acknowledgeWithinMs: number
  raisedAt: string
  timesTold: number
  acknowledgedBy: string | null
  acknowledgedAt: string | null
  resolvedAt: string | null
  /** Its step failed again after a Retry: a newer call stands for it. */
  followed?: boolean
}

/** What a watch saw of one probe. */
export type WatchSeen = {
  /** In a row, until now. */
  failed: number
  slow: number
  /** Over the whole watch. */
  failures: number
  slowAnswers: number
  probes: number
  worstMs: number
  /** What the people on call were last told and has not recovered since. */
  alarm: "failing" | "slow" | null
  last: string
}

/** What is to be done so that it does not happen again; `due` is a day, "2026-11-30". */
export type FollowUp = { text: string; owner: string | null; due: string | null }

/** Something that happened to a rollback; `kind` is that of its audit entry. */
export type Event = { at: string; kind: string; actor: string }

export type Analysis = {
  /** When the command was given. */
  requestedAt: string
  startedAt: string | null
  endedAt: string | null
  waitedMs: number | null
  ranMs: number | null
  /** Who approved what ran, and how long after the card could be approved. */
  approvals: { userId: string; afterMs: number | null }[]
  issues: string[]
  /** `archived`: how many of the rows lie in the archive. */
  affected: { table: string; did: string; rows: number; archived?: number }[]
  /** Until when what was replaced or removed is kept for undo. */
  keptUntil: string | null
  timeline: Event[]
  criteria: CriterionResult[]
  components: { title: string; ranMs: number | null; rtoMs: number | null }[]
  auditHead: string
  auditEntries: number
  rootCause: string | null
  prevention: string | null
  followUps: FollowUp[]
  /** Counts the times that it was saved: a form that was opened before another was saved is told so. */
  revision: number
  /** What the watch after the run saw; null without one. */
  watch: string | null
  filledBy: string | null
}
