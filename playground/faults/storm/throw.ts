import { setTimeout as pause } from "node:timers/promises"
import type { Fault as SlackFault } from "../../slack/faults.ts"
import { chance, pick } from "./chance.ts"
import type { Role, Seat } from "./crew.ts"
import type { People } from "./people.ts"
import type { Fault, FaultKind } from "./schedule.ts"
import type { Server, StormStage } from "./stage.ts"
import type { Live, Watch } from "./watch.ts"

export type Thrower = {
  throw(fault: Fault): Promise<void>
  /** How many of each kind took effect. */
  thrown: Record<string, number>
}

type Scene = { stage: StormStage; watch: Watch; people: People; seed: number; count(what: string): void }

/** How long a fault waits for the moment in which somebody holds something. */
const patienceMs = 1_500

export function createThrower(scene: Omit<Scene, "count">): Thrower {
  const thrown: Record<string, number> = {}
  const count = (what: string) => void (thrown[what] = (thrown[what] ?? 0) + 1)
  const all = { ...scene, count }
  return {
    thrown,
    async throw(fault) {
      await throwers[fault.kind](fault, all)
    },
  }
}

const throwers: Record<FaultKind, (fault: Fault, scene: Scene) => Promise<void>> = {
  kill,
  freeze,
  twice,
  clock,
  disk,
  slack,
  cut: async (fault, { stage, count }) => {
    const { proxy, name } = fault.who < 0.5 ? stage.state : stage.target
    const before = proxy.cuts()
    proxy.cutAtCommit(fault.way < 0.5 ? "before" : "after")
    for (let waited = 0; waited < 5_000 && proxy.cuts() === before; waited += 20) await pause(20)
    if (proxy.cuts() > before) count(`cut ${name}`)
  },
  "half-open": async (fault, { stage, count }) => {
    const { proxy, name } = fault.who < 0.5 ? stage.state : stage.target
    if (proxy.holdOne(fault.when)) count(`half-open ${name}`)
  },
  flush: async (_fault, { stage, count }) => {
    // One that is away just now has nothing to lose.
    const flushed = await stage.redis?.flush().then(
      () => true,
      () => false,
    )
    if (flushed === true) count("flush")
  },
  "redis-kill": async (fault, { stage: { redis }, count }) => {
    if (redis === null) return
    process.kill(redis.pid, "SIGKILL")
    count(fault.way < 0.5 ? "redis-kill" : "redis-kill, away for seconds")
    if (fault.way >= 0.5) await pause(2_000 + fault.long * 5_000)
    await redis.restart()
  },
  "state-restart": (_fault, { stage, count }) => crash(stage.state, count),
  "target-restart": (_fault, { stage, count }) => crash(stage.target, count),
}

async function crash(server: Server, count: Scene["count"]): Promise<void> {
  await server.alone(() => server.postgres.restart("immediate"))
  count(`${server.name}-restart`)
}

/** Who has something in hand; whoever else there is when nobody has, after a while. */
async function holder(
  fault: Fault,
  { stage, watch }: Scene,
  role: Role,
): Promise<{ seat: Seat; held: Live[] } | undefined> {
  for (let waited = 0; ; waited += 50) {
    const able = stage.crew.able(role)
    const all = await Promise.all(
      able.map(async (seat) => ({ seat, held: await watch.heldBy(seat.process?.pid ?? 0).catch(() => []) })),
    )
    const holding = all.filter(({ held }) => held.length > 0)
    if (holding.length > 0 || waited > patienceMs) return pick(holding.length > 0 ? holding : all, fault.who)
    await pause(50)
  }
}

