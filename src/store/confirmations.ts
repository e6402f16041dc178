import type { Pool, PoolClient } from "pg"
import { errorCode, LostLeaseError } from "../errors.ts"
import type { Confirmation, FailureAnswer, Message } from "../rollback/facts.ts"
import { inTransaction, type Query } from "./database.ts"
import { isUuid, storable } from "./rows.ts"

type Row = {
  id: string
  kind: Confirmation["kind"]
  reason: string | null
  rollback_id: string
  step_id: string
  attempt: number
  instruction: string
  asked_at: Date
  expires_at: Date
  expired: boolean
  answer: Confirmation["answer"]
  answered_by: string | null
  answered_at: Date | null
}
type Kind = Confirmation["kind"]
type Question = { id: string; kind: Kind; stepId: string; attempt: number; instruction: string; timeoutMs: number }

const columns = `id, kind, reason, rollback_id, step_id, attempt, instruction, asked_at, expires_at, expires_at <= now() as expired, answer,
  answered_by, answered_at`

function parse(row: Row): Confirmation {
  return {
    id: row.id,
    kind: row.kind,
    reason: row.reason,
    rollbackId: row.rollback_id,
    stepId: row.step_id,
    attempt: row.attempt,
    instruction: row.instruction,
    askedAt: row.asked_at.toISOString(),
    expiresAt: row.expires_at.toISOString(),
    expired: row.expired,
    answer: row.answer,
    answeredBy: row.answered_by,
    answeredAt: row.answered_at?.toISOString() ?? null,
  }
}

/** The key of a question's message. What comes of a manual step is told by this message, not by one more. */
export function questionKey(rollbackId: string, stepId: string, attempt: number, kind: Kind = "manual"): string {
  return `${rollbackId}/${stepId}/${attempt}/${kind === "manual" ? "asked" : "what_now"}`
}

/** Its message is drawn again, without buttons. */
async function redraw(client: PoolClient, row: Row): Promise<void> {
  await client.query("select stepback.edit_messages($1, $2)", [
    row.rollback_id,
    questionKey(row.rollback_id, row.step_id, row.attempt, row.kind),
  ])
}

/** Whom nobody waits for any more is not asked any more: what was said after a Retry would be heeded by nobody. */
export function closeQuestions(rollbackId: string): Query {
  return {
    text: `with closed as (
        update stepback.confirmations set answer = 'stopped', answered_at = clock_timestamp()
        where rollback_id = $1 and answer is null returning step_id, attempt, kind)
      select stepback.edit_messages($1, concat_ws('/', $1, step_id, attempt, case kind when 'manual' then 'asked' else 'what_now' end))
      from closed`,
    values: [rollbackId],
  }
}

/** Questions to people about what they are to do by hand. */
export function confirmationStore(pool: Pool) {
  return {
    /** Asks once per attempt at a step, with its message; the next worker finds the same question. */
    ask: (rollbackId: string, epoch: number, question: Question) =>
      inTransaction(pool, async (client) => {
        await client.query("select stepback.guard_epoch($1, $2)", [rollbackId, epoch])
        const instruction = question.instruction.replaceAll("\u0000", "").toWellFormed()
        const inserted = await client.query(
          `insert into stepback.confirmations (id, rollback_id, step_id, attempt, instruction, expires_at, kind)
           values ($1, $2, $3, $4, $5, now() + $6 * interval '1 millisecond', $7)
           on conflict (rollback_id, step_id, attempt, kind) do nothing`,
          [question.id, rollbackId, question.stepId, question.attempt, instruction, question.timeoutMs, question.kind],
        )
        if (inserted.rowCount === 1)
          await client.query("select stepback.enqueue($1, $2, $3)", [
            rollbackId,
            questionKey(rollbackId, question.stepId, question.attempt, question.kind),
            storable({ kind: "manual", confirmationId: question.id } satisfies Message),
          ])
        const { rows } = await client.query<Row>(
          `select ${columns} from stepback.confirmations where rollback_id = $1 and step_id = $2 and attempt = $3
             and kind = $4`,
          [rollbackId, question.stepId, question.attempt, question.kind],
        )
        return parse(rows[0] as Row)
      }).catch((error: unknown) => {
        throw errorCode(error) === "SB001" ? new LostLeaseError(rollbackId) : error
      }),

    async find(id: string): Promise<Confirmation | null> {
      if (!isUuid(id)) return null
      const { rows } = await pool.query<Row>(`select ${columns} from stepback.confirmations where id = $1`, [id])
      return rows[0] === undefined ? null : parse(rows[0])
    },

    /** Whether somebody has pressed "Stop here" since the run was begun or reopened. */
    async endsHere(rollbackId: string): Promise<boolean> {
      const { rowCount } = await pool.query(
        `select from stepback.confirmations c join stepback.rollbacks r on r.id = c.rollback_id
         join stepback.step_runs s using (rollback_id, step_id, attempt)
         where rollback_id = $1 and c.answer = 'leave' and s.generation = r.generation limit 1`,
        [rollbackId],
      )
      return rowCount === 1
    },

    /** What a person says; null when somebody was first, or nobody waits for it any more. */
    answer: (id: string, userId: string, answer: "done" | "not_done" | FailureAnswer, reason: string | null = null) =>
      inTransaction(pool, async (client) => {
        const { rows } = await client.query<Row>(
          `update stepback.confirmations c set answer = $3, answered_by = $2, answered_at = clock_timestamp(), reason = $4
           where id = $1 and answer is null and kind = case when $3 in ('done', 'not_done') then 'manual' else 'failure' end and expires_at > now() and exists (
             select from stepback.rollbacks r where r.id = c.rollback_id and r.state = 'running' and r.stop_requested_at is null)
           returning ${columns}`,
          [id, userId, answer, reason],
        )
        const row = rows[0]
        if (!row) return null
        const facts = storable({
          step: row.step_id,
          attempt: row.attempt,
          answer,
          ...(reason === null ? {} : { reason }),
        })
        await client.query("select stepback.append_audit($1, $4, $2, $3)", [
          row.rollback_id,
          userId,
          facts,
          row.kind === "manual" ? "confirmed" : `answered_${answer}`,
        ])
        await redraw(client, row)
        return parse(row)
      }),

    /** The wait is over without an answer, unless one came before: then that counts. */
    close: (id: string, why: "timed_out" | "stopped") =>
      inTransaction(pool, async (client) => {
        await client.query(
          `update stepback.confirmations set answer = $2, answered_at = clock_timestamp() where id = $1 and answer is null`,
          [id, why],
        )
        const { rows } = await client.query<Row>(`select ${columns} from stepback.confirmations where id = $1`, [id])
        const row = rows[0] as Row
        await redraw(client, row)
        return parse(row)
      }),
  }
}

/**
 * Other messages of a rollback are numbered under these names, those of a call about it as a whole among them: the reply
 * of a step that is called so is told apart, or one of the two would never be sent.
 */
const takenNames = new Set(["archive", "audit", "nobody", "nudge", "reminder", "rto80", "trouble", "watch"])

export function stepKey(rollbackId: string, stepId: string, attempt: number): string {
  return `${rollbackId}/${takenNames.has(stepId) ? `step:${stepId}` : stepId}/${attempt}`
}
