import type { Pool, PoolClient } from "pg"
import { errorCode } from "../errors.ts"
import { isLive, statesBefore, type RollbackState } from "../rollback/states.ts"
import { closeQuestions } from "./confirmations.ts"
import { inTransaction } from "./database.ts"
import { one, parseRollback, type Moved } from "./find-rollback.ts"
import { endCalls } from "./records.ts"
import { leave, prepareAgain, prepareWithout, reopen, takeRequest, type ReopenRequest, type Seen } from "./reopening.ts"
import { isUuid, rollbackColumns, storable, type Selection, type StoredRollback } from "./rows.ts"

export type NewRollback = {
  id: string
  kind: "rollback" | "undo" | "rehearsal"
  environment: string
  title: string
  requesterId: string
  teamId: string | null
  channelId: string
  reason: string
  selection: Selection
  requestKey: string | null
  targetReference: string | null
  undoOf: string | null
}

export type Created =
  | { kind: "created"; rollback: StoredRollback }
  | { kind: "busy"; rollback: StoredRollback }
  | { kind: "repeated" }

/** Rollbacks: created under the environment's lock, moved only from a state that allows it. */
export function rollbackStore(pool: Pool) {
  return {
    find: async (id: string) => (isUuid(id) ? one(pool, "id = $1", [id]) : null),
    findByNumber: (number: number) => one(pool, "number = $1", [number]),
    findLive: (environment: string) =>
      one(
        pool,
        `environment = $1 and kind <> 'rehearsal' and state in ('preparing', 'awaiting_approval', 'approved', 'running')`,
        [environment],
      ),
    /** Which other rollback has this one's environment or database. */
    findHolder: (id: string) =>
      one(
        pool,
        `id <> $1 and kind <> 'rehearsal' and state in ('preparing', 'awaiting_approval', 'approved', 'running')
          and exists (select from stepback.rollbacks o where o.id = $1 and (o.environment = rollbacks.environment
            or o.target_reference = rollbacks.target_reference or o.target_fingerprint = rollbacks.target_fingerprint))`,
        [id],
      ),
    /** The undo that took it back, as things stand. */
    findTakenBackBy: (id: string) => one(pool, "id = stepback.taken_back_by($1)", [id]),
    /** The newest that has been at work in the same environment since. */
    findLater: (id: string) =>
      one(
        pool,
        `started_at is not null and kind in ('rollback', 'undo') and exists (select from stepback.rollbacks o
          where o.id = $1 and o.environment = rollbacks.environment and o.number < rollbacks.number)
          order by number desc limit 1`,
        [id],
      ),
    /** What is going on, here or (null) anywhere. */
    async live(environment: string | null): Promise<StoredRollback[]> {
      const { rows } = await pool.query(
        `select ${rollbackColumns} from stepback.rollbacks where ($1::text is null or environment = $1) and number is not null
           and state in ('preparing', 'awaiting_approval', 'approved', 'running') order by number desc limit 20`,
        [environment],
      )
      return rows.map(parseRollback)
    },
    newest: (environment: string | null) =>
      one(pool, `($1::text is null or environment = $1) and number is not null order by number desc limit 1`, [
        environment,
      ]),

    async get(id: string): Promise<StoredRollback> {
      const found = await one(pool, "id = $1", [id])
      if (!found) throw new Error(`there is no rollback ${id}`)
      return found
    },

    async list(environment: string | null, limit: number): Promise<StoredRollback[]> {
      const { rows } = await pool.query(
        `select ${rollbackColumns} from stepback.rollbacks
         where ($1::text is null or environment = $1) and number is not null order by number desc limit $2`,
        [environment, limit],
      )
      return rows.map(parseRollback)
    },

    /** Which rollback, and which round of it, a card's token belongs to; null for a token that was never ours. */
    async findCard(
      token: string,
    ): Promise<{ rollback: StoredRollback; round: number; digest: string; current: boolean } | null> {
      if (!isUuid(token)) return null
      const { rows } = await pool.query<{ rollback_id: string; round: number; digest: string }>(
        "select rollback_id, round, digest from stepback.cards where token = $1",
        [token],
      )
      const card = rows[0]
      if (!card) return null
      const rollback = await one(pool, "id = $1", [card.rollback_id])
      return rollback === null
        ? null
        : { rollback, round: card.round, digest: card.digest, current: rollback.token === token }
    },

    create: (request: NewRollback) => create(pool, request),

    /** One guarded move with its audit entry and a new drawing of the card. */
    move: (id: string, to: RollbackState, facts: MoveFacts) =>
      inTransaction(pool, (client) => move(client, id, to, facts)),

    /** The same request delivered again stops nothing a second time: the run may have been gone on with since. */
    async requestStop(id: string, userId: string, requestKey: string | null): Promise<Moved> {
      return inTransaction(pool, async (client) => {
        const first = await takeRequest(client, requestKey)
        if (!first) return { kind: "not_moved", rollback: await one(client, "id = $1", [id]) }
        const { rows } = await client.query(
          `update stepback.rollbacks set stop_requested_at = now(), stop_requested_by = $2
           where id = $1 and state in ('approved', 'running') and stop_requested_at is null returning ${rollbackColumns}`,
          [id, userId],
        )
        if (rows[0] === undefined) return { kind: "not_moved", rollback: await one(client, "id = $1", [id]) }
        await client.query("select stepback.append_audit($1, 'stop_requested', $2, '{}')", [id, userId])
        await client.query("select stepback.redraw_card($1)", [id])
        return { kind: "moved", rollback: parseRollback(rows[0]) }
      })
    },

    leave: (id: string, userId: string) => inTransaction(pool, (client) => leave(client, id, userId)),

    /** Takes the rollback out of the hands of its approvers: what they approved has moved. */
    prepareAgain: (id: string, from: RollbackState[], moved: string[], seen: Seen) =>
      inTransaction(pool, (client) => prepareAgain(client, id, from, moved, seen)),

    /** The same out of a run whose people want steps left out. */
    prepareWithout: (id: string, skips: StoredRollback["skips"], epoch: number) =>
      inTransaction(pool, (client) => prepareWithout(client, id, ["running"], { skips, epoch })),

    /**
     * Opens an ended run again, under the environment's lock: what failed is tried again. `skips` also changes what runs,
     * so it goes back to the approvers.
     */
    reopen: (id: string, asked: ReopenRequest): Promise<Moved | { kind: "busy" }> =>
      inTransaction(pool, (client) => reopen(client, id, asked)).catch((error: unknown) => {
        if (errorCode(error) === "23505") return { kind: "busy" as const }
        throw error
      }),

    /**
     * Run times of the last rollbacks that did these components and succeeded, newest first, in ms. One that waited for
     * people in its middle (Retry, new numbers) says nothing about how long it takes.
     */
    async runTimes(environment: string, components: string[], limit: number): Promise<number[]> {
      const { rows } = await pool.query<{ ms: number }>(
        `select (extract(epoch from ended_at - started_at) * 1000)::float8 as ms from stepback.rollbacks
         where environment = $1 and state = 'succeeded' and kind = 'rollback' and started_at is not null
           and frozen is not null and (select jsonb_agg(c ->> 'id') from jsonb_array_elements(frozen::jsonb -> 'components') c) = $2::jsonb
           and (select count(distinct generation) from stepback.step_runs s where s.rollback_id = rollbacks.id) <= 1
         order by number desc limit $3`,
        [environment, JSON.stringify(components), limit],
      )
      return rows.map((row) => row.ms)
    },

    /**
     * Run times of each of these components in the last rollbacks that succeeded, whatever else they did, in ms; likewise.
     */
    async componentTimes(environment: string, components: string[], limit: number): Promise<Map<string, number[]>> {
      const { rows } = await pool.query<{ component: string; ms: number[] }>(
        `with part as (
           select r.number, c ->> 'id' as component,
             (extract(epoch from max(s.ended_at) - min(s.started_at)) * 1000)::float8 as ms
           from (select id, number, frozen from stepback.rollbacks
             where environment = $1 and state = 'succeeded' and kind = 'rollback' and started_at is not null
               and frozen is not null order by number desc limit $3) r
           cross join lateral jsonb_array_elements(r.frozen::jsonb -> 'components') c
           join stepback.step_runs s on s.rollback_id = r.id
             and s.step_id in (select t ->> 'id' from jsonb_array_elements(c -> 'steps') t)
           where c ->> 'id' = any($2)
           group by r.number, c ->> 'id' having count(distinct s.generation) = 1 and bool_and(s.ended_at is not null))
         select component, array_agg(ms order by number desc) as ms from part group by component`,
        [environment, components, limit],
      )
      const times = new Map(rows.map((row) => [row.component, row.ms]))
      return new Map(components.flatMap((id) => (times.has(id) ? [[id, times.get(id) ?? []]] : [])))
    },
  }
}

