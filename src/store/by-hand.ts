import type { Pool } from "pg"
import type { Message } from "../rollback/facts.ts"
import { inTransaction } from "./database.ts"
import { storable } from "./rows.ts"

export type NewRecord = {
  id: string
  environment: string
  title: string
  requesterId: string
  teamId: string | null
  channelId: string
  requestKey: string | null
  text: string
  remindMs: number
}

/** What was done by hand: it has its number, its card and its analysis, and never held the environment. */
export function byHandStore(pool: Pool) {
  return {
    /** False when this very request was taken before. */
    record: (done: NewRecord) =>
      inTransaction(pool, async (client) => {
        // The counter first: its lock makes the look for an earlier delivery of the same request certain.
        const counted = await client.query<{ value: number }>(
          "update stepback.counters set value = value + 1 where name = 'rollback' returning value",
        )
        const known = await client.query("select 1 from stepback.rollbacks where request_key = $1", [done.requestKey])
        if (known.rowCount !== 0) {
          await client.query("update stepback.counters set value = value - 1 where name = 'rollback'")
          return false
        }
        await client.query(
          `insert into stepback.rollbacks (id, number, kind, environment, title, state, requester_id, team_id, channel_id,
             reason, selection, request_key, ended_at, ended_by, audit_head)
           select $1, $2, 'record', $3, $4, 'succeeded', $5, $6, $7, $8,
             '{"only": null, "with": [], "parameters": {}}', $9, now(), $5,
             coalesce((select p.audit_head from stepback.rollbacks p where p.number = $2::integer - 1), '')`,
          [
            done.id,
            counted.rows[0]?.value,
            done.environment,
            done.title,
            done.requesterId,
            done.teamId,
            done.channelId,
            done.text,
            done.requestKey,
          ],
        )
        await client.query("select stepback.append_audit($1, 'recorded', $2, $3)", [
          done.id,
          done.requesterId,
          storable({ text: done.text }),
        ])
        await client.query("select stepback.redraw_card($1)", [done.id])
        await client.query(
          `insert into stepback.analyses (rollback_id, facts, remind_at, remind_every_ms)
           values ($1, '{}', now() + $2::float8 * interval '1 millisecond', $2)`,
          [done.id, done.remindMs],
        )
        await client.query("select stepback.enqueue($1, $2, $3)", [
          done.id,
          `${done.id}/analysis`,
          storable({ kind: "analysis" } satisfies Message),
        ])
        return true
      }),
  }
}
