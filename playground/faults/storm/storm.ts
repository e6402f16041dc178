import { setTimeout as pause } from "node:timers/promises"
import { countAll, type Count } from "./count.ts"
import { startPeople } from "./people.ts"
import { scheduleOf, type Fault, type FaultKind } from "./schedule.ts"
import { startStormStage, type StormStage } from "./stage.ts"
import { createThrower } from "./throw.ts"
import { startWatch, type Watch } from "./watch.ts"

export type StormOptions = {
  seed: number
  lastsMs: number
  kinds: readonly FaultKind[]
  /** A line now and then. */
  tell(line: string): void
  /** For who wants to see that what is wrong is counted: does wrong, and all is counted once more. */
  doWrong?(stage: StormStage): Promise<void>
  /** Ends the storm early; what was thrown is counted all the same. */
  signal?: AbortSignal
}

export type Report = {
  thrown: Record<string, number>
  /** Kinds that this machine does not allow, each with the reason. */
  leftOut: string[]
  deeds: Record<string, number>
  /** What people were answered, and how often. */
  answers: Record<string, number>
  count: Count
  /** After `doWrong`. */
  recount: Count | null
  stuck: string[]
  crashes: string[]
  takeovers: number[]
  oldestUnsentMs: number
  /** What processes said about rollbacks with which something is wrong. */
  lines: string[]
}

const tellEveryMs = 15_000
const tickMs = 25
/** After the last fault: what goes on may come to its end, and all be said. */
const calmMs = 120_000

/** Real processes, real servers, faults by seed, rollbacks all the while; then everything is counted. */
export async function runStorm(options: StormOptions): Promise<Report> {
  const stage = await startStormStage()
  const { signal = new AbortController().signal } = options
  const staffed = () => stage.crew.able("worker").length > 1
  const watch = startWatch(stage.look.state, staffed)
  try {
    const people = startPeople(stage, watch, options.seed)
    const thrower = createThrower({ stage, watch, people, seed: options.seed })
    const status = () => {
      const kills = Object.entries(thrower.thrown).filter(([name]) => name.startsWith("kill"))
      const killed = kills.reduce((sum, [, n]) => sum + n, 0)
      const all = Object.values(thrower.thrown).reduce((sum, n) => sum + n, 0)
      return `${all} faults thrown, ${killed} of them kills; ${people.done["approve"] ?? 0} approvals; ${watch.takeovers.length} takeovers; ${watch.stuck.length} stuck; ${stage.crew.crashes.length} crashes`
    }
    await throwAll(scheduleOf(options.seed, options.lastsMs, options.kinds), options, {
      signal,
      throwOne: (fault) => thrower.throw(fault),
      ready: () => staffed() && stage.crew.able("bot").length > 0,
      status,
    })
    options.tell(`the storm is over: ${status()}`)
    await heal(stage)
    people.finish()
    await Promise.race([people.ended, pause(calmMs, undefined, { ref: false })])
    const left = await settled(stage)
    const count = await countAll(stage)
    await options.doWrong?.(stage)
    const recount = options.doWrong ? await countAll(stage) : null
    const clocks = stage.crew.startedWithOtherClock()
    return {
      thrown: { ...thrower.thrown, ...(clocks === 0 ? {} : { "started with another clock": clocks }) },
      leftOut: leftOut(stage),
      deeds: people.done,
      answers: answersIn(stage),
      count,
      recount,
      stuck: [...watch.stuck, ...left],
      crashes: stage.crew.crashes,
      takeovers: watch.takeovers,
      oldestUnsentMs: watch.oldestUnsent(),
      lines: linesOf(stage, count, watch),
    }
  } finally {
    await watch.stop()
    await heal(stage).catch(() => undefined)
    await stage.stop()
  }
}

/** A storm's hour is no longer than so many of the clock. */
const slowest = 6

/**
 * Each at its time, however long the ones before it take. The storm's time stands still while there is nobody left to
 * throw at, so that a slow machine sees the same storm as a quick one.
 */
