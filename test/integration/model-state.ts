import { expect } from "vitest"
import type { RollbackState } from "../../src/rollback/states.ts"
import type { Environment, World } from "./model-world.ts"

/** A rollback as it stands, and what of it the rules ask about. */
export type Row = {
  id: string
  number: number
  environment: Environment
  state: RollbackState
  requester_id: string
  round: number
  token: string | null
  /** How many approvals its frozen policy asks for; null before its first rehearsal. */
  need: number | null
  target_fingerprint: string | null
  approved: boolean
  started: boolean
  left: boolean
  claimable: boolean
  failed_step: boolean
  /** Whether it did anything that could be taken back. */
  did: boolean
}

const rowsOf = `select r.id, r.number, r.environment, r.state, r.requester_id, r.round, r.token, r.target_fingerprint,
    (r.frozen::jsonb -> 'policy' ->> 'count')::integer as need, r.approved_at is not null as approved,
    r.started_at is not null as started, r.left_at is not null as left,
    r.state in ('preparing', 'approved', 'running') and coalesce(r.lease_until < now(), true) as claimable,
    exists (select from (select distinct on (s.step_id) s.outcome from stepback.step_runs s where s.rollback_id = r.id
      order by s.step_id, s.attempt desc) newest where newest.outcome in ('failed', 'unknown')) as failed_step,
    -- A request that was answered with 500 may have done its work.
    exists (select from stepback.step_runs s where s.rollback_id = r.id
      and (s.outcome in ('succeeded', 'unknown') or s.result -> 'failure' ->> 'code' = 'http_500')) as did
  from stepback.rollbacks r where r.id = any($1) order by r.number`

/**
 * What the rules speak of, kept beside the system: who asked, who agreed and what was stopped is known from what people
 * pressed; where each rollback stands is read after each command and compared with what was foretold.
 */
export class Model {
  readonly ids: string[] = []
  /** Commands that could happen. */
  played = 0
  rows: Row[] = []
  /** What a rollback had done when it was stopped: more must not come. */
  readonly stopped = new Map<string, string>()
  /** The worker that took it up last. */
  readonly holder = new Map<string, number>()
  readonly #approvals = new Map<string, Set<string>>()
  readonly #askers = new Map<string, Set<string>>()
  readonly #tokens = new Map<string, string[]>()
  readonly #expected = new Map<string, RollbackState>()
  readonly #left = new Map<string, RollbackState>()

  readonly world: World

  constructor(world: World) {
    this.world = world
  }

  approvals(row: Row): Set<string> {
    return this.#approvals.get(`${row.id}/${row.round}`) ?? new Set()
  }
  setApprovals(row: Row, givers: Set<string>): void {
    this.#approvals.set(`${row.id}/${row.round}`, givers)
  }
  /** Who may not approve it whatever the plan says: they asked for it. */
  askers(row: Row): Set<string> {
    const known = this.#askers.get(row.id) ?? new Set([row.requester_id])
    this.#askers.set(row.id, known)
    return known
  }
  setAskers(row: Row, askers: string[]): void {
    this.#askers.set(row.id, new Set(askers))
  }
  oldTokens(row: Row): string[] {
    return (this.#tokens.get(row.id) ?? []).filter((token) => token !== row.token)
  }
  expectState(id: string, state: RollbackState): void {
    this.#expected.set(id, state)
  }
  /** Whoever took it up brings it out of this state. */
  expectLeft(id: string, state: RollbackState): void {
    this.#left.set(id, state)
  }

  /** After what was not foretold: whose approvals count, as the record has it. */
  async relearn({ state, store }: World): Promise<void> {
    this.#expected.clear()
    for (const row of this.rows) {
      const { rows } = await state.query<{ round: number }>("select round from stepback.rollbacks where id = $1", [
        row.id,
      ])
      const { round } = rows[0] ?? row
      const list = await store.approvals.list(row.id, round)
      this.setApprovals({ ...row, round }, new Set(list.map(({ userId }) => userId)))
      if ((await store.rollbacks.get(row.id)).stop_requested_at === null) this.stopped.delete(row.id)
    }
  }

  expectExpectedStates(): void {
    const [expected, left] = [new Map(this.#expected), new Map(this.#left)]
    this.#expected.clear()
    this.#left.clear()
    for (const row of this.rows) {
      const state = expected.get(row.id)
      if (state !== undefined) expect(row.state, `R-${row.number}`).toBe(state)
      if (left.has(row.id)) expect(row.state, `R-${row.number} was taken up`).not.toBe(left.get(row.id))
    }
  }

  learn(rows: Row[]): void {
    this.rows = rows
    for (const { id, token } of rows) {
      const known = this.#tokens.get(id) ?? []
      if (token !== null && !known.includes(token)) this.#tokens.set(id, [...known, token])
    }
  }
}

export async function refresh(model: Model, { state }: World): Promise<void> {
  const { rows } = await state.query<Row>(rowsOf, [model.ids])
  model.learn(rows)
}
