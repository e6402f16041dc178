import type { Pool } from "pg"
import type { Message, Risk, StepProgress, StepResult, StepRun } from "../rollback/facts.ts"
import type { RollbackState } from "../rollback/states.ts"
import { errorCode, LostLeaseError } from "../errors.ts"
import { inOneGo, type Query } from "./database.ts"
import { closeQuestions, questionKey, stepKey } from "./confirmations.ts"
import { parseRollback } from "./find-rollback.ts"
import { endCalls, endStepCalls, redrawUndone } from "./records.ts"
import { rollbackColumns, storable, type StoredRollback } from "./rows.ts"

/** `lapsed`: a worker had it in hand and was not heard of any more. */
export type ToWorkOn = { id: string; state: RollbackState; waitingMs: number; lapsed: boolean }

/** The epoch alone does not say whose it is: a replica that had not heard of a claim gives the same one to the next worker. */
type Claim = Pick<StoredRollback, "id" | "epoch" | "worker">

export type RehearsalOutcome = {
  frozen: string
  digest: string
  token: string
  fingerprint: string | null
  risk: Risk
  approvalsNeeded: number
  expiresMs: number
}

/** What the worker writes. Everything here is guarded by the epoch: an older worker's writes are refused. */
export function runStore(pool: Pool) {
  /** One transaction, one round trip, only while the epoch is ours. */
  async function guarded(id: string, epoch: number, queries: Query[]): Promise<{ stop: boolean }> {
    try {
      const guard = { text: "select stepback.guard_epoch($1, $2) as stop", values: [id, epoch] }
      const [first] = await inOneGo(pool, [guard, ...queries])
      return { stop: (first?.rows[0] as { stop: boolean } | undefined)?.stop ?? false }
    } catch (error) {
      if (errorCode(error) === "SB001") throw new LostLeaseError(id)
      throw error
    }
  }

  return {
    /** Takes a rollback to work on, with a new epoch; null when it has a live lease or nothing is to be done. */
    async claim(id: string, worker: string, leaseMs: number): Promise<StoredRollback | null> {
      const { rows } = await pool.query(
        `update stepback.rollbacks set epoch = epoch + 1, worker = $2,
           run_epoch_before = case when state = 'preparing' then run_epoch_before else run_epoch end,
           run_epoch = case when state = 'preparing' then run_epoch else epoch + 1 end, lease_until = now() + $3 * interval '1 millisecond',
           state = case when state = 'approved' then 'running' else state end, steps_now = '{}',
           started_at = case when state = 'approved' then coalesce(started_at, clock_timestamp()) else started_at end,
           card_version = card_version + case when state = 'approved' then 1 else 0 end,
           deliver_at = case when state = 'approved' then least(deliver_at, now()) else deliver_at end
         where id = $1 and state in ('preparing', 'approved', 'running') and (lease_until is null or lease_until < now())
         returning ${rollbackColumns}`,
        [id, worker, leaseMs],
      )
      return rows[0] === undefined ? null : parseRollback(rows[0])
    },

    /** False when the lease is lost. Also tells whether Stop was pressed. `now`: the card is drawn again, with these steps. */
    async renew(
      { id, epoch, worker }: Claim,
      leaseMs: number,
      now: Record<string, string> | null = null,
    ): Promise<{ held: boolean; stop: boolean; runningMs: number | null }> {
      const { rows } = await pool.query<{ stop: boolean; running: number | null }>(
        `update stepback.rollbacks set lease_until = now() + $3 * interval '1 millisecond', steps_now = coalesce($4, steps_now),
           card_version = card_version + case when $4::jsonb is null then 0 else 1 end,
           deliver_at = case when $4 is null then deliver_at else least(deliver_at, now()) end
         where id = $1 and epoch = $2 and worker = $5 and state in ('preparing', 'running') returning
           stop_requested_at is not null as stop, (extract(epoch from clock_timestamp() - coalesce(resumed_at, approved_at)) * 1000)::float8 as running`,
        [id, epoch, leaseMs, now === null ? null : JSON.stringify(now), worker],
      )
      return { held: rows[0] !== undefined, stop: rows[0]?.stop ?? false, runningMs: rows[0]?.running ?? null }
    },

    /** Gives the lease back, so that another worker may go on at once. */
    async release({ id, epoch, worker }: Claim): Promise<void> {
      await pool.query(
        "update stepback.rollbacks set lease_until = null, due_at = now() where id = $1 and epoch = $2 and worker = $3 and state in ('preparing', 'approved', 'running')",
        [id, epoch, worker],
      )
    },

    /** Rollbacks that nobody works on although somebody should. */
    async listUnclaimed(limit: number): Promise<ToWorkOn[]> {
      const { rows } = await pool.query<{ id: string; state: RollbackState; waiting: number; lapsed: boolean }>(
        `select id, state, lease_until is not null as lapsed, (extract(epoch from now() - greatest(due_at, lease_until)) * 1000)::float8 as waiting
         from stepback.rollbacks where state in ('preparing', 'approved', 'running') and (lease_until is null or lease_until < now())
         order by due_at limit $1`,
        [limit],
      )
      return rows.map((row) => ({ id: row.id, state: row.state, waitingMs: row.waiting, lapsed: row.lapsed }))
    },

    saveRehearsal: (id: string, epoch: number, outcome: RehearsalOutcome, rehearsalOnly: boolean) =>
      guarded(id, epoch, [
        {
          text: `update stepback.rollbacks set state = $9, round = round + 1, frozen = $2, digest = $3, token = $4,
             target_fingerprint = $5, risk = $6, approvals_needed = $7, rehearsed_at = clock_timestamp(), nudged_at = null,
             expires_at = clock_timestamp() + $8 * interval '1 millisecond', lease_until = null, worker = null,
             ended_at = case when $9 = 'succeeded' then now() end where id = $1`,
          values: [
            id,
            outcome.frozen,
            outcome.digest,
            outcome.token,
            outcome.fingerprint,
            outcome.risk,
            outcome.approvalsNeeded,
            outcome.expiresMs,
            rehearsalOnly ? "succeeded" : "awaiting_approval",
          ],
        },
        {
          text: `insert into stepback.cards (token, rollback_id, round, digest)
            select $2, id, round, digest from stepback.rollbacks where id = $1`,
          values: [id, outcome.token],
        },
        {
          text: "select stepback.append_audit($1, 'rehearsed', 'stepback', $2)",
          values: [
            id,
            storable({ digest: outcome.digest, risk: outcome.risk, approvalsNeeded: outcome.approvalsNeeded }),
          ],
        },
        // Somebody went on with it; what other calls there are is not over by that, not even where this is the end.
        endCalls(id, false),
        { text: "select stepback.redraw_card($1)", values: [id] },
      ]),

    async listSteps(id: string): Promise<StepRun[]> {
      const { rows } = await pool.query<{
        step_id: string
        attempt: number
        generation: number
        result: StepResult | null
        started_at: Date
        ended_at: Date | null
      }>(
        `select step_id, attempt, generation, result, started_at, ended_at
         from stepback.step_runs where rollback_id = $1 order by started_at, step_id, attempt`,
        [id],
      )
      return rows.map((row) => ({
        stepId: row.step_id,
        attempt: row.attempt,
        generation: row.generation,
        result: row.result,
        startedAt: row.started_at.toISOString(),
        endedAt: row.ended_at?.toISOString() ?? null,
        skippedBy: row.result?.skipped?.by ?? null,
        skipReason: row.result?.skipped?.reason ?? null,
      }))
    },

    /** Before an effect outside of any transaction: that it is about to happen. */
    recordIntent: (id: string, epoch: number, step: string, attempt: number) =>
      guarded(id, epoch, [
        {
          text: `insert into stepback.step_runs (rollback_id, step_id, attempt, generation, epoch)
            select $1, $2, $3, generation, $4 from stepback.rollbacks where id = $1
            on conflict (rollback_id, step_id, attempt) do update set epoch = excluded.epoch`,
          values: [id, step, attempt, epoch],
        },
        { text: "select stepback.redraw_card($1)", values: [id] },
      ]),

    /** Only that of the worker whose intent it is: a late word of an older one would hide the program that goes on now. */
    async recordProcess(id: string, epoch: number, step: string, attempt: number, process: unknown): Promise<void> {
      await pool.query(
        "update stepback.step_runs set process = $5 where rollback_id = $1 and epoch = $2 and step_id = $3 and attempt = $4",
        [id, epoch, step, attempt, storable(process)],
      )
    },

    async findProcess(id: string, step: string, attempt: number): Promise<unknown> {
      const { rows } = await pool.query<{ process: unknown }>(
        "select process from stepback.step_runs where rollback_id = $1 and step_id = $2 and attempt = $3",
        [id, step, attempt],
      )
      return rows[0]?.process ?? null
    },

    /** A long step's reply, before its result: it says how far it has come and becomes the result's. */
    tellProgress: (id: string, epoch: number, step: { id: string; attempt: number; progress: StepProgress }) => {
      const key = stepKey(id, step.id, step.attempt)
      const { attempt, progress } = step
      const body = storable({ kind: "step", stepId: step.id, attempt, progress } satisfies Message)
      return guarded(id, epoch, [
        { text: "select stepback.edit_messages($1, $2)", values: [id, key] },
        { text: "update stepback.outbox set body = $2 where key = $1", values: [key, body] },
        { text: "select stepback.enqueue($1, $2, $3)", values: [id, key, body] },
      ])
    },

    /**
     * The step's result, its audit entry, its reply and a new drawing of the card, at once. `asked`: a question in the
     * thread has become its reply. `long`: its reply may be there already, with its progress.
     */
    async recordStep(
      id: string,
      epoch: number,
      step: { id: string; attempt: number; result: StepResult; asked?: boolean; long?: boolean },
    ): Promise<{ stop: boolean }> {
      const { result, attempt } = step
      const key = step.asked === true ? questionKey(id, step.id, attempt) : stepKey(id, step.id, attempt)
      const facts = { step: step.id, attempt, outcome: result.outcome, affected: result.affected }
      const message: Message = { kind: "step", stepId: step.id, attempt }
      try {
        const record = {
          text: "select stepback.record_step($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) as stop",
          values: [
            id,
            epoch,
            step.id,
            attempt,
            result.ms,
            result.outcome,
            storable(result),
            storable(facts),
            key,
            storable(message),
          ],
        }
        const also = [
          ...(step.long === true ? [{ text: "select stepback.edit_messages($1, $2)", values: [id, key] }] : []),
          // Nobody is called for a first attempt before its result.
          ...(attempt > 1 && ["succeeded", "skipped"].includes(result.outcome) ? [endStepCalls(id, step.id)] : []),
        ]
        const [recorded] =
          also.length > 0
            ? await inOneGo(pool, [record, ...also])
            : [await pool.query<{ stop: boolean }>(record.text, record.values)]
        return { stop: (recorded?.rows[0] as { stop: boolean } | undefined)?.stop ?? false }
      } catch (error) {
        throw errorCode(error) === "SB001" ? new LostLeaseError(id) : error
      }
    },

    /** The end: state, release of the environment, the end of the calls, the analysis and its message, one transaction. */
    finish: (
      id: string,
      epoch: number,
      end: {
        state: "succeeded" | "failed" | "stopped"
        reason: string | null
        by: string
        analysis: unknown
        remindMs: number
        watchMs?: number | null
      },
    ) =>
      guarded(id, epoch, [
        {
          text: `update stepback.rollbacks set state = $2, end_reason = $3, ended_by = $4, ended_at = clock_timestamp(),
             lease_until = null, worker = null where id = $1`,
          values: [id, end.state, end.reason, end.by],
        },
        {
          text: `insert into stepback.analyses as a (rollback_id, facts, remind_at, remind_every_ms)
            values ($1, $2, now() + $3::float8 * interval '1 millisecond', $3)
            on conflict (rollback_id) do update set facts = excluded.facts, remind_every_ms = excluded.remind_every_ms,
              remind_at = case when a.root_cause is null or a.prevention is null then excluded.remind_at end`,
          values: [id, storable(end.analysis), end.remindMs],
        },
        {
          text: "select stepback.append_audit($1, $2, 'stepback', $3)",
          values: [id, end.state, storable({ reason: end.reason })],
        },
        {
          text: `insert into stepback.watches (rollback_id, until) select $1, now() + $2::float8 * interval '1 millisecond' where $2::float8 is not null
            on conflict (rollback_id) do update
              set until = excluded.until, next_at = now(), ended_at = null, seen = '{}', probes = 0`,
          values: [id, end.watchMs ?? null],
        },
        endCalls(id, end.state === "succeeded"),
        closeQuestions(id),
        // Posted once; after a Retry it is edited.
        { text: "select stepback.edit_messages($1, $2)", values: [id, `${id}/analysis`] },
        {
          text: "select stepback.enqueue($1, $2, $3)",
          values: [id, `${id}/analysis`, storable({ kind: "analysis" } satisfies Message)],
        },
        { text: "select stepback.redraw_card($1)", values: [id] },
        ...(end.state === "succeeded" ? redrawUndone(id) : []),
      ]),

    /** The first sign of life takes the row of a process that is long gone: there are no more than starts in a day. */
    async seen(worker: string, role: string): Promise<void> {
      await pool.query(
        `with gone as (select id from stepback.workers where seen_at < now() - interval '24 hours'
             and not exists (select from stepback.workers where id = $1) limit 1 for update skip locked),
           taken as (update stepback.workers w set id = $1, role = $2, seen_at = now() from gone where w.id = gone.id returning 1)
         insert into stepback.workers (id, role) select $1, $2 where not exists (select from taken)
         on conflict (id) do update set seen_at = now()`,
        [worker, role],
      )
    },
  }
}
