import { randomUUID } from "node:crypto"
import { afterAll, beforeAll, expect, it } from "vitest"
import { createIncarnation } from "../../playground/faults/incarnation.ts"
import { startPostgres, unsynced, type Postgres } from "../../playground/postgres.ts"
import { acknowledge } from "../../src/commands/acknowledge.ts"
import { approve } from "../../src/commands/approve.ts"
import { cancel, stop } from "../../src/commands/cancel.ts"
import { confirm } from "../../src/commands/confirm.ts"
import { deny } from "../../src/commands/deny.ts"
import { note } from "../../src/commands/note.ts"
import type { Deps } from "../../src/commands/ports.ts"
import { createPool } from "../../src/store/database.ts"
import type { StoredRollback } from "../../src/store/rows.ts"
import { createStore } from "../../src/store/store.ts"
import { actorOf, askFor, depsOf, workshopOf } from "./crash-points-lab.ts"
import { log, startWorld, type World } from "./crash-points-world.ts"

let postgres: Postgres
let world: World

beforeAll(async () => {
  postgres = await startPostgres({ flags: unsynced })
  world = await startWorld(postgres)
})
afterAll(async () => {
  await world.stop()
  await postgres.stop()
})

const people = () => depsOf(world, world.store, () => undefined)

/** A rollback as it stands before the press. */
type Scene = { rollback: StoredRollback; about: string }

/** A card that waits for its approval. */
async function waiting(): Promise<Scene> {
  const id = randomUUID()
  await askFor(id, people())
  await workshopOf(world, people()).work(id)
  return { rollback: await world.store.rollbacks.get(id), about: "" }
}

async function approved(): Promise<Scene> {
  const { rollback } = await waiting()
  await approve({ token: rollback.token ?? "", actor: actorOf("U2BOB", randomUUID()) }, people())
  return { rollback: await world.store.rollbacks.get(rollback.id), about: "" }
}

async function questioned(): Promise<Scene> {
  const { rollback } = await approved()
  const claimed = await world.store.runs.claim(rollback.id, "worker", 60_000)
  const question = {
    id: randomUUID(),
    kind: "manual" as const,
    stepId: "hand",
    attempt: 1,
    instruction: "look",
    timeoutMs: 60_000,
  }
  await world.store.confirmations.ask(rollback.id, claimed?.epoch ?? 0, question)
  return { rollback, about: question.id }
}

async function called(): Promise<Scene> {
  const { rollback } = await waiting()
  const about = randomUUID()
  await world.store.records.raise(rollback.id, `${rollback.id}/call`, about, {
    trigger: "step_failed",
    stepId: null,
    headline: "look",
    evidence: [],
    byHand: null,
    mention: [],
    channelId: null,
    acknowledgeWithinMs: 60_000,
    hook: null,
  })
  return { rollback, about }
}

type Press = {
  before(): Promise<Scene>
  press(scene: Scene, key: string, deps: Deps): Promise<unknown>
  /** What it leaves in the audit, once. */
  kind: string
  state: string
}

const presses: Record<string, Press> = {
  Approve: {
    before: waiting,
    press: ({ rollback }, key, deps) => approve({ token: rollback.token ?? "", actor: actorOf("U2BOB", key) }, deps),
    kind: "approval",
    state: "approved",
  },
  Deny: {
    before: waiting,
    press: ({ rollback }, key, deps) =>
      deny({ token: rollback.token ?? "", actor: actorOf("U2BOB", key), reason: "no" }, deps),
    kind: "denied",
    state: "denied",
  },
  cancel: {
    before: waiting,
    press: ({ rollback }, key, deps) => cancel(rollback, actorOf("U1ALICE", key), deps),
    kind: "cancelled",
    state: "cancelled",
  },
  Stop: {
    before: approved,
    press: ({ rollback }, key, deps) => stop(rollback, actorOf("U1ALICE", key), deps),
    kind: "stop_requested",
    state: "approved",
  },
  note: {
    before: waiting,
    press: ({ rollback }, key, deps) => note(rollback, "it rains", actorOf("U3CAROL", key), deps),
    kind: "noted",
    state: "awaiting_approval",
  },
  "I'm on it": {
    before: called,
    press: ({ about }, key, deps) => acknowledge(about, actorOf("U3CAROL", key), deps),
    kind: "acknowledged",
    state: "awaiting_approval",
  },
  Done: {
    before: questioned,
    press: ({ about }, key, deps) => confirm(about, "done", actorOf("U4DAVE", key), deps),
    kind: "confirmed",
    state: "running",
  },
}

/** Presses in a process that dies at a boundary; where, or null when there is no such boundary. */
async function pressAndDie(press: Press, scene: Scene, key: string, at: number): Promise<string | null> {
  const life = createIncarnation(at)
  const end = await life.live(async () => {
    const store = createStore(createPool(world.stateUrl, { log }))
    await press.press(
      scene,
      key,
      depsOf(world, store, () => undefined),
    )
  })
  life.end()
  return end === "died" ? (life.boundaries.at(-1) ?? "") : null
}

/** Frees the environment. */
async function clear({ rollback }: Scene): Promise<void> {
  await world.state.query(
    "update stepback.rollbacks set state = 'cancelled', ended_at = now(), lease_until = null where id = $1 and ended_at is null",
    [rollback.id],
  )
}

it.each(Object.entries(presses))(
  "%s, in a bot that dies at any point, and pressed again, counts once",
  async (_, press) => {
    for (let at = 1; ; at++) {
      const scene = await press.before()
      const key = randomUUID()
      const died = await pressAndDie(press, scene, key, at)
      // What was on its way has come before anybody presses again.
      await world.state.query("select 1 from stepback.rollbacks where id = $1 for update", [scene.rollback.id])
      await press.press(scene, key, people())
      await press.press(scene, key, people())
      const audit = await world.store.audit.list(scene.rollback.id)
      const now = await world.store.rollbacks.get(scene.rollback.id)
      expect([audit.filter((entry) => entry.kind === press.kind).length, now.state], `died ${died}`).toEqual([
        1,
        press.state,
      ])
      await clear(scene)
      if (died === null) {
        expect(at).toBeGreaterThan(3)
        break
      }
    }
    expect(await world.store.audit.verify()).toMatchObject({ intact: true })
  },
)
