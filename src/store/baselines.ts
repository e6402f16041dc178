import type { Pool } from "pg"
import { z } from "zod"
import type { BaselineAnswer } from "../rollback/baseline-facts.ts"
import { inTransaction } from "./database.ts"
import { storable } from "./rows.ts"

const baselineRow = z.object({
  name: z.string(),
  sha256: z.string(),
  content: z.string(),
  tables: z.array(z.object({ table: z.string(), rows: z.number() })),
  captured_at: z.date(),
  captured_by: z.string(),
  age_ms: z.number(),
})

/** `ageMs` is by the database's clock. */
export type StoredBaseline = {
  name: string
  sha256: string
  content: string
  tables: { table: string; rows: number }[]
  capturedAt: string
  capturedBy: string
  ageMs: number
}

export type NewBaseline = Omit<StoredBaseline, "ageMs"> & { environment: string }

const requestRow = z.object({
  id: z.string(),
  environment: z.string(),
  what: z.enum(["capture", "diff"]),
  name: z.string(),
  requester_id: z.string(),
  channel_id: z.string(),
  state: z.enum(["waiting", "answered", "posting"]),
  attempts: z.number(),
  // Ours alone: written by `answer` below.
  answer: z.custom<BaselineAnswer | null>(),
  created_at: z.date().transform((at) => at.toISOString()),
})
export type BaselineRequest = z.infer<typeof requestRow>

export type NewBaselineRequest = Pick<BaselineRequest, "id" | "environment" | "what" | "name"> & {
  requesterId: string
  channelId: string
  requestKey: string | null
}

const columns =
  "name, sha256, content, tables, captured_at, captured_by, (extract(epoch from now() - captured_at) * 1000)::float8 as age_ms"

const insert = `insert into stepback.baselines (environment, name, sha256, content, tables, captured_at, captured_by)
  values ($1, $2, $3, $4, $5, $6, $7)`

/** `fixed`: it stays. */
type KeptRow = { id: number; fixed: boolean }

/** `newer`: how many of the same environment and name came after it. */
const ranked = `select *, row_number() over (partition by environment, name order by id desc) - 1 as newer from stepback.baselines`

/**
 * A run names its snapshots in its frozen bytes. It may read them again while it goes on, and as long as it can be
 * retried or taken back: until what it kept is removed.
 */
const needed = `exists (select from stepback.rollbacks r where r.environment = b.environment and r.frozen is not null
  and (r.state in ('preparing', 'awaiting_approval', 'approved', 'running')
    or (r.started_at is not null and r.archive_removed_at is null)) and position(b.sha256 in r.frozen) > 0)`

function parse(row: unknown): StoredBaseline {
  const { captured_at: at, captured_by: capturedBy, age_ms: ageMs, ...rest } = baselineRow.parse(row)
  return { ...rest, capturedAt: at.toISOString(), capturedBy, ageMs }
}

function valuesOf(baseline: NewBaseline): unknown[] {
  const { environment, name, sha256, content, tables, capturedAt, capturedBy } = baseline
  return [environment, name, sha256, content, JSON.stringify(tables), capturedAt, capturedBy]
}

