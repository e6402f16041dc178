import { randomUUID } from "node:crypto"
import fc from "fast-check"
import { expect } from "vitest"
import { approve } from "../../src/commands/approve.ts"
import { cancel, leave, stop } from "../../src/commands/cancel.ts"
import { deny } from "../../src/commands/deny.ts"
import type { Actor } from "../../src/commands/ports.ts"
import { retry, skip } from "../../src/commands/reopen.ts"
import { requestRollback } from "../../src/commands/request.ts"
import { requestUndo } from "../../src/commands/undo.ts"
import { isLive } from "../../src/rollback/states.ts"
import { effectsOf, expectInvariants } from "./model-invariants.ts"
import {
  environmentNames,
  environments,
  everybody,
  members,
  nobodys,
  type Environment,
  type World,
} from "./model-world.ts"
import { refresh, type Model, type Row } from "./model-state.ts"

type Command = fc.AsyncCommand<Model, World>
type Outcome = { kind: string }

const as = (userId: string): Actor => ({ userId, teamId: "T0HOME", requestKey: randomUUID() })
const accepted = ({ kind }: Outcome) => kind !== "refuse"

/** Whether a plan's list of approvers has this person, who is nobody's guest and no robot. */
const mayApprove = (who: string, row: Row, { town }: World) =>
  members.includes(who) && (environments[row.environment].from === "anyone" || town.onCall.has(who))
const mayEnd = (who: string, row: Row, world: World) =>
  row.requester_id === who ? members.includes(who) : mayApprove(who, row, world)

/** Whether something live is in the way of this rollback, or of a new one of this environment (`row` null). */
function inTheWay(environment: Environment, row: Row | null, model: Model): boolean {
  return model.rows.some(
    (other) =>
      other.id !== row?.id &&
      isLive(other.state) &&
      (environments[other.environment].variable === environments[environment].variable ||
        (row !== null && row.target_fingerprint !== null && row.target_fingerprint === other.target_fingerprint)),
  )
}

/** A press of a person on a rollback: what is expected of it by the rules, and what it does. */
type Press = {
  /** Null: this says nothing about it. */
  allowed(row: Row, who: string, model: Model, world: World): boolean
  press(row: Row, who: string, model: Model, world: World): Promise<Outcome>
  afterwards?(row: Row, who: string, model: Model, world: World): Promise<void> | void
}

const stored = (row: Row, world: World) => world.store.rollbacks.get(row.id)
const reopenable = (row: Row, who: string, model: Model) =>
  (row.state === "failed" || row.state === "stopped") &&
  !row.left &&
  members.includes(who) &&
  !model.rows.some((later) => later.environment === row.environment && later.number > row.number && later.started) &&
  !inTheWay(row.environment, row, model)
const goesOn = (row: Row, model: Model) => void model.stopped.delete(row.id)

/** Those who gave an approval that counts: who has left since does not. */
const counting = (row: Row, model: Model, world: World) =>
  [...model.approvals(row)].filter((giver) => mayApprove(giver, row, world))

