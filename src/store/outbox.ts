import type { Pool } from "pg"
import type { Message } from "../rollback/facts.ts"
import { inOneGo } from "./database.ts"
import { storable } from "./rows.ts"

export type OutboxRow = {
  seq: number
  key: string
  body: Message
  state: "pending" | "sending"
  channel: string | null
  ts: string | null
  revision: number
  /** No post of it is older. */
  since: string
}

/** A message that was posted in doubt, and is to be looked for once more. */
export type SecondLook = {
  seq: number
  /** What the message in Slack bears; a file has its name instead. */
  key: string
  fileName: string | null
  channel: string
  threadTs: string | null
  /** Where it is known to stand; null when it was not seen yet, as a file that Slack is slow to show. */
  ts: string | null
  since: string
  looks: number
}

/** Messages on their way to Slack. A lane is one rollback's; whoever holds it sends its messages in order. */
export function outboxStore(pool: Pool) {
  return {
    async enqueue(rollbackId: string, key: string, body: Message): Promise<void> {
      await pool.query("select stepback.enqueue($1, $2, $3)", [rollbackId, key, storable(body)])
    },

    async redrawCard(rollbackId: string): Promise<void> {
      await pool.query("select stepback.redraw_card($1)", [rollbackId])
    },

    /** Takes a rollback that has something to say and that nobody is sending for; null when there is none. */
    async claimLane(owner: string, holdMs: number): Promise<string | null> {
      const { rows } = await pool.query<{ id: string }>(
        `update stepback.rollbacks set lane_owner = $1, lane_until = now() + $2 * interval '1 millisecond'
         where id = (select id from stepback.rollbacks where deliver_at <= now() and (lane_until is null or lane_until < now())
           order by deliver_at limit 1 for update skip locked) returning id`,
        [owner, holdMs],
      )
      return rows[0]?.id ?? null
    },

    /** False when the lane is no longer ours. */
    async holdLane(rollbackId: string, owner: string, holdMs: number): Promise<boolean> {
      const { rowCount } = await pool.query(
        `update stepback.rollbacks set lane_until = now() + $3 * interval '1 millisecond' where id = $1 and lane_owner = $2`,
        [rollbackId, owner, holdMs],
      )
      return rowCount === 1
    },

    /** `only`: of this kind; null: all. */
    async listUnsent(rollbackId: string, only: Message["kind"] | null = null): Promise<OutboxRow[]> {
      const { rows } = await pool.query<OutboxRow>(
        `select seq, key, body, state, channel, ts, revision,
           to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as since from stepback.outbox
         where rollback_id = $1 and state in ('pending', 'sending') and ($2::text is null or body ->> 'kind' = $2)
         order by seq limit 50`,
        [rollbackId, only],
      )
      return rows
    },

    /** Whether a later head of this rollback waits to be posted. */
    async hasNewerHead(rollbackId: string, seq: number): Promise<boolean> {
      const { rowCount } = await pool.query(
        `select 1 from stepback.outbox
         where rollback_id = $1 and seq > $2 and state = 'pending' and body ->> 'kind' = 'audit' limit 1`,
        [rollbackId, seq],
      )
      return rowCount !== 0
    },

    /** Gives the lane back: with nothing left it rests; otherwise it is due again after `waitMs`. `failed`: nobody heard. */
    async releaseLane(rollbackId: string, owner: string, waitMs: number | null, failed = false): Promise<void> {
      // Locked first: a message whose transaction is just committing is seen by a statement that begins after it.
      const lock = {
        text: "select 1 from stepback.rollbacks where id = $1 and lane_owner = $2 for update",
        values: [rollbackId, owner],
      }
      const release = {
        text: `update stepback.rollbacks set lane_owner = null, lane_until = null,
           delivery_attempts = case when $4 then delivery_attempts + 1 else 0 end,
           deliver_at = case
             when $3::float8 is not null then now() + $3 * interval '1 millisecond'
             when card_version > card_sent_version and card_state <> 'lost' then now()
             when exists (select 1 from stepback.outbox o where o.rollback_id = id and o.state in ('pending', 'sending')) then now()
             else (select min(l.due_at) from stepback.second_looks l where l.rollback_id = id) end
         where id = $1 and lane_owner = $2`,
        values: [rollbackId, owner, waitMs, failed],
      }
      await inOneGo(pool, [lock, release])
    },

    async deliveryAttempts(rollbackId: string): Promise<number> {
      const { rows } = await pool.query<{ n: number }>(
        "select delivery_attempts as n from stepback.rollbacks where id = $1",
        [rollbackId],
      )
      return rows[0]?.n ?? 0
    },

    /**
     * Before a message goes out: from here on its fate is unknown until it is marked sent. False when the lane is another's.
     * The rollback's row is locked, so that whoever takes the lane next sees the mark.
     */
    async markSending(rollbackId: string, seq: number, owner: string): Promise<boolean> {
      const { rowCount } = await pool.query(
        `with lane as (select id from stepback.rollbacks where id = $1 and lane_owner = $3 for update)
         update stepback.outbox o set state = 'sending' from lane where o.rollback_id = lane.id and o.seq = $2`,
        [rollbackId, seq, owner],
      )
      return rowCount === 1
    },

    /** It certainly did not go out: it need not be looked for. The mark of another owner stays. */
    async markPending(rollbackId: string, seq: number, owner: string): Promise<void> {
      await pool.query(
        `with lane as (select id from stepback.rollbacks where id = $1 and lane_owner = $3 for update)
         update stepback.outbox o set state = 'pending' from lane
         where o.rollback_id = lane.id and o.seq = $2 and o.state = 'sending'`,
        [rollbackId, seq, owner],
      )
    },

    async markSent(
      rollbackId: string,
      seq: number,
      sent: { channel: string | null; ts: string | null; revision: number; refused?: boolean },
    ): Promise<void> {
      await pool.query(
        `update stepback.outbox set sent_at = now(), channel = $3, ts = $4,
           state = case when $5 then 'refused' when revision > $6 then 'pending' else 'sent' end
         where rollback_id = $1 and seq = $2`,
        [rollbackId, seq, sent.channel, sent.ts, sent.refused === true, sent.revision],
      )
    },

    /** The same for the card. */
    async markCardSending(rollbackId: string, owner: string): Promise<boolean> {
      const { rowCount } = await pool.query(
        `update stepback.rollbacks set card_state = 'sending'
         where id = $1 and lane_owner = $2 and card_state in ('none', 'sending')`,
        [rollbackId, owner],
      )
      return rowCount === 1
    },

    /** It certainly did not go out. */
    async markCardUnsent(rollbackId: string, owner: string): Promise<void> {
      await pool.query(
        "update stepback.rollbacks set card_state = 'none' where id = $1 and lane_owner = $2 and card_state = 'sending'",
        [rollbackId, owner],
      )
    },

    async markCardSent(
      rollbackId: string,
      sent: { version: number; channel: string; ts: string; permalink: string | null },
    ): Promise<void> {
      await pool.query(
        `update stepback.rollbacks set card_state = 'sent', card_sent_version = greatest(card_sent_version, $2), card_channel = $3,
           card_ts = $4, permalink = coalesce($5, permalink) where id = $1`,
        [rollbackId, sent.version, sent.channel, sent.ts, sent.permalink],
      )
    },

    /** A message (0: the card) is about to be posted in doubt: it is looked for after this time. */
    async planLook(
      rollbackId: string,
      look: { seq: number; channel: string; threadTs: string | null; fileName: string | null },
      afterMs: number,
    ): Promise<void> {
      await pool.query(
        `insert into stepback.second_looks (rollback_id, seq, channel, thread_ts, file_name, due_at)
         values ($1, $2, $3, $4, $5, now() + $6 * interval '1 millisecond')
         on conflict (rollback_id, seq) do update set looks = 0, channel = excluded.channel, thread_ts = excluded.thread_ts,
           file_name = excluded.file_name, due_at = excluded.due_at`,
        [rollbackId, look.seq, look.channel, look.threadTs, look.fileName, afterMs],
      )
    },

    /** One that is due; null when none is. */
    async dueLook(rollbackId: string): Promise<SecondLook | null> {
      const { rows } = await pool.query<SecondLook>(
        `select l.seq, coalesce(o.key, l.rollback_id || '/card') as key, l.file_name as "fileName", l.channel, l.looks,
           l.thread_ts as "threadTs", to_char(l.since at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as since,
           nullif(case when l.seq = 0 then r.card_ts else o.ts end, '') as ts
         from stepback.second_looks l join stepback.rollbacks r on r.id = l.rollback_id
         left join stepback.outbox o on o.rollback_id = l.rollback_id and o.seq = l.seq
         where l.rollback_id = $1 and l.due_at <= now() order by l.due_at limit 1`,
        [rollbackId],
      )
      return rows[0] ?? null
    },

    /** It could not be looked for: again after this time, for a week. False when that is over. */
    async postponeLook(rollbackId: string, seq: number, afterMs: number): Promise<boolean> {
      const { rows } = await pool.query<{ kept: boolean }>(
        `update stepback.second_looks set due_at = now() + $3 * interval '1 millisecond' where rollback_id = $1 and seq = $2
         returning since > now() - interval '7 days' as kept`,
        [rollbackId, seq, afterMs],
      )
      return rows[0]?.kept ?? true
    },

    /** It was looked for; null: for the last time. */
    async markLooked(rollbackId: string, seq: number, againMs: number | null): Promise<void> {
      await (againMs === null
        ? pool.query("delete from stepback.second_looks where rollback_id = $1 and seq = $2", [rollbackId, seq])
        : pool.query(
            `update stepback.second_looks set looks = looks + 1, due_at = now() + $3 * interval '1 millisecond'
             where rollback_id = $1 and seq = $2`,
            [rollbackId, seq, againMs],
          ))
    },

    /** Somebody deleted it: it is posted anew. */
    async markCardGone(rollbackId: string): Promise<void> {
      await pool.query(
        `update stepback.rollbacks set card_state = 'none', card_ts = null, card_channel = null, permalink = null,
           card_sent_version = least(card_sent_version, card_version - 1) where id = $1`,
        [rollbackId],
      )
    },

    /** The channel will never take this card (left, archived): the rest is not held up by it. */
    async markCardLost(rollbackId: string): Promise<void> {
      await pool.query(
        "update stepback.rollbacks set card_state = 'lost', card_sent_version = card_version where id = $1",
        [rollbackId],
      )
    },
  }
}
