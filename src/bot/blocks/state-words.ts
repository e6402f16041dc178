import type { RollbackState } from "../../rollback/states.ts"

/** Each state in a sentence: "R-17 is …". */
export const stateWords = {
  preparing: "being looked at",
  awaiting_approval: "waiting for approval",
  approved: "approved and starting",
  running: "running",
  succeeded: "done",
  failed: "failed",
  stopped: "stopped",
  denied: "denied",
  cancelled: "cancelled",
  expired: "expired",
} as const satisfies Record<RollbackState, string>
