import pg from "pg"
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest"
import { countingSteps, startCountingStage, type CountingStage } from "../../playground/faults/counting-stage.ts"
import { ask } from "../../playground/redis.ts"
import type { StepbackProcess } from "../../playground/stepback-process.ts"

let stage: CountingStage
let worker: StepbackProcess

beforeAll(async () => {
  stage = await startCountingStage()
  worker = await stage.startWorker()
})
afterAll(() => stage.stop())
beforeEach(() => stage.answerCalls())

/** Resolves when the worker has reported this step of this rollback. */
const reached = (id: string, step: string, by = worker) =>
  by.logged((line) => line["rollbackId"] === id && line["step"] === step && line["msg"] === "step ended")

/** Each step took effect once and was told once, and it ended well. */
async function expectWhole(id: string): Promise<void> {
  const outcome = await stage.outcome(id)
  expect(outcome.counts).toEqual(Object.fromEntries(countingSteps.map((step) => [step, 1])))
  const ofSteps = outcome.messages.filter((key) => !/^(card$|analysis$|lost\/|audit\/)/.test(key))
  expect(ofSteps).toEqual(countingSteps.map((step) => `${step}/1`))
  const others = outcome.messages.filter((key) => /^(card$|analysis$|audit\/)/.test(key))
  expect(others.map((key) => key.replace(/\d+$/, "")).sort()).toEqual(["analysis", "audit/", "card"])
  expect(outcome.state).toBe("succeeded")
}

it("a flushed Redis loses nothing", async () => {
  if (stage.redis === null) return
  await stage.redis.flush()
  const id = await stage.rollBack()
  await stage.redis.flush()
  for (const step of ["c3", "c7", "c14"]) {
    await reached(id, step)
    await stage.redis.flush()
  }
  await expectWhole(id)
})

it("a Redis that is killed before the request and comes back in the run loses nothing", async () => {
  if (stage.redis === null) return
  process.kill(stage.redis.pid, "SIGKILL")
  const id = await stage.rollBack()
  await reached(id, "c5")
  await stage.redis.restart()
  await reached(id, "c14")
  await stage.redis.restart()
  await expectWhole(id)
})

it("a Redis that evicts the queue, has become a replica, or takes questions and says nothing, loses nothing", async () => {
  const { redis } = stage
  if (redis === null) return
  const says = async (command: string) => expect(await ask(redis.port, command)).toMatch(/^[+$:]/)
  const pause = () => process.kill(redis.pid, "SIGSTOP")
  // All that is in it goes with the next command.
  await says("CONFIG SET maxmemory-policy allkeys-random")
  await says("CONFIG SET maxmemory 1")
  const evicting = await stage.rollBack()
  await expectWhole(evicting)
  await says("CONFIG SET maxmemory 0")
  await says("CONFIG SET maxmemory-policy noeviction")
  await says(`REPLICAOF 127.0.0.1 ${redis.port + 1}`)
  const readOnly = await stage.rollBack()
  await reached(readOnly, "c5")
  await says("REPLICAOF NO ONE")
  await expectWhole(readOnly)
  pause()
  const silent = await stage.rollBack()
  await reached(silent, "c5")
  process.kill(redis.pid, "SIGCONT")
  await reached(silent, "c14")
  pause()
  await expectWhole(silent)
  process.kill(redis.pid, "SIGCONT")
})

it("a state database that crashes in the run costs time", async () => {
  const id = await stage.rollBack()
  await reached(id, "c4")
  await stage.state.restart("immediate")
  await reached(id, "c14")
  await stage.state.restart("immediate")
  await expectWhole(id)
})

it("a state database that takes no writes for a while, as one whose disk is nearly full, costs time", async () => {
  const admin = new pg.Client(stage.state.url("state"))
  await admin.connect()
  const closed = async (on: boolean) => {
    await admin.query(`alter system set default_transaction_read_only = ${on ? "on" : "off"}`)
    await admin.query("select pg_reload_conf()")
  }
  stage.holdCalls()
  const id = await stage.rollBack()
  await stage.callArrived()
  await closed(true)
  stage.answerCalls()
  // Longer than the lease, which nobody can renew.
  const lapsed = async () =>
    (await admin.query("select from stepback.rollbacks where id = $1 and lease_until < now()", [id])).rowCount
  await expect.poll(lapsed, { timeout: 20_000 }).toBe(1)
  await closed(false)
  await admin.end()
  await expectWhole(id)
  const lost = worker.lines.filter(
    ({ rollbackId, msg }) => rollbackId === id && msg === "work on a rollback was interrupted",
  )
  expect(lost).toEqual([])
}, 120_000)

it("a target that crashes in the run costs time", async () => {
  const id = await stage.rollBack()
  await reached(id, "c4")
  await stage.target.restart("immediate")
  await reached(id, "c14")
  await stage.target.restart("fast")
  await expectWhole(id)
})

it("both crash while a call is on its way", async () => {
  stage.holdCalls()
  const id = await stage.rollBack()
  await stage.callArrived()
  await Promise.all([stage.state.restart("immediate"), stage.target.restart("immediate")])
  stage.answerCalls()
  await expectWhole(id)
})

it("a worker frozen past its lease in a call writes nothing when it wakes; another has gone on", async () => {
  stage.holdCalls()
  const id = await stage.rollBack()
  await stage.callArrived()
  worker.kill("SIGSTOP")
  const heir = await stage.startWorker()
  await heir.logged((line) => line["rollbackId"] === id && line["msg"] === "run taken")
  stage.answerCalls()
  await reached(id, "c14", heir)
  worker.kill("SIGCONT")
  await worker.logged((line) => line["rollbackId"] === id && line["msg"] === "rollback handed over")
  await expectWhole(id)
  expect(worker.lines.filter((line) => line["rollbackId"] === id && line["step"] === "call")).toEqual([])
  await heir.stop()
})

it("a worker frozen inside a transaction is waited for no longer than the server lets it, and does nothing twice", async () => {
  const id = await stage.rollBack()
  await reached(id, "c4")
  worker.kill("SIGSTOP")
  const heir = await stage.startWorker()
  await reached(id, "c14", heir)
  worker.kill("SIGCONT")
  await worker.logged((line) => line["rollbackId"] === id && line["msg"] === "rollback handed over")
  await expectWhole(id)
  await heir.stop()
})