export const presses = {
  approve: {
    allowed: (row, who, model, world) =>
      row.state === "awaiting_approval" &&
      mayApprove(who, row, world) &&
      !model.askers(row).has(who) &&
      !model.approvals(row).has(who),
    press: (row, who, _model, world) => approve({ token: row.token ?? "", actor: as(who) }, world.deps),
    afterwards(row, who, model, world) {
      const have = new Set([...counting(row, model, world), who])
      const { need } = row
      model.setApprovals(row, have)
      model.expectState(row.id, have.size >= (need ?? Infinity) ? "approved" : "awaiting_approval")
    },
  },
  approveOldCard: {
    allowed: () => false,
    press: (row, who, model, world) =>
      approve({ token: model.oldTokens(row).at(-1) ?? randomUUID(), actor: as(who) }, world.deps),
  },
  deny: {
    allowed: (row, who, _model, world) =>
      row.state === "awaiting_approval" && row.requester_id !== who && mayApprove(who, row, world),
    press: (row, who, _model, world) => deny({ token: row.token ?? "", actor: as(who), reason: "no" }, world.deps),
    afterwards: (row, _who, model) => model.expectState(row.id, "denied"),
  },
  cancel: {
    allowed: (row, who, _model, world) =>
      (row.state === "preparing" || row.state === "awaiting_approval") && mayEnd(who, row, world),
    press: async (row, who, _model, world) => cancel(await stored(row, world), as(who), world.deps),
    afterwards: (row, _who, model) => model.expectState(row.id, "cancelled"),
  },
  stop: {
    allowed: (row, who, _model, world) =>
      (row.state === "approved" || row.state === "running") && mayEnd(who, row, world),
    press: async (row, who, _model, world) => stop(await stored(row, world), as(who), world.deps),
    afterwards: async (row, _who, model, world) => {
      model.stopped.set(row.id, await effectsOf(row.id, world))
    },
  },
  leave: {
    allowed: (row, who, _model, world) =>
      (row.state === "failed" || row.state === "stopped") && !row.left && mayEnd(who, row, world),
    press: async (row, who, _model, world) => leave(await stored(row, world), as(who), world.deps),
  },
  retry: {
    allowed: (row, who, model) => row.approved && reopenable(row, who, model),
    press: async (row, who, _model, world) => retry(await stored(row, world), as(who), world.deps),
    afterwards(row, _who, model) {
      goesOn(row, model)
      model.expectState(row.id, "running")
    },
  },
  skip: {
    allowed: (row, who, model) => row.failed_step && reopenable(row, who, model),
    press: async (row, who, _model, world) => skip(await stored(row, world), "leave it", as(who), world.deps),
    async afterwards(row, who, model, world) {
      goesOn(row, model)
      const { skips } = await stored(row, world)
      const by = Object.values(skips).map((skip) => skip.by)
      expect(by).toContain(who)
      // Who asks for the same after somebody else asks in their stead: the earlier one may agree.
      model.setAskers(row, [row.requester_id, ...by])
      model.expectState(row.id, "preparing")
    },
  },
  undo: {
    allowed: (row, who, model) =>
      !isLive(row.state) && row.did && members.includes(who) && !inTheWay(row.environment, null, model),
    press: async (row, who, model, world) =>
      noted(await requestUndo(await stored(row, world), { channelId: "C1", actor: as(who) }, world.deps), model),
  },
} as const satisfies Record<string, Press>
export type PressName = keyof typeof presses

/** What was asked for is known to the model from here on. */
function noted<T extends Outcome & { rollback?: { id: string } }>(outcome: T, model: Model): T {
  if (outcome.kind === "requested" && outcome.rollback) model.ids.push(outcome.rollback.id)
  return outcome
}

const ask = async (environment: Environment, who: string, model: Model, world: World): Promise<Outcome> =>
  noted(
    await requestRollback(
      {
        environment,
        selection: { only: null, with: [], parameters: {} },
        reason: "it is broken",
        channelId: "C1",
        actor: as(who),
        rehearsalOnly: false,
      },
      world.deps,
    ),
    model,
  )

/** After each command: whoever works comes to rest, the model looks, and what must hold holds. */
async function restAndLook(model: Model, world: World): Promise<void> {
  await world.settled()
  await refresh(model, world)
  await expectInvariants(model, world)
  model.expectExpectedStates()
}

/** One thing that happens; `when` says whether it can. */
function command(words: string, when: (model: Model) => boolean, act: (model: Model, world: World) => Promise<void>) {
  return {
    check: (model: Readonly<Model>) => when(model as Model),
    async run(model: Model, world: World) {
      model.played++
      await act(model, world)
      await restAndLook(model, world)
    },
    toString: () => words,
  } satisfies Command
}

/** The newest first: most of what happens, happens to it. */
const nth = <T>(of: readonly T[], back: number): T => of.at(-1 - (back % of.length)) as T
const anyAsked = (model: Model) => model.rows.length > 0
const backed = (back: number) => (back === 0 ? "" : ` (${back} back)`)

