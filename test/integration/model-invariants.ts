import { expect } from "vitest"
import { transitions, type RollbackState } from "../../src/rollback/states.ts"
import type { Model } from "./model-state.ts"
import type { World } from "./model-world.ts"

/** Each question lists what must not be. */
const forbidden = {
  "two live rollbacks of one environment": `select environment from stepback.rollbacks where kind <> 'rehearsal'
    and state in ('preparing', 'awaiting_approval', 'approved', 'running') group by environment having count(*) > 1`,
  "two live rollbacks of one variable": `select target_reference from stepback.rollbacks where kind <> 'rehearsal'
    and state in ('preparing', 'awaiting_approval', 'approved', 'running') group by target_reference having count(*) > 1`,
  "two live rollbacks of one database": `select target_fingerprint from stepback.rollbacks where kind <> 'rehearsal'
    and target_fingerprint is not null and state in ('preparing', 'awaiting_approval', 'approved', 'running')
    group by target_fingerprint having count(*) > 1`,
  "a run without the approvals that its policy asks for": `select m.rollback_id, m.have, m.need from watch.moves m
    where m.to_state in ('approved', 'running') and m.have < coalesce(m.need, 1)`,
  "an approval by whoever asked": `select a.user_id from stepback.approvals a join stepback.rollbacks r on r.id = a.rollback_id
    where a.user_id = r.requester_id or (a.round = r.round and a.voided_at is null and r.digest = a.digest and exists (
      select from jsonb_each(r.frozen::jsonb -> 'skip') s where s.value ->> 'by' = a.user_id))`,
  "a gap between numbers": `select count(*) from stepback.rollbacks where number is not null
    having count(*) <> coalesce(max(number), 0)`,
}

/** What a rollback has done in the target and at its site. */
export async function effectsOf(id: string, { targets, site }: World): Promise<string> {
  const entries = await Promise.all(
    targets.map((target) =>
      target.query("select step_id from stepback_ledger.entries where rollback_id = $1 order by 1", [id]),
    ),
  )
  const calls = site.arrivals.filter(({ rollbackId }) => rollbackId === id).length
  return JSON.stringify([entries.flatMap(({ rows }) => rows as unknown[]), calls])
}

export async function expectInvariants(model: Model, world: World): Promise<void> {
  const seen = await Promise.all(
    Object.entries(forbidden).map(
      async ([what, question]) => [what, (await world.state.query(question)).rows] as const,
    ),
  )
  expect(Object.fromEntries(seen.filter(([, rows]) => rows.length > 0))).toEqual({})

  const { rows: moves } = await world.state.query<{ from_state: RollbackState; to_state: RollbackState }>(
    "select from_state, to_state from watch.moves",
  )
  const strange = moves.filter(
    ({ from_state: from, to_state: to }) => !(transitions[from] as readonly RollbackState[]).includes(to),
  )
  expect(strange, "moves that the table of states has not").toEqual([])

  for (const target of world.targets) {
    // An undo that is taken back does again what the step did.
    const { rows } = await target.query<{ seen: number; entered: number }>(
      `select (select count(*) from seen where by > 0)::int as seen,
         (select count(*) from stepback_ledger.entries where step_id ~ '^(undo-undo-)*count[12]$')::int as entered`,
    )
    expect(rows[0]?.seen, "effects and their entries in the ledger").toBe(rows[0]?.entered)
  }
  for (const [id, then] of model.stopped) expect(await effectsOf(id, world), `${id} after Stop`).toBe(then)
}
