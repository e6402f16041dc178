import type { Pool, PoolClient } from "pg"
import type { Approval } from "../rollback/facts.ts"
import { inTransaction } from "./database.ts"
import { parseRollback } from "./find-rollback.ts"
import { rollbackColumns, storable, type StoredRollback } from "./rows.ts"

export type ApprovalClick = {
  rollbackId: string
  round: number
  digest: string
  userId: string
  teamId: string | null
}

export type Approved =
  /** That was the last approval that was needed: the rollback runs. */
  | { kind: "approved"; rollback: StoredRollback }
  | { kind: "counted"; rollback: StoredRollback; have: number }
  | { kind: "already_yours"; rollback: StoredRollback }
  | { kind: "requester"; rollback: StoredRollback }
  | { kind: "too_late"; rollback: StoredRollback }

export function approvalStore(pool: Pool) {
  return {
    async list(rollbackId: string, round: number): Promise<(Approval & { teamId: string | null; digest: string })[]> {
      const { rows } = await pool.query<{ user_id: string; decided_at: Date; team_id: string | null; digest: string }>(
        `select user_id, decided_at, team_id, digest from stepback.approvals
         where rollback_id = $1 and round = $2 and voided_at is null order by decided_at`,
        [rollbackId, round],
      )
      return rows.map((row) => ({
        userId: row.user_id,
        decidedAt: row.decided_at.toISOString(),
        teamId: row.team_id,
        digest: row.digest,
      }))
    },

    /** Takes back approvals of people who may no longer give them. */
    async void(rollbackId: string, round: number, userIds: string[], reason: string): Promise<void> {
      await pool.query(
        // Under the rollback's lock: what was decided meanwhile stands, and the run asks about its approvers again.
        `with open as (select id from stepback.rollbacks where id = $1 and round = $2 and state = 'awaiting_approval' for update)
         update stepback.approvals set voided_at = now(), void_reason = $4 from open
         where rollback_id = open.id and round = $2 and user_id = any($3) and voided_at is null`,
        [rollbackId, round, userIds, reason],
      )
    },

    /**
     * One click, one transaction: state, digest, round, expiry and the requester are checked under the rollback's lock,
     * on the database's clock, together with the approval itself and, when it was the last, the release of the run.
     */
    approve: (click: ApprovalClick): Promise<Approved> => inTransaction(pool, (client) => decide(client, click)),
  }
}

async function decide(client: PoolClient, click: ApprovalClick): Promise<Approved> {
  const { rows } = await client.query(
    `select ${rollbackColumns}, expires_at > clock_timestamp() as in_time
     from stepback.rollbacks where id = $1 for update`,
    [click.rollbackId],
  )
  const rollback = parseRollback(rows[0])
  const inTime = (rows[0] as { in_time: boolean | null }).in_time === true
  // Whoever asked for a step to be left out asked for this round of it.
  const asked = [rollback.requester_id, ...Object.values(rollback.skips).map(({ by }) => by)]
  if (asked.includes(click.userId)) return { kind: "requester", rollback }
  const current = rollback.round === click.round && rollback.digest === click.digest
  if (rollback.state !== "awaiting_approval" || !current || !inTime) return { kind: "too_late", rollback }
  // One that was taken back, because its giver could not give it any more, may be given anew.
  const inserted = await client.query(
    `insert into stepback.approvals (rollback_id, round, user_id, team_id, requester_id, digest)
     values ($1, $2, $3, $4, $5, $6)
     on conflict (rollback_id, round, user_id) do update set
       digest = excluded.digest, team_id = excluded.team_id, decided_at = now(), voided_at = null, void_reason = null
     where approvals.voided_at is not null`,
    [click.rollbackId, click.round, click.userId, click.teamId, rollback.requester_id, click.digest],
  )
  if (inserted.rowCount === 0) return { kind: "already_yours", rollback }
  const counted = await client.query<{ have: number }>(
    `select count(*)::int as have from stepback.approvals
     where rollback_id = $1 and round = $2 and digest = $3 and voided_at is null`,
    [click.rollbackId, click.round, click.digest],
  )
  const have = counted.rows[0]?.have ?? 0
  const enough = have >= rollback.approvals_needed
  if (enough)
    await client.query(
      `update stepback.rollbacks set state = 'approved', approved_at = clock_timestamp(), due_at = now() where id = $1`,
      [click.rollbackId],
    )
  await client.query("select stepback.append_audit($1, 'approval', $2, $3)", [
    click.rollbackId,
    click.userId,
    storable({ digest: click.digest, round: click.round, have, needed: rollback.approvals_needed }),
  ])
  await client.query("select stepback.redraw_card($1)", [click.rollbackId])
  return enough ? { kind: "approved", rollback } : { kind: "counted", rollback, have }
}