/** Snapshots, and the wishes for them that wait for a worker. */
export function baselineStore(pool: Pool) {
  return {
    async keep(baseline: NewBaseline): Promise<void> {
      await pool.query(insert, valuesOf(baseline))
    },

    async newest(environment: string, name: string): Promise<StoredBaseline | null> {
      const { rows } = await pool.query(
        `select ${columns} from stepback.baselines where environment = $1 and name = $2 order by id desc limit 1`,
        [environment, name],
      )
      return rows[0] === undefined ? null : parse(rows[0])
    },

    async find(sha256: string): Promise<StoredBaseline | null> {
      const { rows } = await pool.query(`select ${columns} from stepback.baselines where sha256 = $1 limit 1`, [sha256])
      return rows[0] === undefined ? null : parse(rows[0])
    },

    /** The newest of each name, without what is in it. */
    async list(environment: string): Promise<StoredBaseline[]> {
      const { rows } = await pool.query(
        `select distinct on (name) ${columns.replace("content", "'' as content")} from stepback.baselines
         where environment = $1 order by name, id desc`,
        [environment],
      )
      return rows.map(parse)
    },

    /** Every snapshot of an environment, the newest of each name first; `fixed`: the newest, or one that a run may still need. */
    async listAll(environment: string): Promise<(Pick<StoredBaseline, "name" | "content" | "capturedAt"> & KeptRow)[]> {
      const { rows } = await pool.query<{
        id: number
        name: string
        content: string
        captured_at: Date
        fixed: boolean
      }>(
        `select b.id, b.name, b.content, b.captured_at, (b.newer = 0 or ${needed}) as fixed from (${ranked}) b
         where b.environment = $1 order by b.name, b.id desc`,
        [environment],
      )
      return rows.map(({ captured_at: at, ...rest }) => ({ ...rest, capturedAt: at.toISOString() }))
    },

    async remove(ids: readonly number[]): Promise<void> {
      await pool.query("delete from stepback.baselines where id = any($1::bigint[])", [ids])
    },

    /** Removes old snapshots: all but the newest `keep` of each environment and name, and those that a run may still need. */
    async prune(keep: number): Promise<number> {
      const { rowCount } = await pool.query(
        `delete from stepback.baselines where id in (select b.id from (${ranked}) b where b.newer >= $1 and not ${needed})`,
        [keep],
      )
      return rowCount ?? 0
    },

    /** False when this very request was taken before. */
    async request(request: NewBaselineRequest): Promise<boolean> {
      const { id, requestKey, environment, what, name, requesterId, channelId } = request
      const { rowCount } = await pool.query(
        `insert into stepback.baseline_requests (id, request_key, environment, what, name, requester_id, channel_id)
         values ($1, $2, $3, $4, $5, $6, $7) on conflict (request_key) do nothing`,
        [id, requestKey, environment, what, name, requesterId, channelId],
      )
      return rowCount === 1
    },

    /** Takes a wish that nobody serves, for `holdMs`; null when there is none. */
    async claimRequest(holdMs: number): Promise<BaselineRequest | null> {
      const { rows } = await pool.query(
        `update stepback.baseline_requests set due_at = now() + $1 * interval '1 millisecond', attempts = attempts + 1
         where id = (select id from stepback.baseline_requests where state in ('waiting', 'answered', 'posting')
           and due_at <= now() order by created_at limit 1 for update skip locked)
         returning ${Object.keys(requestRow.shape).join(", ")}`,
        [holdMs],
      )
      return rows[0] === undefined ? null : requestRow.parse(rows[0])
    },

    /** The answer and what was captured, together: a crash before leaves neither. False when it was answered already. */
    answer: (id: string, answer: BaselineAnswer, baseline: NewBaseline | null) =>
      inTransaction(pool, async (client) => {
        const { rowCount } = await client.query(
          "update stepback.baseline_requests set state = 'answered', answer = $2, attempts = 0 where id = $1 and state = 'waiting'",
          [id, storable(answer)],
        )
        if (rowCount === 1 && baseline) await client.query(insert, valuesOf(baseline))
        return rowCount === 1
      }),

    /**
     * Before the answer goes out: from here on its fate is unknown until it is marked. False when somebody else has taken the
     * wish since, which counts as an attempt.
     */
    async markPosting(id: string, attempts: number): Promise<boolean> {
      const { rowCount } = await pool.query(
        `update stepback.baseline_requests set state = 'posting'
         where id = $1 and attempts = $2 and state in ('answered', 'posting')`,
        [id, attempts],
      )
      return rowCount === 1
    },

    async markPosted(id: string, state: "posted" | "refused"): Promise<void> {
      await pool.query("update stepback.baseline_requests set state = $2 where id = $1", [id, state])
    },

    async postpone(id: string, waitMs: number): Promise<void> {
      await pool.query(
        "update stepback.baseline_requests set due_at = now() + $2 * interval '1 millisecond' where id = $1",
        [id, waitMs],
      )
    },
  }
}