const request = (environment: Environment, who: string): Command => {
  const words = `${who} asks for ${environment}`
  return command(
    words,
    () => true,
    async (model, world) => {
      const allowed = members.includes(who) && !inTheWay(environment, null, model)
      const outcome = await ask(environment, who, model, world)
      expect(outcome, `${words}: ${JSON.stringify(outcome)}`).toMatchObject({ kind: allowed ? "requested" : "refuse" })
    },
  )
}

const pressed = (name: PressName, who: string, back: number): Command => {
  const words = `${who} presses ${name}${backed(back)}`
  return command(words, anyAsked, async (model, world) => {
    const press: Press = presses[name]
    const row = nth(model.rows, back)
    const allowed = press.allowed(row, who, model, world)
    const outcome = await press.press(row, who, model, world)
    const about = `${words}, R-${row.number} ${row.state}: ${JSON.stringify(outcome)}`
    expect(accepted(outcome), about).toBe(allowed)
    if (allowed) await press.afterwards?.(row, who, model, world)
  })
}

/** By somebody who may, when there is anybody: what happens on most days, and leads on. */
const pressedRightly = (name: PressName, skipped: number, back: number): Command =>
  command(`one who may presses ${name}${backed(back)}`, anyAsked, async (model, world) => {
    const row = nth(model.rows, back)
    const able = everybody.filter((who) => (presses[name] as Press).allowed(row, who, model, world))
    const who = able[skipped % able.length]
    if (who !== undefined) await pressed(name, who, back).run(model, world)
  })

/** Several people at once: what comes of it is not foretold, but nothing that must hold is broken. */
const together = (all: readonly { name: PressName; who: string }[], back: number): Command =>
  command(
    `at once: ${all.map(({ name, who }) => `${who} ${name}`).join(", ")}${backed(back)}`,
    anyAsked,
    async (model, world) => {
      const row = nth(model.rows, back)
      // All of them to their end: one on its way would reach into the sequence that comes after a failure.
      const ends = await Promise.allSettled(
        all.map(async ({ name, who }) => {
          await (presses[name] as Press).press(row, who, model, world)
        }),
      )
      const { skips } = await stored(row, world)
      model.setAskers(row, [row.requester_id, ...Object.values(skips).map(({ by }) => by)])
      const failed = ends.find((end) => end.status === "rejected")
      if (failed) throw failed.reason
      await model.relearn(world)
    },
  )

/** A worker takes up what waits for one. */
const work = (back: number): Command =>
  command(
    `a worker takes up what waits${backed(back)}`,
    (model) => model.rows.some(({ claimable }) => claimable),
    async (model, world) => {
      const row = nth(
        model.rows.filter(({ claimable }) => claimable),
        back,
      )
      model.holder.set(row.id, await world.work(row.id))
      if (row.state !== "running") model.expectLeft(row.id, row.state)
    },
  )

/** The site answers a request; what a worker that was overtaken hears changes nothing. */
const answer = (holds: boolean, at: number): Command =>
  command(
    `the site answers ${holds ? "200" : "500"}${backed(at)}`,
    ({ world }) => world.site.waiting.length > 0,
    async (model, world) => {
      const gate = nth(world.site.waiting, at)
      const overtaken = model.holder.get(gate.rollbackId) !== gate.worker && gate.rollbackId !== nobodys
      const before = overtaken ? await world.store.runs.listSteps(gate.rollbackId) : []
      gate.respond(holds)
      await world.settled()
      if (overtaken)
        expect(await world.store.runs.listSteps(gate.rollbackId), "written by an overtaken worker").toEqual(before)
    },
  )

type What = (row: Row, model: Model, world: World) => Promise<void>
const simple = (words: string, states: Row["state"][], what: What, back: number): Command =>
  command(
    `${words}${backed(back)}`,
    (model) => model.rows.some(({ state }) => states.includes(state)),
    (model, world) => {
      const open = model.rows.filter(({ state }) => states.includes(state))
      return what(nth(open, back), model, world)
    },
  )