/** Workers hold runs; a bot holds what a person just did and the messages that it sends. */
async function kill(fault: Fault, scene: Scene): Promise<void> {
  const { stage, watch, people, count } = scene
  if (fault.way < 0.3) {
    await Promise.race([people.nextDeed(), pause(patienceMs)])
    await pause(fault.when * 80)
    const bot = pick(stage.crew.able("bot"), fault.who)
    if (bot && stage.crew.kill(bot)) count("kill bot")
    return
  }
  // One hand stays free, most of the time: all of them gone is only a longer wait.
  if (stage.crew.able("worker").length < 2) await pause(patienceMs)
  const found = await holder(fault, scene, "worker")
  if (found === undefined) return
  await pause(fault.when * 300)
  const held = await watch.heldBy(found.seat.process?.pid ?? 0).catch(() => [])
  if (!stage.crew.kill(found.seat)) return
  watch.killed(held)
  count(held.length > 0 ? "kill worker in a run" : "kill worker")
}

async function freeze(fault: Fault, scene: Scene): Promise<void> {
  const { stage, count } = scene
  const role: Role = fault.way < 0.85 ? "worker" : "bot"
  // One of its kind at a time, and another one is awake.
  const free = () =>
    stage.crew.able(role).length > 1 && !stage.crew.seats.some((seat) => seat.role === role && seat.frozen)
  for (let waited = 0; waited < 30_000 && !free(); waited += 100) await pause(100)
  const found = role === "worker" ? await holder(fault, scene, role) : { seat: pick(stage.crew.able(role), fault.who) }
  if (found?.seat === undefined) return
  await pause(fault.when * 100)
  // The lease ends after 6 s, the lane of an outbox after 8 s.
  if (await stage.crew.freeze(found.seat, 6_500 + fault.long * 2_500)) count(`freeze ${role}`)
}

async function twice(fault: Fault, { stage, seed, count }: Scene): Promise<void> {
  const door = pick(
    stage.crew.seats.filter(({ role, process }) => role === "bot" && process !== null),
    fault.who,
  )
  if (!door?.process) return
  stage.slack.setRequestUrl(`http://127.0.0.1:${door.process.port}/slack/events`)
  const again = await stage.slack.redeliver(3 + Math.floor(fault.long * 6), (n) => chance(seed, "order", fault.n, n))
  if (again.some(({ ok }) => ok)) count("twice")
}

/** From its next start on; a bot that is ten minutes off takes no requests, since their signatures look stale to it. */
async function clock(fault: Fault, { stage, count }: Scene): Promise<void> {
  const seat = pick(
    stage.crew.seats.filter(({ role }) => fault.way < 0.2 || role === "worker"),
    fault.who,
  )
  if (!seat) return
  for (const each of stage.crew.seats) if (each.role === seat.role && each !== seat) each.clockMs = 0
  seat.clockMs = fault.long < 0.5 ? 600_000 : -600_000
  count("clock")
}

async function disk(fault: Fault, { stage, count }: Scene): Promise<void> {
  const server = fault.n % 2 === 0 ? stage.target : stage.state
  const { disk } = server
  if ("why" in disk) return
  await server.alone(async () => {
    try {
      await disk.fill()
      await pause(2_000 + fault.long * 4_000)
    } finally {
      await disk.free()
    }
  })
  count(`disk full, ${server.name}`)
}

const ways: SlackFault[] = [
  { kind: "429", retryAfter: 1 },
  { kind: "500" },
  { kind: "hang" },
  { kind: "drop_after_accept" },
  { kind: "drop_before_accept" },
]
const methods = [
  "chat.postMessage",
  "chat.update",
  "conversations.replies",
  "conversations.history",
  "files.getUploadURLExternal",
  "files.completeUploadExternal",
  "users.info",
]

async function slack(fault: Fault, { stage, count }: Scene): Promise<void> {
  const way = pick(ways, fault.way)
  if (!way) return
  const all = fault.who < 0.25
  const one = pick(methods, (fault.who - 0.25) / 0.75) ?? "chat.postMessage"
  const times = 1 + Math.floor(fault.long * (way.kind === "hang" ? 3 : 8))
  stage.slack.faults.set({ ...way, times, ...(all ? {} : { methods: [fault.when < 0.5 ? "chat.postMessage" : one] }) })
  count(`slack ${way.kind}`)
}
