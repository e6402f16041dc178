import { access, readFile, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { setTimeout as pause } from "node:timers/promises"
import { afterAll, afterEach, beforeAll, beforeEach, expect, inject, it, vi } from "vitest"

import { until } from "../../playground/faults/until.ts"
import { createWorkshop } from "../../src/jobs/work.ts"
import { stepResult } from "../../src/steps/step.ts"
import { createTargetPools } from "../../src/steps/target.ts"
import type { StoredRollback } from "../../src/store/rows.ts"
import type { Store } from "../../src/store/store.ts"
import { plan, startTown, type Town } from "./two-people-town.ts"

let town: Town

beforeAll(async () => {
  town = await startTown(inject("postgresUrl"))
})
beforeEach(() => town.reset())
afterEach(() => vi.restoreAllMocks())
afterAll(() => town.stop())

/** A worker that stands still where it is told to, and says and hears nothing from then on until it wakes. */
function startSleeper() {
  const [asleep, awake] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  let still = false
  const { runs, confirmations } = town.store
  const targets = createTargetPools(town.workDeps.log)
  const heardLate =
    <Given extends unknown[], Answer>(ask: (...given: Given) => Promise<Answer>) =>
    async (...given: Given): Promise<Answer> => {
      const answer = await ask(...given)
      still = true
      asleep.resolve()
      await awake.promise
      return answer
    }
  const renew: Store["runs"]["renew"] = async (...given) => {
    if (still) await awake.promise
    return runs.renew(...given)
  }
  const find: Store["confirmations"]["find"] = async (id) => {
    if (still) await awake.promise
    return confirmations.find(id)
  }
  return {
    work(card: StoredRollback, late: Partial<Store["runs"]>): Promise<void> {
      const store = {
        ...town.store,
        runs: { ...runs, renew, ...late },
        confirmations: { ...confirmations, find },
      }
      return createWorkshop({ ...town.workDeps, store, targets }, "sleeper").work(card.id)
    },
    heardLate,
    asleep: asleep.promise,
    /** Another may take what it had. */
    sleep: async (card: StoredRollback) => {
      still = true
      await town.state.query("update stepback.rollbacks set lease_until = now() - interval '1 s' where id = $1", [
        card.id,
      ])
    },
    wake() {
      const now = performance.now.bind(performance)
      vi.spyOn(performance, "now").mockImplementation(() => now() + 10_000)
      awake.resolve()
    },
    stop: () => targets.close(),
  }
}

const outcomes = async ({ id }: StoredRollback) =>
  (await town.store.runs.listSteps(id)).map(({ stepId, result }) => `${stepId} ${result?.outcome ?? "none"}`)

/** Questions of a run that wait in its thread, by their steps, once there are so many. */
const questions = ({ id }: StoredRollback, many = 1) =>
  until("the questions", async () => {
    const { rows } = await town.state.query<{ id: string; step_id: string }>(
      "select id, step_id from stepback.confirmations where rollback_id = $1 order by step_id",
      [id],
    )
    return rows.length === many ? rows : null
  })

async function approved(component: string): Promise<StoredRollback> {
  town.written.source = `${plan}  more:\n    risk: low\n    optional: true\n    steps: [${component}]\n`
  const card = await town.card({ with: ["more"] })
  await town.press(card)
  return card
}

it("a request whose intent was written before its worker stood still is not sent when it wakes after the end", async () => {
  const card = await approved(
    "{ id: post, http: { method: POST, path: /post }, effect: blind, expect: { status: 200 } }",
  )
  const sleeper = startSleeper()
  const working = sleeper.work(card, { recordIntent: sleeper.heardLate(town.store.runs.recordIntent) })
  await sleeper.asleep
  await sleeper.sleep(card)
  await town.work(card.id)
  expect(await town.get(card)).toMatchObject({ state: "failed" })
  sleeper.wake()
  await working
  expect(await outcomes(card)).toEqual(["set succeeded", "post unknown"])
  expect(town.site.seen).toEqual([])
  await sleeper.stop()
})

const outside = `
version: 1
environment: shop
title: Outside
target: { http: "\${SHOP_URL}" }
approve: { low: { count: 1, from: anyone }, medium: { count: 1, from: anyone }, high: { count: 1, from: anyone } }
components:
  all:
    risk: low
    steps:
      - { id: look, http: { path: / } }
      - { id: go, command: [./deploy.sh, v2], cwd: "\${SHOP_REPO}", effect: keyed, irreversible: a test }
`

it("a worker whose clock is an hour ahead calls for the RTO of a component that took so long, not of one that did not", async () => {
  const part = (id: string, needs: string, next: string) => `  ${id}:
    risk: low
    rto: 10m
    needs: [${needs}]
    steps:
      - { id: ${id}-done, http: { path: / } }
      - { id: ${id}-next, ${next} }
`
  town.written.source = `${outside.slice(0, outside.indexOf("  all:"))}${part("quick", "", "http: { path: / }")}${part("slow", "quick", "manual: Look")}`
  const card = await town.card()
  await town.press(card)
  const first = await town.store.runs.claim(card.id, "first", 0)
  for (const id of ["quick-done", "slow-done"])
    await town.store.runs.recordStep(card.id, first?.epoch ?? 0, { id, attempt: 1, result: stepResult({}) })
  await town.state.query(
    "update stepback.step_runs set started_at = now() - interval '11 minutes' where rollback_id = $1 and step_id = 'slow-done'",
    [card.id],
  )
  const now = Date.now.bind(Date)
  vi.spyOn(Date, "now").mockImplementation(() => now() + 3_600_000)
  const working = town.work(card.id)
  // That of the component that came first would be there before.
  const called = await until("the call", async () => {
    const all = await town.store.records.listEscalations(card.id)
    const breached = all.filter(({ trigger }) => trigger === "rto_breached")
    return breached.length > 0 ? breached : null
  })
  expect(called.map(({ headline }) => headline)).toEqual(["Slow takes longer than its RTO of 600 s"])
  await town.store.rollbacks.requestStop(card.id, "U0ALICE", null)
  await working
})

it("nobody is called by a worker that stood still before the trouble that it finds when another has done all", async () => {
  town.written.source = outside
  const card = await town.card()
  await town.press(card)
  const first = await town.store.runs.claim(card.id, "first", 0)
  await town.store.runs.recordStep(card.id, first?.epoch ?? 0, { id: "look", attempt: 1, result: stepResult({}) })
  const sleeper = startSleeper()
  const working = sleeper.work(card, { listSteps: sleeper.heardLate(town.store.runs.listSteps) })
  await sleeper.asleep
  await sleeper.sleep(card)
  await town.work(card.id)
  expect(await town.get(card)).toMatchObject({ state: "succeeded" })
  await writeFile(join(town.repo, "deploy.sh"), "#!/bin/sh\nexit 0\n")
  sleeper.wake()
  await working
  expect(await town.store.records.listEscalations(card.id)).toEqual([])
  await sleeper.stop()
})

it("nobody is called for the time of a component by a worker that stood still in it", async () => {
  town.written.source = plan.replace("  prices:\n    risk: low\n", "  prices:\n    risk: low\n    rto: 1s\n")
  const card = await town.card()
  await town.press(card)
  const sleeper = startSleeper()
  const working = sleeper.work(card, { recordStep: sleeper.heardLate(town.store.runs.recordStep) })
  await sleeper.asleep
  await sleeper.sleep(card)
  await town.work(card.id)
  expect(await town.get(card)).toMatchObject({ state: "succeeded" })
  const { rows } = await town.state.query("select count(*) from stepback.outbox where rollback_id = $1", [card.id])
  // Its timers go off while it stands still.
  await pause(1_200)
  sleeper.wake()
  await working
  expect(await town.store.records.listEscalations(card.id)).toEqual([])
  expect(rows).toEqual(
    (await town.state.query("select count(*) from stepback.outbox where rollback_id = $1", [card.id])).rows,
  )
  await sleeper.stop()
})

it("a program without effect that was interrupted leaves nothing in doubt when its run is stopped", async () => {
  const card = await approved('{ id: look, command: [./deploy.sh], cwd: "${SHOP_REPO}", effect: none }')
  const sleeper = startSleeper()
  const working = sleeper.work(card, { recordIntent: sleeper.heardLate(town.store.runs.recordIntent) })
  await sleeper.asleep
  await sleeper.sleep(card)
  await town.store.rollbacks.requestStop(card.id, "U0ALICE", null)
  await town.work(card.id)
  expect(await town.get(card)).toMatchObject({ state: "stopped", ended_by: "U0ALICE" })
  expect(await outcomes(card)).toEqual(["set succeeded", "look failed"])
  sleeper.wake()
  await working
  await sleeper.stop()
})

it("a program is not begun by a worker that stood still while it looked at what is deployed", async () => {
  const file = (name: string) => join(town.repo, name)
  await writeFile(file("look.sh"), "#!/bin/sh\ntouch looked\nwhile [ ! -e go ]; do sleep 0.05; done\necho v1\n", {
    mode: 0o755,
  })
  await writeFile(file("go"), "")
  const card = await approved(
    '{ id: go, command: [./deploy.sh, v2], deployed: [./look.sh], undo: [./deploy.sh, $deployed], cwd: "${SHOP_REPO}", effect: blind }',
  )
  await Promise.all(["go", "looked", "deployed.txt"].map((name) => rm(file(name), { force: true })))
  const sleeper = startSleeper()
  const working = sleeper.work(card, {})
  await until("the look", () =>
    access(file("looked")).then(
      () => true,
      () => false,
    ),
  )
  await sleeper.sleep(card)
  await town.work(card.id)
  expect(await town.get(card)).toMatchObject({ state: "failed" })
  sleeper.wake()
  await writeFile(file("go"), "")
  await working
  expect(await outcomes(card)).toEqual(["set succeeded", "go unknown"])
  await expect(readFile(file("deployed.txt"), "utf8")).rejects.toThrow("ENOENT")
  await sleeper.stop()
})

it("nothing is tried again by the heir of a worker whose people had said Retry of one step and Stop here of another", async () => {
  const failing = (id: string) =>
    `{ id: ${id}, sql: "update config set value = '3' where key = '${id}'", expect: { rows: 1 }, on_failure: ask }`
  town.written.source = `${plan}  more:
    risk: low
    optional: true
    parallel: true
    steps: [${failing("one")}, ${failing("two")}]
`
  const card = await town.card({ with: ["more"] })
  await town.press(card)
  const sleeper = startSleeper()
  const working = sleeper.work(card, {})
  const asked = await questions(card, 2)
  await sleeper.sleep(card)
  for (const { id, step_id: step } of asked)
    expect(await town.store.confirmations.answer(id, "U0ALICE", step === "one" ? "retry" : "leave")).not.toBeNull()
  await town.work(card.id)
  expect(await town.get(card)).toMatchObject({ state: "failed" })
  expect((await outcomes(card)).filter((line) => line.startsWith("one"))).toEqual(["one failed"])
  sleeper.wake()
  await working
  await sleeper.stop()
})

it("a question of a run that was given up is closed: after a Retry nobody would heed what is said to it", async () => {
  const card = await approved(
    "{ id: one, sql: \"update config set value = '3' where key = 'one'\", expect: { rows: 1 }, on_failure: ask }",
  )
  const sleeper = startSleeper()
  const working = sleeper.work(card, {})
  const asked = (await questions(card))[0]?.id ?? ""
  await sleeper.sleep(card)
  const { epoch } = await town.get(card)
  const given = { actor: "stepback", reason: "it could not be worked on", epoch }
  expect(await town.store.rollbacks.move(card.id, "failed", given)).toMatchObject({ kind: "moved" })
  const again = { actor: "U0ALICE", requestKey: null, skips: null }
  expect(await town.store.rollbacks.reopen(card.id, again)).toMatchObject({ kind: "moved" })
  expect(await town.store.confirmations.answer(asked, "U0ALICE", "leave")).toBeNull()
  expect(await town.store.confirmations.find(asked)).toMatchObject({ answer: "stopped" })
  sleeper.wake()
  await working
  await sleeper.stop()
})

it("what was done after a Retry in the thread is told by the heir that ends the run, though it had failed before", async () => {
  const card = await approved(
    "{ id: one, sql: \"update config set value = '3' where key = 'one'\", expect: { rows: 1 }, on_failure: ask }, { id: last, check: select 1 as one }",
  )
  const sleeper = startSleeper()
  const { runs, confirmations } = town.store
  const unheard = sleeper.heardLate(() => Promise.resolve())
  const recordStep: Store["runs"]["recordStep"] = async (id, epoch, step) => {
    if (step.attempt > 1) await unheard()
    return runs.recordStep(id, epoch, step)
  }
  const working = sleeper.work(card, { recordStep })
  const asked = (await questions(card))[0]?.id ?? ""
  await town.target.query("insert into config values ('one', '2')")
  await confirmations.answer(asked, "U0ALICE", "retry")
  await sleeper.asleep
  await sleeper.sleep(card)
  await town.store.rollbacks.requestStop(card.id, "U0ALICE", null)
  await town.work(card.id)
  expect(await town.get(card)).toMatchObject({ state: "stopped", ended_by: "U0ALICE" })
  expect(await outcomes(card)).toEqual(["set succeeded", "one failed", "one succeeded"])
  sleeper.wake()
  await working
  await sleeper.stop()
})

it("a worker that stood still before it came to its target does nothing there once its run is asked again", async () => {
  const card = await town.card({ with: ["service"] })
  await town.press(card)
  const sleeper = startSleeper()
  const working = sleeper.work(card, { listSteps: sleeper.heardLate(town.store.runs.listSteps) })
  await sleeper.asleep
  await sleeper.sleep(card)
  const script = await readFile(join(town.repo, "deploy.sh"))
  await writeFile(join(town.repo, "deploy.sh"), "#!/bin/sh\nexit 0\n")
  await town.work(card.id)
  expect(await town.get(card)).toMatchObject({ state: "preparing" })
  await writeFile(join(town.repo, "deploy.sh"), script)
  sleeper.wake()
  await working
  expect(await town.version()).toBe("2")
  await sleeper.stop()
})
