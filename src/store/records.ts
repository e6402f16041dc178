import type { Pool } from "pg"
import type { Escalation, Message } from "../rollback/facts.ts"
import type { Hook } from "../rollback/hook.ts"
import { errorCode, LostLeaseError } from "../errors.ts"
import { inTransaction, type Query } from "./database.ts"
import { isUuid, storable } from "./rows.ts"

export type EscalationFacts = Pick<
  Escalation,
  "trigger" | "stepId" | "headline" | "evidence" | "byHand" | "mention" | "channelId" | "acknowledgeWithinMs"
> & { hook: Hook | null }
export type EscalationRow = {
  id: string
  rollback_id: string
  facts: EscalationFacts & { followed?: true }
  raised_at: Date
  times_told: number
  acknowledged_by: string | null
  acknowledged_at: Date | null
  resolved_at: Date | null
}

/** Cards and analyses of those that this undo took back, gave back, and so on: each says how it stands now. */
export function redrawUndone(id: string): Query[] {
  return [
    { text: "select stepback.redraw_undone($1)", values: [id] },
    {
      text: `with recursive undone as (
          select undo_of as id from stepback.rollbacks where id = $1
          union all select r.undo_of from stepback.rollbacks r join undone on r.id = undone.id)
        select stepback.edit_messages(id, id || '/analysis') from undone where id is not null`,
      values: [id],
    },
  ]
}

/**
 * What people were called for is over with the rollback: the calls end in the transaction of the end, or a crash would
 * leave them being told. That nobody went on with it is over however it ends; a success is the end of what earlier
 * rollbacks of the environment called for, too.
 */
export function endCalls(rollbackId: string, succeeded: boolean): Query {
  return {
    text: `with over as (
        update stepback.escalations e set resolved_at = now(), next_telling_at = null
        where e.resolved_at is null and (e.rollback_id = $1 and ($2::boolean or starts_with(e.key, $3))
          or $2::boolean and e.rollback_id in (
            select o.id from stepback.rollbacks o join stepback.rollbacks r on r.id = $1
            where o.environment = r.environment and o.number < r.number
              and o.state not in ('preparing', 'awaiting_approval', 'approved', 'running')))
        returning e.rollback_id, e.key)
      select stepback.edit_messages(rollback_id, key || '/') from over`,
    values: [rollbackId, succeeded, `${rollbackId}/lost/`],
  }
}

/** A step that failed before has come to a good end, whatever the rest of the run does. */
export function endStepCalls(rollbackId: string, stepId: string): Query {
  return {
    text: `with over as (
        update stepback.escalations set resolved_at = now(), next_telling_at = null
        where rollback_id = $1 and starts_with(key, $2) and resolved_at is null returning rollback_id, key)
      select stepback.edit_messages(rollback_id, key || '/') from over`,
    values: [rollbackId, `${rollbackId}/step/${stepId}/`],
  }
}

/** The step failed again after a Retry: whoever is called anew need not take, nor hear, what was called before. */
function endOlderCalls(rollbackId: string, stepId: string, key: string): Query {
  return {
    text: `with over as (
        update stepback.escalations set resolved_at = now(), next_telling_at = null, facts = facts || '{"followed": true}'
        where rollback_id = $1 and starts_with(key, $2) and key <> $3 and resolved_at is null returning rollback_id, key)
      select stepback.edit_messages(rollback_id, key || '/') from over`,
    values: [rollbackId, `${rollbackId}/step/${stepId}/`, key],
  }
}

export const escalationColumns =
  "id, rollback_id, facts, raised_at, times_told, acknowledged_by, acknowledged_at, resolved_at"

export function parseEscalation(row: EscalationRow): Escalation & { rollbackId: string } {
  // What people are shown and how a pager is reached are two things.
  const { hook: _, ...facts } = row.facts
  return {
    id: row.id,
    rollbackId: row.rollback_id,
    ...facts,
    raisedAt: row.raised_at.toISOString(),
    timesTold: row.times_told,
    acknowledgedBy: row.acknowledged_by,
    acknowledgedAt: row.acknowledged_at?.toISOString() ?? null,
    resolvedAt: row.resolved_at?.toISOString() ?? null,
  }
}

