/** A question to people: about what they are to do by hand, or what is to become of a step that failed. */
export type Confirmation = {
  id: string
  kind: "manual" | "failure"
  rollbackId: string
  stepId: string
  attempt: number
  instruction: string
  askedAt: string
  expiresAt: string
  /** Its time is over, by the database's clock. */
  expired: boolean
  answer: "done" | "not_done" | FailureAnswer | "timed_out" | "stopped" | null
  /** Why the step is to be skipped. */
  reason: string | null
  answeredBy: string | null
  answeredAt: string | null
}

/** What people decide about a step that failed: `leave` ends the run where it stands. */
export type FailureAnswer = "retry" | "skip" | "leave"
