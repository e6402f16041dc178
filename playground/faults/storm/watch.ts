import { setTimeout as pause } from "node:timers/promises"
import type pg from "pg"

export type Live = {
  id: string
  number: number
  environment: string
  state: string
  epoch: number
  round: number
  steps: number
  /** The name of the worker that has a live lease on it. */
  worker: string | null
}

export type Watch = {
  /** The rollback of an environment that has not ended, as it was a moment ago. */
  live(environment: string): Live | undefined
  /** When the state database last answered. */
  lookedAt(): number
  /** What the worker with this pid has in hand, asked now. */
  heldBy(pid: number): Promise<Live[]>
  /** A worker was killed that had these in hand: from now until another has them. */
  killed(held: Live[]): void
  /** Milliseconds from a kill to the next claim. */
  takeovers: number[]
  /** What has not moved for too long, each once. */
  stuck: string[]
  /** The longest that a message has waited for its sending, in ms. */
  oldestUnsent(): number
  stop(): Promise<void>
}

export const stuckAfterMs = 60_000
const everyMs = 100

const columns = `id, number, environment, state, epoch, round, case when lease_until > now() then worker end as worker,
  (select count(*)::integer from stepback.step_runs s where s.rollback_id = r.id and s.ended_at is not null) as steps`

/** Looks at the state database, past all proxies: who has what, since when, and what does not move. */
export function startWatch(state: pg.Pool, someoneIsThere: () => boolean): Watch {
  /** Time in which there were workers: nothing is stuck that nobody could have moved. */
  let staffedMs = 0
  let live = new Map<string, Live>()
  let lookedAt = 0
  let oldest = 0
  let stopping = false
  const awaited = new Map<string, { epoch: number; at: number }>()
  const moved = new Map<string, { at: number; where: string }>()
  const takeovers: number[] = []
  const stuck: string[] = []

  async function look(turn: number): Promise<void> {
    const { rows } = await state.query<Live>(
      `select ${columns} from stepback.rollbacks r where state in ('preparing', 'awaiting_approval', 'approved', 'running')`,
    )
    const now = performance.now()
    if (someoneIsThere() && lookedAt > 0) staffedMs += now - lookedAt
    live = new Map(rows.map((row) => [row.environment, row]))
    lookedAt = now
    const byId = new Map(rows.map((row) => [row.id, row]))
    for (const [id, { epoch, at }] of awaited) {
      const row = byId.get(id)
      if (row && row.epoch === epoch && ["preparing", "running", "approved"].includes(row.state)) continue
      awaited.delete(id)
      // What had just ended needs nobody.
      if (row && row.epoch > epoch) takeovers.push(now - at)
    }
    for (const row of rows) follow(row, staffedMs)
    for (const id of moved.keys()) if (!byId.has(id)) moved.delete(id)
    if (turn % 10 === 0) await lookAtMessages()
  }

  function follow(row: Live, now: number): void {
    // How long people think is theirs.
    const where = `${row.state}, epoch ${row.epoch}, round ${row.round}, ${row.steps} steps`
    const known = moved.get(row.id)
    if (known?.where !== where || row.state === "awaiting_approval") moved.set(row.id, { at: now, where })
    else if (now - known.at > stuckAfterMs) {
      stuck.push(`R-${row.number} ${row.id}: ${where}`)
      known.at = Infinity
    }
  }

  async function lookAtMessages(): Promise<void> {
    const { rows } = await state.query<{ ms: number | null }>(
      `select (extract(epoch from max(now() - greatest(o.created_at, r.created_at))) * 1000)::float8 as ms from stepback.outbox o
       join stepback.rollbacks r on r.id = o.rollback_id where o.state in ('pending', 'sending') and o.revision = 0`,
    )
    oldest = Math.max(oldest, rows[0]?.ms ?? 0)
  }

  const turning = (async () => {
    // oxlint-disable-next-line no-unmodified-loop-condition -- stop() sets it
    for (let turn = 0; !stopping; turn++) {
      await look(turn).catch(() => undefined)
      await pause(everyMs)
    }
  })()
  return {
    live: (environment) => live.get(environment),
    lookedAt: () => lookedAt,
    async heldBy(pid) {
      const { rows } = await state.query<Live>(
        `select ${columns} from stepback.rollbacks r where state in ('preparing', 'running') and lease_until > now() and worker like $1`,
        [`%-${pid}-%`],
      )
      return rows
    },
    killed(held) {
      for (const { id, epoch } of held) awaited.set(id, { epoch, at: performance.now() })
    },
    takeovers,
    stuck,
    oldestUnsent: () => oldest,
    async stop() {
      stopping = true
      await turning
    },
  }
}
