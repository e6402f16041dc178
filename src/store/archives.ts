import type { Pool } from "pg"
import type { Message } from "../rollback/facts.ts"
import { inOneGo } from "./database.ts"
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

    /** Written after the target's rows are gone: done twice is harmless, forgotten is not possible. */
    async markRemoved(id: string, text: string): Promise<void> {
      await inOneGo(pool, [
        {
          text: "update stepback.rollbacks set archive_removed_at = now() where id = $1 and ended_at is not null",
          values: [id],
        },
        {
          text: "select stepback.append_audit($1, 'archive_removed', 'stepback', $2)",
          values: [id, storable({ text })],
        },
        {
          // Once per generation: after Retry it keeps anew.
          text: "select stepback.enqueue(id, id || '/archive/' || generation, $2) from stepback.rollbacks where id = $1",
          values: [id, storable({ kind: "text", text } satisfies Message)],
        },
      ])
    },
  }
}