const crash = (row: Row, _model: Model, world: World) => world.crash(row.id)
/** Its worker sleeps past its lease: it lives, and another may take over. */
const oversleep = async (row: Row, _model: Model, world: World) => void (await world.expireLease(row.id))
const expire = async (row: Row, model: Model, world: World) => {
  await world.state.query("update stepback.rollbacks set expires_at = clock_timestamp() where id = $1", [row.id])
  // Before anybody has swept: the click alone finds out.
  const late = await approve({ token: row.token ?? "", actor: as("U0DAVE") }, world.deps)
  expect(late.kind, "a click after its time").toBe("refuse")
  await world.store.waiting.expire()
  model.expectState(row.id, "expired")
}

const backs = fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(3) })
const people = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom(...members) },
  { weight: 1, arbitrary: fc.constantFrom(...everybody) },
)
const press = (...names: PressName[]) =>
  fc.tuple(fc.constantFrom(...names), people, backs).map(([name, who, back]) => pressed(name, who, back))
const rightly = (...names: PressName[]) =>
  fc.tuple(fc.constantFrom(...names), fc.nat(3), backs).map(([name, n, back]) => pressedRightly(name, n, back))
const happens = (words: string, states: Row["state"][], what: What) =>
  backs.map((back) => simple(words, states, what, back))
const some = fc.record({
  name: fc.constantFrom("approve" as const, ...(Object.keys(presses) as PressName[])),
  who: people,
})

/** What happens often stands here more than once. */
export const commandArbitraries: fc.Arbitrary<Command>[] = [
  fc.tuple(fc.constantFrom(...environmentNames), people).map(([environment, who]) => request(environment, who)),
  ...Array.from({ length: 3 }, () => fc.nat(3).map(work)),
  ...Array.from({ length: 3 }, () => fc.tuple(mostlyTrue(), fc.nat(3)).map(([holds, at]) => answer(holds, at))),
  ...Array.from({ length: 4 }, () => press("approve", "approve", "approveOldCard", "deny")),
  ...Array.from({ length: 4 }, () => rightly("approve")),
  rightly("retry", "skip"),
  rightly("stop", "undo"),
  press("stop", "cancel"),
  press("retry", "skip", "undo"),
  press("leave", "undo"),
  fc.tuple(fc.array(some, { minLength: 2, maxLength: 5 }), backs).map(([all, back]) => together(all, back)),
  happens("its worker dies", ["running", "preparing"], crash),
  happens("its worker sleeps past its lease", ["running"], oversleep),
  happens("its time is over", ["awaiting_approval"], expire),
  fc.constantFrom("U0BOB", "U0CAROL").map((who) =>
    command(`${who} goes off call, or on`, anyAsked, (_model, { town }) => {
      if (!town.onCall.delete(who)) town.onCall.add(who)
      return Promise.resolve()
    }),
  ),
]

/** Where a sequence begins: chance alone is seldom far enough into a rollback's life for what is delicate there. */
export const scenes: Record<string, (environment: Environment) => Command[]> = {
  waiting: (environment) => [request(environment, "U0ALICE"), work(0), pressed("approve", "U0ALICE", 0)],
  running: (environment) => [
    ...(scenes["waiting"]?.(environment) ?? []),
    pressedRightly("approve", 0, 0),
    pressedRightly("approve", 0, 0),
    work(0),
  ],
  overtaken: (environment) => [
    ...(scenes["running"]?.(environment) ?? []),
    simple("its worker sleeps past its lease", ["running"], oversleep, 0),
    work(0),
  ],
  failed: (environment) => [...(scenes["running"]?.(environment) ?? []), answer(true, 0), answer(false, 0)],
  skipped: (environment) => [
    ...(scenes["failed"]?.(environment) ?? []),
    pressedRightly("skip", 1, 0),
    work(0),
    ...members.map((who) => pressed("approve", who, 0)),
  ],
}

function mostlyTrue(): fc.Arbitrary<boolean> {
  return fc.oneof({ weight: 3, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) })
}
