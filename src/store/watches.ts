import type { Pool, PoolClient } from "pg"
import type { Message, WatchSeen } from "../rollback/facts.ts"
import { inTransaction } from "./database.ts"
import { storable } from "./rows.ts"

export type DueWatch = { rollbackId: string; over: boolean; probes: number; seen: Record<string, WatchSeen> }

/** In the audit, in the thread and in the analysis. */
async function sayEnd(client: PoolClient, id: string, text: string, generation: number): Promise<void> {
  await client.query("select stepback.append_audit($1, 'watched', 'stepback', $2)", [id, storable({ text })])
  const message = storable({ kind: "text", text } satisfies Message)
  await client.query("select stepback.enqueue($1, $2, $3)", [id, `${id}/watch/${generation}`, message])
  await client.query("select stepback.edit_messages($1, $2)", [id, `${id}/analysis`])
}

/** Watches on Postgres alone: they go on wherever a worker lives. */
export function watchStore(pool: Pool) {
  return {
    /** Takes a watch whose time has come; for `holdMs` nobody else does. */
    async take(holdMs: number): Promise<DueWatch | null> {
      const { rows } = await pool.query<{
        rollback_id: string
        over: boolean
        probes: number
        seen: Record<string, WatchSeen>
      }>(
        `update stepback.watches set next_at = now() + $1 * interval '1 millisecond' where rollback_id = (
           select rollback_id from stepback.watches where ended_at is null and next_at <= now()
           order by next_at limit 1 for update skip locked)
         returning rollback_id, until <= now() as over, probes, seen`,
        [holdMs],
      )
      const row = rows[0]
      return row ? { rollbackId: row.rollback_id, over: row.over, probes: row.probes, seen: row.seen } : null
    },

    /** What a later rollback changes is no longer what the earlier one is watched for. Returns how many ended so. */
    endOvertaken: () =>
      inTransaction(pool, async (client) => {
        const { rows } = await client.query<{ id: string; generation: number; by: number }>(
          `update stepback.watches w set ended_at = now() from stepback.rollbacks r
           where w.ended_at is null and r.id = w.rollback_id and exists (select from stepback.rollbacks l
             where l.environment = r.environment and l.number > r.number and l.kind in ('rollback', 'undo')
               and l.started_at is not null)
           returning r.id, r.generation, (select max(number) from stepback.rollbacks l
             where l.environment = r.environment and l.kind in ('rollback', 'undo') and l.started_at is not null) as by`,
        )
        for (const { id, generation, by } of rows) await sayEnd(client, id, `Watch ended: R-${by} began`, generation)
        return rows.length
      }),

    /** Not over what another saw since, as when a process stood still in its probes: what it had called for would be forgotten. */
    async record(due: DueWatch, seen: Record<string, WatchSeen>, nextMs: number): Promise<void> {
      await pool.query(
        `update stepback.watches set probes = probes + 1, seen = $2, next_at = now() + $3 * interval '1 millisecond'
         where rollback_id = $1 and ended_at is null and probes = $4`,
        [due.rollbackId, storable(seen), nextMs, due.probes],
      )
    },

    /** The end, the word about it and the edit of the analysis, at once. */
    end: (rollbackId: string, text: string, generation: number) =>
      inTransaction(pool, async (client) => {
        const ended = await client.query(
          "update stepback.watches set ended_at = now() where rollback_id = $1 and ended_at is null",
          [rollbackId],
        )
        if (ended.rowCount !== 0) await sayEnd(client, rollbackId, text, generation)
      }),

    async find(
      rollbackId: string,
    ): Promise<{ probes: number; seen: Record<string, WatchSeen>; ended: boolean } | null> {
      const { rows } = await pool.query<{ probes: number; seen: Record<string, WatchSeen>; ended: boolean }>(
        "select probes, seen, ended_at is not null as ended from stepback.watches where rollback_id = $1",
        [rollbackId],
      )
      return rows[0] ?? null
    },
  }
}