export type MoveFacts = {
  actor: string
  reason?: string | null
  /** Only when it is still this round of the card. */
  round?: number
  /** Only by the worker that has this epoch. */
  epoch?: number
}

export async function move(client: PoolClient, id: string, to: RollbackState, facts: MoveFacts): Promise<Moved> {
  const ends = !isLive(to)
  const { rows } = await client.query(
    `update stepback.rollbacks set state = $2, end_reason = coalesce($4, end_reason),
       ended_at = case when $5 then now() else ended_at end, ended_by = case when $5 then $6 else ended_by end,
       lease_until = case when $5 then null else lease_until end
     where id = $1 and state = any($3) and ($7::integer is null or round = $7) and ($8::integer is null or epoch = $8)
     returning ${rollbackColumns}`,
    [id, to, statesBefore(to), facts.reason ?? null, ends, facts.actor, facts.round ?? null, facts.epoch ?? null],
  )
  if (rows[0] === undefined) return { kind: "not_moved", rollback: await one(client, "id = $1", [id]) }
  await client.query("select stepback.append_audit($1, $2, $3, $4)", [
    id,
    to,
    facts.actor,
    storable({ reason: facts.reason ?? null }),
  ])
  await client.query("select stepback.redraw_card($1)", [id])
  if (ends) {
    await client.query("select stepback.analyse_if_begun($1)", [id])
    await client.query(endCalls(id, false))
    await client.query(closeQuestions(id))
  }
  return { kind: "moved", rollback: parseRollback(rows[0]) }
}

