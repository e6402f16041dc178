/** The life of a rollback. Past participles are ends; an ended rollback no longer holds its environment. */
export type RollbackState =
  | "preparing"
  | "awaiting_approval"
  | "approved"
  | "running"
  | "succeeded"
  | "failed"
  | "stopped"
  | "denied"
  | "cancelled"
  | "expired"

/**
 * Which state may follow which.
 *
 * `preparing` follows a later state when what was shown has moved: the card is made anew and must be approved anew.
 * `failed` and `stopped` open again only under the environment's lock.
 */
export const transitions = {
  preparing: ["awaiting_approval", "cancelled", "expired", "succeeded"],
  awaiting_approval: ["approved", "preparing", "denied", "cancelled", "expired"],
  approved: ["running", "preparing", "stopped"],
  running: ["succeeded", "failed", "stopped", "preparing"],
  succeeded: [],
  failed: ["running", "preparing"],
  stopped: ["running", "preparing"],
  denied: [],
  cancelled: [],
  expired: [],
} as const satisfies Record<RollbackState, readonly RollbackState[]>

/** Why a request expired that never came to its approvers. */
export const neverLookedAt = "no worker looked at it in time"

/** States in which a rollback holds its environment. */
export const liveStates = ["preparing", "awaiting_approval", "approved", "running"] as const satisfies RollbackState[]

export function isLive(state: RollbackState): boolean {
  return (liveStates as readonly RollbackState[]).includes(state)
}

/** The states from which `to` may be reached; the `where` of every guarded move is made of this. */
export function statesBefore(to: RollbackState): RollbackState[] {
  return (Object.keys(transitions) as RollbackState[]).filter((from) =>
    (transitions[from] as readonly RollbackState[]).includes(to),
  )
}

/** Which undo took a rollback back, and when. One that has been taken back itself does not count. */
export type TakenBack = { number: number | null; at: string }
