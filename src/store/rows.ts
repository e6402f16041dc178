import { z } from "zod"
import type { Risk } from "../rollback/facts.ts"
import type { RollbackState } from "../rollback/states.ts"

const states = [
  "preparing",
  "awaiting_approval",
  "approved",
  "running",
  "succeeded",
  "failed",
  "stopped",
  "denied",
  "cancelled",
  "expired",
] as const satisfies RollbackState[]

const instant = z.date().transform((at) => at.toISOString())
const moment = instant.nullable()

/** What was asked for on the command line. */
export const selectionSchema = z.object({
  only: z.array(z.string()).nullable(),
  with: z.array(z.string()),
  parameters: z.record(z.string(), z.string()),
})
export type Selection = z.infer<typeof selectionSchema>

/** A rollback as it is stored. Instants are ISO 8601. */
export const rollbackRow = z.object({
  id: z.string(),
  number: z.number().nullable(),
  kind: z.enum(["rollback", "undo", "rehearsal", "record"]),
  environment: z.string(),
  title: z.string(),
  state: z.enum(states),
  requester_id: z.string(),
  team_id: z.string().nullable(),
  channel_id: z.string(),
  reason: z.string(),
  selection: selectionSchema,
  undo_of: z.string().nullable(),
  round: z.number(),
  generation: z.number(),
  skips: z.record(z.string(), z.object({ by: z.string(), reason: z.string() })),
  frozen: z.string().nullable(),
  digest: z.string().nullable(),
  moved: z.array(z.string()),
  token: z.string().nullable(),
  risk: z.enum(["low", "medium", "high"] satisfies Risk[]).nullable(),
  approvals_needed: z.number(),
  created_at: instant,
  rehearsed_at: moment,
  expires_at: moment,
  approved_at: moment,
  started_at: moment,
  ended_at: moment,
  ended_by: z.string().nullable(),
  end_reason: z.string().nullable(),
  stop_requested_at: moment,
  stop_requested_by: z.string().nullable(),
  left_at: moment,
  left_by: z.string().nullable(),
  forgotten_at: moment,
  epoch: z.number(),
  run_epoch: z.number(),
  run_epoch_before: z.number(),
  worker: z.string().nullable(),
  lease_until: moment,
  /** When each step that is going on began, by step id; of a run that goes on. */
  steps_now: z.record(z.string(), z.string()),
  card_version: z.number(),
  card_sent_version: z.number(),
  card_state: z.enum(["none", "sending", "sent", "lost"]),
  card_channel: z.string().nullable(),
  card_ts: z.string().nullable(),
  permalink: z.string().nullable(),
  audit_entries: z.number(),
  audit_head: z.string(),
})
export type StoredRollback = z.infer<typeof rollbackRow>

/** The columns of `rollbackRow`, for `select` and `returning`. */
export const rollbackColumns = Object.keys(rollbackRow.shape).join(", ")

/** Ids come back to us in buttons and forms: what is none is not asked for, since Postgres would refuse the question. */
export function isUuid(text: string): boolean {
  return /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text)
}

/**
 * Postgres's jsonb takes neither NUL nor half of a surrogate pair; the words of people and the output of programs may
 * have both. Done to each string, not to the JSON: there, a text that merely spells the escape looks the same.
 */
export function storable(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === "string" ? inner.replaceAll("\u0000", "").toWellFormed() : inner,
  )
}
