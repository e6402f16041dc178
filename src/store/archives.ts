import type { Pool } from "pg"
import type { Message } from "../rollback/facts.ts"
import { inOneGo } from "./database.ts"
import { storable } from "./rows.ts"

/** Which ended runs still keep something in their targets. */
export function archiveStore(pool: Pool) {
  return {
    /**
     * Ended runs whose time of keeping is over, in any order: those whose target stays away must not stand before the
     * others for ever. The plan's own time is in the frozen run, in ms.
     */
    async listOverdue(limit: number): Promise<string[]> {
      const { rows } = await pool.query<{ id: string }>(
        `select id from stepback.rollbacks
         where archive_removed_at is null and started_at is not null
           and state not in ('preparing', 'awaiting_approval', 'approved', 'running') and frozen is not null and ended_at < now() - interval '1 minute'
           and ended_at + (frozen::jsonb ->> 'keepMs')::float8 * interval '1 millisecond' < now()
         order by random() limit $1`,
        [limit],
      )
      return rows.map((row) => row.id)
    },

    /** Written after the target's rows are gone: done twice is harmless, forgotten is not possible. */
    async markRemoved(id: string, text: string): Promise<void> {
      await inOneGo(pool, [
        { text: "update stepback.rollbacks set archive_removed_at = now() where id = $1", values: [id] },
        {
          text: "select stepback.append_audit($1, 'archive_removed', 'stepback', $2)",
          values: [id, storable({ text })],
        },
        {
          text: "select stepback.enqueue($1, $2, $3)",
          values: [id, `${id}/archive`, storable({ kind: "text", text } satisfies Message)],
        },
      ])
    },
  }
}
