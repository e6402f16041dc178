import { randomUUID } from "node:crypto"
import { createIncarnation, outside, type Incarnation } from "../../playground/faults/incarnation.ts"
import { approve } from "../../src/commands/approve.ts"
import { stop } from "../../src/commands/cancel.ts"
import type { Actor, Deps, People } from "../../src/commands/ports.ts"
import { retry, skip } from "../../src/commands/reopen.ts"
import { requestRollback } from "../../src/commands/request.ts"
import { isPassing } from "../../src/errors.ts"
import { createWorkshop, type Workshop } from "../../src/jobs/work.ts"
import { createTargetPools } from "../../src/steps/target.ts"
import { createPool } from "../../src/store/database.ts"
import type { StoredRollback } from "../../src/store/rows.ts"
import { createStore, type Store } from "../../src/store/store.ts"
import { environmentName, log, type World } from "./crash-points-world.ts"

/** What became of one rollback whose workers died at the chosen boundaries, one after the other. */
export type Trial = {
  id: string
  /** Where each of its workers died; shorter than asked for when there was no such boundary. */
  diedAt: string[]
  /** Boundaries of each life. */
  lives: (readonly string[])[]
  /** What a person found at the site when the blind step's outcome was unknown, and so decided. */
  decided: ("retry" | "skip")[]
  /** Pressed, and no answer was heard: the process died in it. */
  pressing: { key: string; decision: "retry" | "skip" } | null
  /** Whether Stop was taken while it ran. */
  stopped: boolean
}

const people: People = {
  homeTeams: () => Promise.resolve(["T1"]),
  find: (id) =>
    Promise.resolve({
      kind: "person",
      person: { id, teamId: "T1", isBot: false, isGuest: false, isStranger: false, isDeactivated: false },
    }),
  members: () => Promise.resolve([]),
  channel: () => Promise.resolve({ kind: "ok" }),
}
export const actorOf = (userId: string, requestKey: string): Actor => ({ userId, teamId: "T1", requestKey })

/** Each life is begun this often at the most before it is said that nothing moves. */
const mostTurns = 40

/**
 * One rollback from its request to its end, in as many lives as it takes. `stopped`: after a death somebody presses Stop,
 * so that its heir runs nothing more.
 */
export async function tryDeaths(
  world: World,
  deaths: readonly number[],
  options: { stopped?: boolean } = {},
): Promise<Trial> {
  await world.reset()
  const trial: Trial = { id: randomUUID(), diedAt: [], lives: [], decided: [], pressing: null, stopped: false }
  const begun: Incarnation[] = []
  for (let n = 0; ; n++) {
    const life = createIncarnation(deaths[n])
    begun.push(life)
    const end = await life.live(() => live(world, trial, begun))
    trial.lives.push(life.boundaries)
    if (end === "died") trial.diedAt.push(life.boundaries.at(-1) ?? "")
    life.end()
    if (end === "died" && options.stopped === true) {
      const now = await look(world, trial.id)
      if (now !== null)
        await stop(
          now,
          actorOf("U1ALICE", `${trial.id}/stop/${n}`),
          depsOf(world, world.store, () => undefined),
        )
      trial.stopped ||= (await look(world, trial.id))?.stop_requested_at != null
    }
    if (end !== "died") break
  }
  await Promise.all(begun.map((life) => life.settled()))
  return trial
}

/** What commands need, on this store; `woken` hears that there is something to say. */
export function depsOf(world: World, store: Store, woken: () => void): Deps {
  const plans = new Map([[environmentName, world.plan]])
  return {
    store,
    people,
    plans: { load: () => Promise.resolve({ plans, invalid: [] }) },
    ring: () => undefined,
    wakeOutbox: woken,
    newId: randomUUID,
  }
}

export function workshopOf({ environment }: World, deps: Deps): Workshop {
  const stillAllowed = () => Promise.resolve(true)
  return createWorkshop({ ...deps, targets: createTargetPools(log), environment, log, stillAllowed }, randomUUID())
}

/** Asks for a rollback that will have this id. */
export function askFor(id: string, deps: Deps): Promise<unknown> {
  const selection = { only: null, with: [], parameters: {} }
  const asked = {
    environment: environmentName,
    selection,
    reason: "it is broken",
    channelId: "C1",
    rehearsalOnly: false,
  }
  return requestRollback({ ...asked, actor: actorOf("U1ALICE", id) }, { ...deps, newId: () => id })
}

