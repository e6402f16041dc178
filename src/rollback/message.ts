/** How far a long step has come; `of` is null where nobody knows. */
export type StepProgress = { rows: number; of: number | null }

/** Bodies of the messages in the outbox. They are drawn when they are sent. */
export type Message =
  | { kind: "card" }
  /** `progress` is shown as long as there is no result. */
  | { kind: "step"; stepId: string; attempt: number; progress?: StepProgress }
  | { kind: "text"; text: string }
  /** Something long, as a file in the thread. */
  | { kind: "file"; what: "output"; stepId: string; attempt: number }
  /** `edition` counts the files of one analysis, from 1. */
  | { kind: "file"; what: "analysis"; edition?: number }
  /** The approvers are called again. */
  | { kind: "nudge" }
  /** Somebody decided that it stays as it is. */
  | { kind: "left" }
  /** The analysis still waits for people. */
  | { kind: "reminder" }
  | { kind: "escalation"; escalationId: string }
  | { kind: "manual"; confirmationId: string }
  | { kind: "analysis" }
  /** The newest head of an ended rollback's audit chain; as it was then, never edited. */
  | { kind: "audit"; entry: number; head: string }
