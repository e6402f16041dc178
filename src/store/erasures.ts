import type { Pool, PoolClient } from "pg"
import type { Message } from "../rollback/facts.ts"
import { inTransaction } from "./database.ts"
import { storable } from "./rows.ts"

/** Where Stepback's own records show values, apart from what is signed: frozen bytes, audit. */
const texts = [
  { table: "step_runs", column: "result", json: true },
  { table: "analyses", column: "facts", json: true },
  { table: "analyses", column: "root_cause", json: false },
  { table: "analyses", column: "prevention", json: false },
  // Those of before migration 009 stand in both.
  { table: "analyses", column: "follow_ups", json: false },
  { table: "analyses", column: "follow_up_list", json: true },
  { table: "escalations", column: "facts", json: true },
  { table: "outbox", column: "body", json: true },
  { table: "notes", column: "text", json: false },
  { table: "confirmations", column: "instruction", json: false },
  { table: "confirmations", column: "reason", json: false },
  { table: "watches", column: "seen", json: true },
  { table: "baseline_requests", column: "answer", json: true },
] as const

type Place = (typeof texts)[number]
type Shown = { place: string; value: unknown }

/** One person's data: what of it stands in Stepback's own state. */
export function erasureStore(pool: Pool) {
  return {
    /** The rollback that goes on in this environment or on its target. */
    async findLive(environment: string, targetReference: string): Promise<{ number: number | null } | null> {
      const { rows } = await pool.query<{ number: number | null }>(
        `select number from stepback.rollbacks where kind <> 'rehearsal' and (environment = $1 or target_reference = $2)
           and state in ('preparing', 'awaiting_approval', 'approved', 'running') limit 1`,
        [environment, targetReference],
      )
      return rows[0] ?? null
    },

    /** Runs by id, and until when they keep what they replaced. */
    async listKeeping(ids: readonly string[]): Promise<Map<string, { name: string; until: string | null }>> {
      const { rows } = await pool.query<{ id: string; name: string; until: string | null }>(
        `select id, coalesce('R-' || number, 'rehearsal ' || id) as name,
           to_char((ended_at + (frozen::jsonb ->> 'keepMs')::float8 * interval '1 millisecond') at time zone 'UTC', 'YYYY-MM-DD') as until
         from stepback.rollbacks where id = any($1::uuid[])`,
        [ids],
      )
      return new Map(rows.map(({ id, name, until }) => [id, { name, until }]))
    },

    /** Audit and a word in each run's thread; never the value. Ids that are not known here are passed over. */
    record: (
      erased: { rollbackId: string; rows: number; table: string; column: string }[],
      actor: string,
      turn: string,
    ) =>
      inTransaction(pool, async (client) => {
        for (const { rollbackId, rows, table, column } of erased) {
          const known = await client.query("select from stepback.rollbacks where id = $1", [rollbackId])
          if (known.rowCount === 0) continue
          await client.query("select stepback.append_audit($1, 'archive_erased', $2, $3)", [
            rollbackId,
            actor,
            storable({ table, column, rows }),
          ])
          const text = `${rows} ${rows === 1 ? "row" : "rows"} that this run kept of ${table} ${rows === 1 ? "was" : "were"} erased: an undo does not bring ${rows === 1 ? "it" : "them"} back`
          await client.query("select stepback.enqueue($1, $2, $3)", [
            rollbackId,
            `${rollbackId}/erased/${turn}/${table}`,
            storable({ kind: "text", text } satisfies Message),
          ])
        }
      }),

    /** Texts of an environment's rollbacks that `rewrite` changes; written when `write` is set. Gives their number. */
    rewriteTexts: (
      environment: string,
      word: string,
      { rewrite, write }: { rewrite: (value: unknown) => unknown; write: boolean },
    ): Promise<number> =>
      inTransaction(pool, async (client) => {
        let count = 0
        for (const where of texts)
          for (const { place, value } of await findShown(client, where, environment, word)) {
            const clean = rewrite(value)
            if (JSON.stringify(clean) === JSON.stringify(value)) continue
            count++
            if (write)
              await client.query(`update stepback.${where.table} set ${where.column} = $2 where ctid = $1::tid`, [
                place,
                where.json ? storable(clean) : clean,
              ])
          }
        return count
      }),

    /** Rollbacks whose approved bytes, reason or audit show the word: these are never rewritten. */
    async listSigned(environment: string, word: string): Promise<string[]> {
      const { rows } = await pool.query<{ name: string }>(
        `select coalesce('R-' || number, 'rehearsal ' || id) as name from stepback.rollbacks r where environment = $1 and (
           position($2 in coalesce(frozen, '')) > 0 or position($3 in reason) > 0 or position($3 in selection::text) > 0
           or exists (select from stepback.audit a where a.rollback_id = r.id and position($2 in a.facts) > 0))
         order by number nulls last`,
        [environment, inJson(word), word],
      )
      return rows.map((row) => row.name)
    },
  }
}

function inJson(word: string): string {
  return JSON.stringify(word).slice(1, -1)
}

async function findShown(client: PoolClient, { table, column, json }: Place, environment: string, word: string) {
  // A wish for a baseline belongs to no rollback.
  const owner = table === "baseline_requests" ? "" : "join stepback.rollbacks r on r.id = t.rollback_id"
  const { rows } = await client.query<Shown>(
    `select t.ctid::text as place, t.${column} as value from stepback.${table} t ${owner}
     where environment = $1 and position($2 in t.${column}::text) > 0 for update of t`,
    [environment, json ? inJson(word) : word],
  )
  return rows
}