/** A process that is bot and worker: does what there is to do until the rollback has ended. */
async function live(world: World, trial: Trial, begun: readonly Incarnation[]): Promise<void> {
  const store = createStore(createPool(world.stateUrl, { log }))
  const deps = depsOf(world, store, () => void outside(() => answerQuestion(world, trial.id)))
  const workshop = workshopOf(world, deps)
  for (let turn = 0; turn < mostTurns; turn++) {
    if (trial.pressing !== null) await outside(() => seeWhatWasPressed(world, trial))
    const now = await outside(() => look(world, trial.id))
    if (now === null) await pressed(() => askFor(trial.id, deps))
    else if (now.state === "awaiting_approval")
      await pressed(() =>
        approve({ token: now.token ?? "", actor: actorOf("U2BOB", `${trial.id}/${now.token ?? ""}`) }, deps),
      )
    else if (["preparing", "approved", "running"].includes(now.state)) {
      await outside(() => expireLease(world, trial.id))
      await workshop.work(trial.id)
    } else if (!trial.stopped && now.state === "failed" && (await outside(() => isUnknown(world, trial.id)))) {
      // Whoever looks finds what is there after all that was on its way has come.
      await outside(() => Promise.all(begun.slice(0, -1).map((life) => life.settled())))
      await pressed(() => decide(now, world, trial, deps))
    } else return
  }
  throw new Error(`nothing moves: ${JSON.stringify(await outside(() => look(world, trial.id)))}`)
}

/** Who presses and is told that the database is busy, presses again. */
async function pressed(press: () => Promise<unknown>): Promise<void> {
  await press().catch((error: unknown) => {
    if (!isPassing(error)) throw error
  })
}

async function look(world: World, id: string): Promise<StoredRollback | null> {
  return world.store.rollbacks.get(id).catch(() => null)
}

/** What a lease's time would bring: whoever had it is dead. */
async function expireLease(world: World, id: string): Promise<void> {
  await world.state.query(
    "update stepback.rollbacks set lease_until = now() - interval '1 second' where id = $1 and lease_until is not null",
    [id],
  )
}

async function isUnknown(world: World, id: string): Promise<boolean> {
  const steps = await world.store.runs.listSteps(id)
  const newest = steps.filter((step) => step.stepId === "blind").at(-1)
  return newest?.result?.outcome === "unknown"
}

/** The person on call looks whether it has happened: then it is left out, else it is tried again. */
async function decide(now: StoredRollback, world: World, trial: Trial, deps: Deps): Promise<void> {
  const happened = world.requests("/blind").length > 0
  const key = `${trial.id}/decided/${trial.decided.length}`
  const decision = happened ? "skip" : "retry"
  trial.pressing = { key, decision }
  const outcome = happened
    ? await skip(now, "it was done", actorOf("U3CAROL", key), deps)
    : await retry(now, actorOf("U3CAROL", key), deps)
  // The click before it was on its way to the database when the process died, and has come.
  if (outcome.kind === "refuse" && (await outside(() => seeWhatWasPressed(world, trial)))) return
  if (outcome.kind === "refuse") throw new Error(`the person was refused: ${JSON.stringify(outcome)}`)
  trial.decided.push(decision)
  trial.pressing = null
}

/** Who presses and hears nothing looks again: it was taken, it is on its way, or it is pressed once more. */
async function seeWhatWasPressed(world: World, trial: Trial): Promise<boolean> {
  const { pressing } = trial
  if (pressing === null) return false
  const { rowCount } = await world.state.query("select 1 from stepback.requests where key = $1", [pressing.key])
  if (rowCount !== 1) return false
  trial.decided.push(pressing.decision)
  trial.pressing = null
  return true
}

/** Somebody in the thread does what is asked for. */
async function answerQuestion(world: World, id: string): Promise<void> {
  const { rows } = await world.state.query<{ id: string }>(
    "select id from stepback.confirmations where rollback_id = $1 and answer is null",
    [id],
  )
  for (const question of rows) await world.store.confirmations.answer(question.id, "U4DAVE", "done")
}
