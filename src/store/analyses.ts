import type { Pool } from "pg"
import type { FollowUp, Message } from "../rollback/facts.ts"
import { inTransaction } from "./database.ts"
import { storable } from "./rows.ts"

type StoredAnalysis = FilledAnalysis & { revision: number; filledBy: string | null }
type FilledAnalysis = { rootCause: string | null; prevention: string | null; followUps: FollowUp[] }

export type Filling = { kind: "filled" } | { kind: "meanwhile"; by: string | null } | { kind: "none" }

/** What people say about a rollback that has ended, and that they are asked until they have. */
export function analysisStore(pool: Pool) {
  return {
    async find(rollbackId: string): Promise<StoredAnalysis | null> {
      const { rows } = await pool.query<StoredAnalysis>(
        `select root_cause as "rootCause", prevention, follow_up_list as "followUps", revision, filled_by as "filledBy"
         from stepback.analyses where rollback_id = $1`,
        [rollbackId],
      )
      return rows[0] ?? null
    },

    /** Saves what the form of this revision brought; the same words twice are one saving. */
    fill: (rollbackId: string, userId: string, revision: number, filled: FilledAnalysis): Promise<Filling> =>
      inTransaction(pool, async (client) => {
        const { rows } = await client.query<{ revision: number; by: string | null; same: boolean }>(
          `select revision, filled_by as by,
             (root_cause, prevention, follow_up_list) is not distinct from ($2::text, $3::text, $4::jsonb) as same
           from stepback.analyses where rollback_id = $1 for update`,
          [rollbackId, filled.rootCause, filled.prevention, storable(filled.followUps)],
        )
        const now = rows[0]
        if (!now) return { kind: "none" }
        if (now.same) return { kind: "filled" }
        if (now.revision !== revision) return { kind: "meanwhile", by: now.by }
        const complete = filled.rootCause !== null && filled.prevention !== null
        await client.query(
          `update stepback.analyses set root_cause = $2, prevention = $3, follow_up_list = $4, filled_by = $5,
             filled_at = now(), revision = revision + 1, remind_at = case when $6 then null else remind_at end
           where rollback_id = $1`,
          [rollbackId, filled.rootCause, filled.prevention, storable(filled.followUps), userId, complete],
        )
        await client.query("select stepback.append_audit($1, 'analysis_filled', $2, $3)", [
          rollbackId,
          userId,
          storable(filled),
        ])
        if (complete) {
          // A reminder that is still on its way has nothing to remind of.
          await client.query(
            "delete from stepback.outbox where rollback_id = $1 and state = 'pending' and ts is null and body ->> 'kind' = 'reminder'",
            [rollbackId],
          )
          // It also goes into the thread as a document: each saving gives one, since a file cannot be edited.
          const { rows: files } = await client.query<{ n: number }>(
            "select count(*)::integer as n from stepback.outbox where rollback_id = $1 and starts_with(key, $2)",
            [rollbackId, `${rollbackId}/file/analysis/`],
          )
          const edition = (files[0]?.n ?? 0) + 1
          await client.query("select stepback.enqueue($1, $2, $3)", [
            rollbackId,
            `${rollbackId}/file/analysis/${revision + 1}`,
            storable({ kind: "file", what: "analysis", edition } satisfies Message),
          ])
        }
        await client.query("select stepback.edit_messages($1, $2)", [rollbackId, `${rollbackId}/analysis`])
        return { kind: "filled" }
      }),

    /** Analyses that still wait for people: each is told once per period, however many processes look and however long Slack is away. */
    remind: () =>
      inTransaction(pool, async (client) => {
        const { rows } = await client.query<{ rollback_id: string; due: string; unsent: boolean }>(
          `with due as (
             select a.rollback_id, a.remind_at from stepback.analyses a join stepback.rollbacks r on r.id = a.rollback_id
             where a.remind_at <= now() and (a.root_cause is null or a.prevention is null) and r.ended_at is not null
             limit 20 for update of a skip locked)
           update stepback.analyses a set remind_at = now() + a.remind_every_ms * interval '1 millisecond'
           from due where due.rollback_id = a.rollback_id
           returning a.rollback_id, (extract(epoch from due.remind_at) * 1000)::bigint::text as due,
             exists (select 1 from stepback.outbox o where o.rollback_id = a.rollback_id
               and starts_with(o.key, a.rollback_id || '/reminder/') and o.state in ('pending', 'sending')) as unsent`,
        )
        const told = rows.filter(({ unsent }) => !unsent)
        for (const { rollback_id: id, due } of told)
          await client.query("select stepback.enqueue($1, $2, $3)", [
            id,
            `${id}/reminder/${due}`,
            storable({ kind: "reminder" } satisfies Message),
          ])
        return told.length
      }),
  }
}
