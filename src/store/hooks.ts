import type { Pool } from "pg"
import type { Escalation, Message } from "../rollback/facts.ts"
import type { Hook, HookEvent } from "../rollback/hook.ts"
import { inTransaction } from "./database.ts"
import { escalationColumns, parseEscalation, type EscalationRow } from "./records.ts"
import { storable } from "./rows.ts"

export type DueCall = {
  event: HookEvent
  escalation: Escalation & { rollbackId: string }
  hook: Hook
  attempts: number
  /** Since the event. */
  ageMs: number
}

type DueRow = {
  escalation_id: string
  seq: number
  kind: HookEvent["kind"]
  times_told: number
  created_at: Date
  attempts: number
  age: number
}

/** Calls to pagers beside Slack: written by a trigger with each change of an escalation, sent by workers. */
export function hookStore(pool: Pool) {
  return {
    /** Takes the next call; for `holdMs` nobody else does. One that waits holds up those after it of its escalation alone. */
    async take(holdMs: number): Promise<DueCall | null> {
      const { rows } = await pool.query<DueRow>(
        `update stepback.hook_events set attempts = attempts + 1, due_at = now() + $1 * interval '1 millisecond'
         where (escalation_id, seq) = (
           select e.escalation_id, e.seq from stepback.hook_events e
           where e.state = 'pending' and e.due_at <= now() and not exists (
             select 1 from stepback.hook_events b
             where b.escalation_id = e.escalation_id and b.seq < e.seq and b.state = 'pending')
           order by e.due_at limit 1 for update skip locked)
         returning escalation_id, seq, kind, times_told, created_at, attempts,
           (extract(epoch from now() - created_at) * 1000)::float8 as age`,
        [holdMs],
      )
      const row = rows[0]
      if (!row) return null
      const { rows: raised } = await pool.query<EscalationRow>(
        `select ${escalationColumns} from stepback.escalations where id = $1`,
        [row.escalation_id],
      )
      const found = raised[0]
      if (!found?.facts.hook) throw new Error(`escalation ${row.escalation_id} names no hook`)
      return {
        event: { seq: row.seq, kind: row.kind, timesTold: row.times_told, at: row.created_at.toISOString() },
        escalation: parseEscalation(found),
        hook: found.facts.hook,
        attempts: row.attempts,
        ageMs: row.age,
      }
    },

    /** How the call ended, unless somebody else has it by now. What the thread is told about it goes along. */
    settle: (call: DueCall, end: HookEnd) =>
      inTransaction(pool, async (client) => {
        const state = { taken: "sent", refused: "refused", failed: "pending" } as const
        const { rowCount } = await client.query(
          `update stepback.hook_events set state = $4, problem = $5,
             due_at = case when $4 = 'pending' then now() + $6::float8 * interval '1 millisecond' else due_at end,
             ended_at = case when $4 = 'pending' then null else now() end
           where escalation_id = $1 and seq = $2 and attempts = $3 and state = 'pending'`,
          [
            call.escalation.id,
            call.event.seq,
            call.attempts,
            state[end.kind],
            end.kind === "taken" ? null : end.problem.replaceAll("\u0000", "").toWellFormed(),
            end.kind === "failed" ? end.waitMs : 0,
          ],
        )
        if (rowCount === 0 || end.kind === "taken" || end.tell === null) return
        const { rollbackId } = call.escalation
        await client.query("select stepback.enqueue($1, $2, $3)", [
          rollbackId,
          `${rollbackId}/hook/${call.escalation.id}/${call.event.seq}/${end.kind}`,
          storable({ kind: "text", text: end.tell } satisfies Message),
        ])
      }),
  }
}

export type HookEnd =
  | { kind: "taken" }
  /** Saying it again would change nothing. */
  | { kind: "refused"; problem: string; tell: string | null }
  | { kind: "failed"; problem: string; tell: string | null; waitMs: number }