/** Escalations and notes. */
export function recordStore(pool: Pool) {
  return {
    /** Raises an escalation once per key, with its message; a second time is nothing. `epoch`: of a worker that has the run. */
    raise: (rollbackId: string, key: string, id: string, facts: EscalationFacts, epoch: number | null = null) =>
      inTransaction(pool, async (client) => {
        if (epoch !== null) await client.query("select stepback.guard_epoch($1, $2)", [rollbackId, epoch])
        const inserted = await client.query(
          `insert into stepback.escalations (id, rollback_id, key, facts, next_telling_at)
           values ($1, $2, $3, $4, now() + $5 * interval '1 millisecond') on conflict (key) do nothing`,
          [id, rollbackId, key, storable(facts), facts.acknowledgeWithinMs],
        )
        if (inserted.rowCount === 0) return false
        await client.query("select stepback.append_audit($1, 'escalated', 'stepback', $2)", [
          rollbackId,
          storable({ trigger: facts.trigger, step: facts.stepId }),
        ])
        await client.query("select stepback.enqueue($1, $2, $3)", [
          rollbackId,
          `${key}/1`,
          storable({ kind: "escalation", escalationId: id } satisfies Message),
        ])
        if (facts.stepId !== null) await client.query(endOlderCalls(rollbackId, facts.stepId, key))
        return true
      }).catch((error: unknown) => {
        throw errorCode(error) === "SB001" ? new LostLeaseError(rollbackId) : error
      }),

    async findEscalation(id: string): Promise<(Escalation & { rollbackId: string }) | null> {
      if (!isUuid(id)) return null
      const { rows } = await pool.query<EscalationRow>(
        `select ${escalationColumns} from stepback.escalations where id = $1`,
        [id],
      )
      return rows[0] === undefined ? null : parseEscalation(rows[0])
    },

    async listEscalations(rollbackId: string): Promise<Escalation[]> {
      const { rows } = await pool.query<EscalationRow>(
        `select ${escalationColumns} from stepback.escalations where rollback_id = $1 order by raised_at`,
        [rollbackId],
      )
      return rows.map(parseEscalation)
    },

    /** Whether this person was the first, while it was open: then its messages are drawn again. */
    acknowledge: (id: string, userId: string) =>
      inTransaction(pool, async (client) => {
        // As those who end a rollback take their locks: of two that wait for each other it would be the click that fails.
        await client.query(
          "select from stepback.rollbacks where id = (select rollback_id from stepback.escalations where id = $1) for update",
          [id],
        )
        const { rows } = await client.query<{ rollback_id: string; key: string }>(
          `update stepback.escalations set acknowledged_by = $2, acknowledged_at = now(), next_telling_at = null
           where id = $1 and acknowledged_at is null and resolved_at is null returning rollback_id, key`,
          [id, userId],
        )
        const row = rows[0]
        if (!row) return false
        await client.query("select stepback.append_audit($1, 'acknowledged', $2, $3)", [
          row.rollback_id,
          userId,
          storable({ key: row.key }),
        ])
        await client.query("select stepback.edit_messages($1, $2)", [row.rollback_id, `${row.key}/`])
        return true
      }),

    /** The cause is gone: the telling ends, and its messages say so. */
    resolve: (keyPrefix: string) =>
      inTransaction(pool, async (client) => {
        const { rows } = await client.query<{ rollback_id: string; key: string }>(
          `update stepback.escalations set resolved_at = now(), next_telling_at = null
           where starts_with(key, $1) and resolved_at is null returning rollback_id, key`,
          [keyPrefix],
        )
        for (const row of rows) {
          await client.query("select stepback.edit_messages($1, $2)", [row.rollback_id, `${row.key}/`])
        }
        return rows.length
      }),

    /**
     * Tells again what nobody has taken: the pager each time, and Slack unless what was to be told before still waits for
     * it, or they would all arrive together when it is back.
     */
    tellAgain: () =>
      inTransaction(pool, async (client) => {
        const { rows } = await client.query<{ id: string; rollback_id: string; key: string; times_told: number }>(
          `update stepback.escalations set times_told = times_told + 1,
             next_telling_at = now() + (facts ->> 'acknowledgeWithinMs')::float8 * interval '1 millisecond'
           where id in (select id from stepback.escalations where next_telling_at <= now() and acknowledged_at is null
             and resolved_at is null limit 20 for update skip locked) returning id, rollback_id, key, times_told`,
        )
        for (const row of rows)
          await client.query(
            `select stepback.enqueue($1, $2, $3) where not exists (select 1 from stepback.outbox
               where rollback_id = $1 and starts_with(key, $4) and state in ('pending', 'sending'))`,
            [
              row.rollback_id,
              `${row.key}/${row.times_told}`,
              storable({ kind: "escalation", escalationId: row.id } satisfies Message),
              `${row.key}/`,
            ],
          )
        return rows.length
      }),

    /** False when this very request was taken before. */
    note: (rollbackId: string, note: { userId: string; text: string; requestKey: string | null }) =>
      inTransaction(pool, async (client) => {
        const inserted = await client.query(
          `insert into stepback.notes (rollback_id, request_key, user_id, text) values ($1, $2, $3, $4) on conflict (request_key) do nothing`,
          [rollbackId, note.requestKey, note.userId, clean(note.text)],
        )
        if (inserted.rowCount === 0) return false
        await client.query("select stepback.append_audit($1, 'noted', $2, $3)", [
          rollbackId,
          note.userId,
          storable({ text: note.text }),
        ])
        await client.query("select stepback.edit_messages($1, $2)", [rollbackId, `${rollbackId}/analysis`])
        await client.query("select stepback.redraw_card($1)", [rollbackId])
        return true
      }),

    async listNotes(rollbackId: string): Promise<{ userId: string; text: string; at: string }[]> {
      const { rows } = await pool.query<{ user_id: string; text: string; at: Date }>(
        "select user_id, text, at from stepback.notes where rollback_id = $1 order by at",
        [rollbackId],
      )
      return rows.map((row) => ({ userId: row.user_id, text: row.text, at: row.at.toISOString() }))
    },
  }
}

function clean(text: string | null): string | null {
  return text === null ? null : text.replaceAll("\u0000", "")
}
