import type { Pool } from "pg"
import type { Message } from "../rollback/facts.ts"
import { inTransaction } from "./database.ts"
import { storable } from "./rows.ts"

/** The plan's own time is in the frozen run, in ms. What a live undo was approved to bring back stays. */
const overdue = `archive_removed_at is null and started_at is not null
  and state not in ('preparing', 'awaiting_approval', 'approved', 'running') and frozen is not null and ended_at < now() - interval '1 minute'
  and ended_at + (frozen::jsonb ->> 'keepMs')::float8 * interval '1 millisecond' < now()
  and not exists (select from stepback.rollbacks u where u.undo_of = r.id
    and u.state in ('preparing', 'awaiting_approval', 'approved', 'running'))`

/** Which ended runs still keep something in their targets. */
export function archiveStore(pool: Pool) {
  return {
    /**
     * Ended runs whose time of keeping is over, in any order: those whose target stays away must not stand before the
     * others for ever.
     */
    async listOverdue(limit: number): Promise<string[]> {
      const { rows } = await pool.query<{ id: string }>(
        `select id from stepback.rollbacks r where ${overdue} order by random() limit $1`,
        [limit],
      )
      return rows.map((row) => row.id)
    },

    /** Whether it is still so. */
    async isOverdue(id: string): Promise<boolean> {
      const { rowCount } = await pool.query(`select from stepback.rollbacks r where id = $1 and ${overdue}`, [id])
      return rowCount === 1
    },

    /**
     * Written after the target's rows are gone. Done twice, as by two workers at once, it is said once; where a Retry came
     * between it is not so any more, since that keeps anew.
     */
    markRemoved: (id: string, text: string): Promise<void> =>
      inTransaction(pool, async (client) => {
        const { rows } = await client.query<{ generation: number }>(
          `update stepback.rollbacks set archive_removed_at = now()
           where id = $1 and ended_at is not null and archive_removed_at is null returning generation`,
          [id],
        )
        const marked = rows[0]
        if (marked === undefined) return
        await client.query("select stepback.append_audit($1, 'archive_removed', 'stepback', $2)", [
          id,
          storable({ text }),
        ])
        // Once per generation: after Retry it keeps anew.
        await client.query("select stepback.enqueue($1, $2, $3)", [
          id,
          `${id}/archive/${marked.generation}`,
          storable({ kind: "text", text } satisfies Message),
        ])
      }),
  }
}
