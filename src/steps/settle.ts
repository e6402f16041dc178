import { setTimeout as pause } from "node:timers/promises"
import type { PoolClient } from "pg"
import { errorCode, isPassing, LostLeaseError, StepbackError } from "../errors.ts"
import type { StepResult } from "../rollback/facts.ts"
import { findEntry } from "./ledger.ts"
import { lockHolders } from "./locks.ts"
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
      return { ...result, attempts: attempt }
    } catch (error) {
      if (error instanceof LostLeaseError) throw error
      // What the statement itself took is not held against the ledger's answer.
      troubled ??= performance.now()
      if (!isPassing(error) || elapsed(troubled) > patienceMs || context.signal.aborted)
        return { ...(await failed(error, { sql: step.sql, doubtful }, context, started)), attempts: attempt }
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
  return stepResult({ outcome, failure: seen, ms: elapsed(started) })
}
