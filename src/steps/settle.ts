import { setTimeout as pause } from "node:timers/promises"
import type { PoolClient } from "pg"
import { errorCode, isPassing, LostLeaseError, StepbackError } from "../errors.ts"
import type { StepResult } from "../rollback/facts.ts"
import { findEntry } from "./ledger.ts"
import { elapsed, failure, sqlFailure, stepResult, type RunContext } from "./step.ts"
import { deadlineOf, withClient } from "./target.ts"

/** How long a database that is away is waited for: a restart takes seconds. */
const patienceMs = 90_000

/**
 * Runs a transactional step until its outcome is known. An error that passes (the link broke, the server restarted) is
 * followed by a question to the ledger: done is reported and not repeated, not done is tried again.
 */
export async function settleStep(
  step: { id: string; sql: string; timeoutMs: number },
  context: RunContext,
  work: (client: PoolClient, started: number) => Promise<StepResult>,
): Promise<StepResult> {
  const { pool } = context.target
  const started = performance.now()
  if (!pool)
    return stepResult({ outcome: "failed", failure: failure("no_database", "the plan's target has no database") })
  let doubtful = false
  let troubled: number | null = null
  for (let attempt = 1; ; attempt++) {
    try {
      if (doubtful) {
        const entry = await findEntry(pool, context.key, step.id)
        if (entry) return entry.result
        doubtful = false
      }
      const result = await withClient(pool, (client) => work(client, started), deadlineOf(step.timeoutMs))
      if (result.failure?.code === "40001" && attempt <= 5) continue
      return result
    } catch (error) {
      if (error instanceof LostLeaseError) throw error
      // What the statement itself took is not held against the ledger's answer.
      troubled ??= performance.now()
      if (!isPassing(error) || elapsed(troubled) > patienceMs || context.signal.aborted)
        return failed(error, { sql: step.sql, doubtful }, context, started)
      doubtful = true
      await pause(Math.min(100 * 2 ** attempt, 2_000))
    }
  }
}

async function failed(
  error: unknown,
  { sql, doubtful }: { sql: string; doubtful: boolean },
  context: RunContext,
  started: number,
): Promise<StepResult> {
  const seen =
    error instanceof StepbackError
      ? failure(error.code, context.secrets.redact(error.message))
      : sqlFailure(error, sql, context)
  // Nobody knows whether it committed: that is for a person to find out.
  const outcome = doubtful || isPassing(error) ? "unknown" : "failed"
  if (["55P03", "08007"].includes(errorCode(error))) seen.detail = await lockHolders(context)
  return stepResult({ outcome, failure: seen, ms: elapsed(started), attempts: context.attempt })
}

/** Who holds locks that others wait for, for the message of a lock timeout. */
export async function lockHolders(context: RunContext): Promise<string | null> {
  const { pool } = context.target
  if (!pool) return null
  try {
    const { rows } = await withClient(
      pool,
      (client) =>
        client.query<{ pid: number; age: string; state: string; query: string }>(
          `select pid, date_trunc('second', now() - xact_start)::text as age, state, left(query, 120) as query
       from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and xact_start is not null
         and exists (select 1 from pg_locks l where l.pid = pg_stat_activity.pid and l.granted and l.mode like '%Exclusive%' and l.locktype in ('relation', 'transactionid', 'tuple'))
       order by xact_start limit 3`,
        ),
      5_000,
    )
    return rows.length === 0
      ? null
      : rows
          .map((row) => `held by pid ${row.pid} for ${row.age} (${row.state}): ${context.secrets.redact(row.query)}`)
          .join("; ")
  } catch {
    return null
  }
}
