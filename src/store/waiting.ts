import type { Pool } from "pg"
import type { Message } from "../rollback/facts.ts"
import { neverLookedAt } from "../rollback/states.ts"
import { inTransaction } from "./database.ts"
import { endCalls } from "./records.ts"
import { storable } from "./rows.ts"

/** What time alone brings: requests that nobody decides, runs that nobody goes on with. */
export function waitingStore(pool: Pool) {
  return {
    /**
     * Requests whose time is over, and those that no worker has looked at for an hour. One transaction each, so that a click
     * at the last moment is either before or after.
     */
    expire: () =>
      inTransaction(pool, async (client) => {
        const { rows } = await client.query<{ id: string; state: string }>(
          `select id, state from stepback.rollbacks
           where (state = 'awaiting_approval' and expires_at <= clock_timestamp())
             or (state = 'preparing' and greatest(due_at, lease_until) <= clock_timestamp() - interval '1 hour')
           limit 20 for update skip locked`,
        )
        for (const { id, state } of rows) {
          await client.query(
            "update stepback.rollbacks set state = 'expired', ended_at = now(), ended_by = 'stepback', end_reason = $2 where id = $1",
            [id, state === "preparing" ? neverLookedAt : "nobody approved in time"],
          )
          await client.query("select stepback.append_audit($1, 'expired', 'stepback', '{}')", [id])
          await client.query("select stepback.redraw_card($1)", [id])
          await client.query("select stepback.analyse_if_begun($1)", [id])
          await client.query(endCalls(id, false))
        }
        return rows.map((row) => row.id)
      }),

    /**
     * Requests that ran out of time and of which the people on call have not heard yet. A rehearsal would have changed
     * nothing: its card is answer enough.
     */
    async listExpiredUntold(): Promise<string[]> {
      const { rows } = await pool.query<{ id: string }>(
        `select r.id from stepback.rollbacks r where r.state = 'expired' and r.kind <> 'rehearsal' and r.ended_at > now() - interval '1 day'
           and not exists (select 1 from stepback.escalations e where e.key = r.id || '/nobody') limit 20`,
      )
      return rows.map((row) => row.id)
    },

    /** Requests that have waited for this long and whose approvers were not called again yet: they are, once a round. */
    nudge: (afterMs: number) =>
      inTransaction(pool, async (client) => {
        const { rows } = await client.query<{ id: string; round: number }>(
          `update stepback.rollbacks set nudged_at = now() where id in (
             select id from stepback.rollbacks where state = 'awaiting_approval' and nudged_at is null
               and rehearsed_at < now() - $1 * interval '1 millisecond' limit 20 for update skip locked)
           returning id, round`,
          [afterMs],
        )
        for (const { id, round } of rows)
          await client.query("select stepback.enqueue($1, $2, $3)", [
            id,
            `${id}/nudge/${round}`,
            storable({ kind: "nudge" } satisfies Message),
          ])
        return rows.length
      }),

    /** Runs whose worker is gone and that nobody has taken over for this long, and requests that nobody looks at. */
    async listLost(afterMs: number): Promise<{ id: string; epoch: number }[]> {
      const { rows } = await pool.query<{ id: string; epoch: number }>(
        `select id, epoch from stepback.rollbacks where state in ('preparing', 'approved', 'running')
           and kind <> 'rehearsal' and greatest(due_at, lease_until) < now() - $1 * interval '1 millisecond' limit 20`,
        [afterMs],
      )
      return rows
    },
  }
}
