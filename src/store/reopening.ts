import type { PoolClient } from "pg"
import type { Message } from "../rollback/facts.ts"
import type { RollbackState } from "../rollback/states.ts"
import { one, parseRollback, type Moved } from "./find-rollback.ts"
import { rollbackColumns, storable, type StoredRollback } from "./rows.ts"

/** At which it was looked at, where it must not be another's, or shown anew, since. */
export type Seen = { epoch?: number | null; round?: number }

/** Not out of a run that somebody stops: what is asked again could be approved, and would go on. */
export async function prepareAgain(
  client: PoolClient,
  id: string,
  from: RollbackState[],
  moved: string[],
  { epoch, round }: Seen,
): Promise<Moved> {
  const { rows } = await client.query(
    `update stepback.rollbacks set state = 'preparing', token = null, moved = $3, lease_until = null, due_at = now(),
       approved_at = null, resumed_at = null, worker = null, generation = generation + 1, ended_at = null, ended_by = null, end_reason = null,
       stop_requested_at = null, stop_requested_by = null, archive_removed_at = null
     where id = $1 and state = any($2) and ($4::integer is null or epoch = $4) and ($5::integer is null or round = $5)
       and (state <> 'running' or stop_requested_at is null) returning ${rollbackColumns}`,
    [id, from, storable(moved), epoch ?? null, round ?? null],
  )
  if (rows[0] === undefined) return { kind: "not_moved", rollback: await one(client, "id = $1", [id]) }
  await client.query(
    "update stepback.approvals set voided_at = now(), void_reason = $2 where rollback_id = $1 and voided_at is null",
    [id, moved.join("; ")],
  )
  await client.query("select stepback.append_audit($1, 'moved', 'stepback', $2)", [id, storable({ moved })])
  await client.query("select stepback.redraw_card($1)", [id])
  return { kind: "moved", rollback: parseRollback(rows[0]) }
}

export async function prepareWithout(
  client: PoolClient,
  id: string,
  from: RollbackState[],
  { skips, epoch }: { skips: StoredRollback["skips"]; epoch: number | null },
): Promise<Moved> {
  const { rows } = await client.query<{ id: string; title: string }>(
    `select s ->> 'id' as id, s ->> 'title' as title from stepback.rollbacks r,
       jsonb_array_elements(r.frozen::jsonb -> 'components') c, jsonb_array_elements(c -> 'steps') s where r.id = $1`,
    [id],
  )
  const titles = new Map(rows.map((step) => [step.id, step.title]))
  const moved = Object.entries(skips).map(
    ([step, { reason }]) => `step "${titles.get(step) ?? step}" will be skipped: ${reason}`,
  )
  const again = await prepareAgain(client, id, from, moved, { epoch })
  if (again.kind === "moved")
    await client.query("update stepback.rollbacks set skips = $2 where id = $1", [id, storable(skips)])
  return again
}

/** False when this request was delivered before. One without a key is new each time. */
export async function takeRequest(client: PoolClient, requestKey: string | null): Promise<boolean> {
  if (requestKey === null) return true
  const { rowCount } = await client.query("insert into stepback.requests (key) values ($1) on conflict do nothing", [
    requestKey,
  ])
  return rowCount !== 0
}

/** `epoch`, `generation`: at which it was looked at, where it must not have run, or not been reopened, since. */
export type ReopenRequest = {
  actor: string
  requestKey: string | null
  skips: StoredRollback["skips"] | null
  epoch?: number | null
  generation?: number
}

export async function reopen(
  client: PoolClient,
  id: string,
  { actor, requestKey, skips, epoch, generation }: ReopenRequest,
): Promise<Moved> {
  const refused = async (): Promise<Moved> => ({ kind: "not_moved", rollback: await one(client, "id = $1", [id]) })
  // The same request delivered again reopens nothing a second time.
  if (!(await takeRequest(client, requestKey))) return refused()
  // Locked before it is looked at: whoever leaves it as it is at this moment is either before or after.
  await client.query("select 1 from stepback.rollbacks where id = $1 for update", [id])
  // It was left as it is, or a later rollback has been at work here: what this one did is not there any more, or not as it was.
  const later = await client.query(
    `select 1 from stepback.rollbacks l join stepback.rollbacks r on r.id = $1
     where (l.environment = r.environment and l.number > r.number and l.started_at is not null)
       or (l.id = r.id and r.left_at is not null) limit 1`,
    [id],
  )
  if (later.rowCount !== 0) return refused()
  await client.query("update stepback.watches set ended_at = now() where rollback_id = $1 and ended_at is null", [id])
  if (skips !== null) return prepareWithout(client, id, ["failed", "stopped"], { skips, epoch: epoch ?? null })
  const { rows } = await client.query(
    `update stepback.rollbacks set state = 'running', generation = generation + 1, lease_until = null, worker = null, due_at = now(),
       resumed_at = now(), ended_at = null, ended_by = null, end_reason = null, stop_requested_at = null,
       stop_requested_by = null, archive_removed_at = null
     where id = $1 and state in ('failed', 'stopped') and approved_at is not null
       and ($2::integer is null or generation = $2) returning ${rollbackColumns}`,
    [id, generation ?? null],
  )
  if (rows[0] === undefined) return refused()
  await client.query("select stepback.append_audit($1, 'retried', $2, '{}')", [id, actor])
  await client.query("select stepback.redraw_card($1)", [id])
  return { kind: "moved", rollback: parseRollback(rows[0]) }
}

/**
 * Nobody goes on with it: the decision, the card without its ways on, the words in the thread and the end of the calls
 * are one.
 */
export async function leave(client: PoolClient, id: string, userId: string): Promise<Moved> {
  const { rows } = await client.query(
    `update stepback.rollbacks set left_at = now(), left_by = $2
       where id = $1 and state in ('failed', 'stopped') and left_at is null returning ${rollbackColumns}`,
    [id, userId],
  )
  if (rows[0] === undefined) return { kind: "not_moved", rollback: await one(client, "id = $1", [id]) }
  await client.query("select stepback.append_audit($1, 'left', $2, '{}')", [id, userId])
  await client.query("select stepback.enqueue($1, $2, $3)", [
    id,
    `${id}/left`,
    storable({ kind: "left" } satisfies Message),
  ])
  // Somebody knows and has decided: nobody is called for it again.
  const called = await client.query<{ key: string }>(
    `update stepback.escalations set resolved_at = now(), next_telling_at = null
       where rollback_id = $1 and resolved_at is null returning key`,
    [id],
  )
  for (const { key } of called.rows) await client.query("select stepback.edit_messages($1, $2)", [id, `${key}/`])
  await client.query("select stepback.edit_messages($1, $2)", [id, `${id}/analysis`])
  await client.query("select stepback.redraw_card($1)", [id])
  return { kind: "moved", rollback: parseRollback(rows[0]) }
}