/** The counter's row is locked until commit, so a number is used or was never taken. */
async function takeNumber(client: PoolClient): Promise<number | undefined> {
  const { rows } = await client.query<{ value: number }>(
    "update stepback.counters set value = value + 1 where name = 'rollback' returning value",
  )
  return rows[0]?.value
}

async function create(pool: Pool, request: NewRollback, tries = 3): Promise<Created> {
  try {
    return await inTransaction(pool, async (client) => {
      // A Retry holds its row and waits for the environment: had we that and waited for the row, one would be given up.
      if (request.undoOf !== null)
        await client.query("select from stepback.rollbacks where id = $1 for key share", [request.undoOf])
      const number = request.kind === "rehearsal" ? null : await takeNumber(client)
      const { rows } = await client.query(
        `insert into stepback.rollbacks (id, number, kind, environment, title, state, requester_id, team_id, channel_id, reason,
           selection, request_key, target_reference, undo_of, audit_head)
         select $1, $2, $3, $4, $5, 'preparing', $6, $7, $8, $9, $10, $11, $12, $13,
           coalesce((select p.audit_head from stepback.rollbacks p where p.number = $2::integer - 1), '')
         returning ${rollbackColumns}`,
        [
          request.id,
          number,
          request.kind,
          request.environment,
          request.title,
          request.requesterId,
          request.teamId,
          request.channelId,
          request.reason,
          storable(request.selection),
          request.requestKey,
          request.targetReference,
          request.undoOf,
        ],
      )
      await client.query("select stepback.append_audit($1, 'requested', $2, $3)", [
        request.id,
        request.requesterId,
        storable({
          environment: request.environment,
          reason: request.reason,
          selection: request.selection,
          kind: request.kind,
        }),
      ])
      await client.query("select stepback.redraw_card($1)", [request.id])
      return { kind: "created", rollback: parseRollback(rows[0]) }
    })
  } catch (error) {
    if (errorCode(error) !== "23505") throw error
    if ((error as { constraint?: string }).constraint === "rollbacks_request_key_key") return { kind: "repeated" }
    const live = await one(
      pool,
      `kind <> 'rehearsal' and state in ('preparing', 'awaiting_approval', 'approved', 'running')
        and (environment = $1 or target_reference = $2)`,
      [request.environment, request.targetReference],
    )
    if (live !== null) return { kind: "busy", rollback: live }
    // It ended in between: the person asks again and gets through; here it is done for them.
    if (tries > 1) return create(pool, request, tries - 1)
    throw error
  }
}
