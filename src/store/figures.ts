import type { Pool } from "pg"

/** Figures for those who watch over the service. */
export function figureStore(pool: Pool) {
  return {
    async rollbacksByState(): Promise<{ state: string; count: number }[]> {
      const { rows } = await pool.query<{ state: string; count: number }>(
        "select state, count(*)::int as count from stepback.rollbacks where kind <> 'rehearsal' group by state",
      )
      return rows
    },

    /** A card that was never posted is one of them, though it is no row of the outbox. */
    async outboxAgeSeconds(): Promise<number> {
      const { rows } = await pool.query<{ age: number }>(
        `select coalesce(extract(epoch from now() - min(created_at)), 0)::float8 as age from (
           select created_at from stepback.outbox where state in ('pending', 'sending')
           union all select created_at from stepback.rollbacks
             where deliver_at is not null and card_state in ('none', 'sending') and card_version > card_sent_version) unsent`,
      )
      return rows[0]?.age ?? 0
    },

    async hookAgeSeconds(): Promise<number> {
      const { rows } = await pool.query<{ age: number }>(
        `select coalesce(extract(epoch from now() - min(created_at)), 0)::float8 as age
         from stepback.hook_events where state = 'pending'`,
      )
      return rows[0]?.age ?? 0
    },

    /** Processes that work and were seen a moment ago. */
    async workersAlive(): Promise<number> {
      const { rows } = await pool.query<{ count: number }>(
        "select count(*)::int as count from stepback.workers where role <> 'bot' and seen_at > now() - interval '30 seconds'",
      )
      return rows[0]?.count ?? 0
    },

    async unacknowledged(): Promise<number> {
      const { rows } = await pool.query<{ count: number }>(
        "select count(*)::int as count from stepback.escalations where acknowledged_at is null and resolved_at is null",
      )
      return rows[0]?.count ?? 0
    },
  }
}
