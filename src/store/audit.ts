import type { Pool } from "pg"
import { createAuditWalk, type AuditEntry, type AuditVerdict, type PostedHead } from "../rollback/audit.ts"

/** Where a rollback's heads are posted. */
export type AuditThread = { number: number; channel: string; ts: string }

type Chain = { id: string; number: number | null; entries: number; head: string }

export function auditStore(pool: Pool) {
  async function list(rollbackId: string): Promise<AuditEntry[]> {
    const { rows } = await pool.query<AuditEntry>(
      `select a.rollback_id as "rollbackId", r.number, a.entry, a.at, a.kind, a.actor, a.facts, a.previous, a.hash
       from stepback.audit a join stepback.rollbacks r on r.id = a.rollback_id where a.rollback_id = $1 order by a.entry`,
      [rollbackId],
    )
    return rows
  }

  async function chains(number: number | null): Promise<Chain[]> {
    const { rows } = await pool.query<Chain>(
      `select id, number, audit_entries as entries, audit_head as head from stepback.rollbacks
       where $1::integer is null or number = $1 order by number nulls last, created_at`,
      [number],
    )
    return rows
  }

  return {
    list,

    /** Entry after entry, chain after chain; of one rollback when it is named. */
    async *export(number: number | null): AsyncGenerator<AuditEntry> {
      for (const chain of await chains(number)) yield* await list(chain.id)
    },

    /** Walks every chain: hashes, links, no gap, the head that the rollback carries and those that were posted. */
    async verify(posted: readonly PostedHead[] = []): Promise<AuditVerdict> {
      const walk = createAuditWalk(posted)
      for (const { id, number, entries, head } of await chains(null)) {
        const broken = walk.chain(number, id, await list(id), { rollbackId: id, number, entries, head })
        if (broken !== null) return walk.broken(broken)
      }
      return walk.end()
    },

    /** Threads in which heads may have been posted. */
    async threads(): Promise<AuditThread[]> {
      const { rows } = await pool.query<AuditThread>(
        `select number, card_channel as channel, card_ts as ts from stepback.rollbacks
         where number is not null and card_ts is not null and card_channel is not null order by number`,
      )
      return rows
    },
  }
}