async function throwAll(
  faults: Fault[],
  { lastsMs, tell }: StormOptions,
  by: { signal: AbortSignal; throwOne(fault: Fault): Promise<void>; ready(): boolean; status(): string },
): Promise<void> {
  const flying = new Set<Promise<void>>()
  const started = performance.now()
  let last = started
  let passed = 0
  let told = started
  let next = 0
  while (!by.signal.aborted && passed < lastsMs && last - started < slowest * lastsMs) {
    await pause(tickMs, undefined, { signal: by.signal }).catch(() => undefined)
    const now = performance.now()
    if (by.ready()) passed += now - last
    last = now
    for (let fault = faults[next]; fault && fault.atMs <= passed; fault = faults[++next]) {
      const { kind, n } = fault
      const flight: Promise<void> = by
        .throwOne(fault)
        .catch((error: unknown) => tell(`${kind} ${n} could not be thrown: ${String(error)}`))
        .finally(() => flying.delete(flight))
      flying.add(flight)
    }
    if (now - told < tellEveryMs) continue
    told = now
    tell(`${Math.round(passed / 1000)} s: ${by.status()}`)
  }
  await Promise.all(flying)
}

/** Everything works again; what was done wrong meanwhile stays wrong. */
async function heal(stage: StormStage): Promise<void> {
  stage.slack.faults.clear()
  for (const { disk, proxy } of [stage.state, stage.target]) {
    if ("free" in disk) await disk.free()
    // Nobody is waited for who is only half there.
    proxy.hold(false)
  }
}

/** What has not ended, or not been said, although nothing stands in its way any more. */
async function settled(stage: StormStage): Promise<string[]> {
  const started = performance.now()
  for (;;) {
    const { rows } = await stage.look.state.query<{
      number: number
      id: string
      state: string
      unsaid: number
      unlooked: number
    }>(
      `select number, id, state, (select count(*)::integer from stepback.outbox o where o.rollback_id = r.id and o.state in ('pending', 'sending')) as unsaid,
         (select count(*)::integer from stepback.second_looks l where l.rollback_id = r.id and l.looks = 0) as unlooked
       from stepback.rollbacks r where state in ('preparing', 'awaiting_approval', 'approved', 'running')
         or (card_version > card_sent_version and card_state <> 'lost')
         or exists (select 1 from stepback.outbox o where o.rollback_id = r.id and o.state in ('pending', 'sending'))
         or exists (select 1 from stepback.second_looks l where l.rollback_id = r.id and l.looks = 0)`,
    )
    if (rows.length === 0) return []
    if (performance.now() - started > calmMs)
      return rows.map(
        (row) =>
          `R-${row.number} ${row.id}: ${row.state} at the end, ${row.unsaid} messages not sent, ${row.unlooked} still to be looked for`,
      )
    await pause(200)
  }
}

function leftOut(stage: StormStage): string[] {
  const disks = [stage.state, stage.target].flatMap(({ name, disk }) =>
    "why" in disk ? [`disk full, ${name}: ${disk.why}`] : [],
  )
  return stage.redis === null ? [...disks, "flush and redis-kill: this machine has no Redis"] : disks
}

function answersIn({ slack }: StormStage): Record<string, number> {
  const answers: Record<string, number> = {}
  for (const { text } of ["alice", "bob", "carol"].flatMap((user) => slack.ephemerals(user))) {
    const alike = text.replace(/<[^>]*>/g, "…").replace(/\d+/g, "N")
    answers[alike] = (answers[alike] ?? 0) + 1
  }
  return answers
}

/** Of the first few only: whoever wants all plays the seed again. */
function linesOf(stage: StormStage, count: Count, watch: Watch): string[] {
  const stuck = watch.stuck.flatMap((line) => /[0-9a-f-]{36}/.exec(line)?.[0] ?? [])
  const ids = new Set([...count.violations.map(({ id }) => id), ...stuck].filter((id) => id !== ""))
  return [...ids].slice(0, 5).flatMap((id) => [`-- ${id}`, ...stage.crew.linesAbout(id)])
}
