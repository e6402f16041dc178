import { setTimeout as pause } from "node:timers/promises"
import { startStepback, warmUp, type StepbackProcess } from "../../stepback-process.ts"

export type Role = "bot" | "worker"

/** A place that is always filled: when its process ends, another one starts. */
export type Seat = {
  name: string
  role: Role
  process: StepbackProcess | null
  frozen: boolean
  /** How far the clock is off of the process that starts next. */
  clockMs: number
}

export type Crew = {
  seats: Seat[]
  /** Processes of the role that run and are not frozen. */
  able(role: Role): Seat[]
  /** False when it was not there to be killed. */
  kill(seat: Seat): boolean
  freeze(seat: Seat, ms: number): Promise<boolean>
  /** Processes that ended without having been asked to. */
  crashes: string[]
  /** How many started with a clock that was off. */
  startedWithOtherClock(): number
  /** What processes said about a rollback, as far as it is still known. */
  linesAbout(rollbackId: string): string[]
  stop(): Promise<void>
}

const preload = new URL("../clock-preload.ts", import.meta.url).pathname
/** Processes whose words about rollbacks are kept. */
const keptFallen = 500

/** Two bots and three workers, and their successors. */
export async function startCrew(environment: Record<string, string>): Promise<Crew> {
  const seats: Seat[] = [
    ...["bot-1", "bot-2"].map((name) => newSeat(name, "bot")),
    ...["worker-1", "worker-2", "worker-3"].map((name) => newSeat(name, "worker")),
  ]
  const crashes: string[] = []
  const fallen: { name: string; lines: Record<string, unknown>[] }[] = []
  const expected = new WeakSet<StepbackProcess>()
  let otherClocks = 0
  let stopping = false

  async function fill(seat: Seat): Promise<void> {
    // oxlint-disable-next-line no-unmodified-loop-condition -- stop() sets it
    while (!stopping) {
      const { clockMs } = seat
      const started = await startStepback(
        { ...environment, STEPBACK_ROLE: seat.role, ...(clockMs === 0 ? {} : { CLOCK_OFF_MS: String(clockMs) }) },
        clockMs === 0 ? [] : ["--import", preload],
      ).catch((error: unknown) => {
        // A state database that was away for too long ends a start, as it should.
        if (!String(error).includes("DATABASE_URL")) crashes.push(`${seat.name} did not start: ${String(error)}`)
        return null
      })
      if (started === null) {
        await pause(500)
        continue
      }
      if (clockMs !== 0) otherClocks++
      // Who was still starting when the others were asked to end has heard nothing of it.
      if (stopping) return started.stop()
      seat.process = started
      const how = await started.ended
      seat.process = null
      seat.frozen = false
      // 0: a terminal's Ctrl-C reaches them too.
      if (!expected.has(started) && how !== 0) crashes.push(`${seat.name} ended by itself (${how})`)
      fallen.push({ name: `${seat.name} ${started.pid}`, lines: started.lines.filter((line) => "rollbackId" in line) })
      if (fallen.length > keptFallen) fallen.shift()
    }
  }

  await warmUp()
  const filling = seats.map(fill)
  while (seats.some(({ process }) => process === null)) await pause(50)
  return {
    seats,
    able: (role) => seats.filter((seat) => seat.role === role && seat.process !== null && !seat.frozen),
    kill(seat) {
      if (seat.process === null || expected.has(seat.process)) return false
      expected.add(seat.process)
      seat.process.kill("SIGKILL")
      return true
    },
    async freeze(seat, ms) {
      const frozen = seat.process
      if (frozen === null || expected.has(frozen) || seat.frozen) return false
      seat.frozen = true
      frozen.kill("SIGSTOP")
      await pause(ms)
      frozen.kill("SIGCONT")
      if (seat.process === frozen) seat.frozen = false
      return true
    },
    crashes,
    startedWithOtherClock: () => otherClocks,
    linesAbout(rollbackId) {
      const living = seats.flatMap(({ name, process }) =>
        process === null ? [] : [{ name: `${name} ${process.pid}`, lines: process.lines }],
      )
      const about = [...fallen, ...living].flatMap(({ name, lines }) =>
        lines.filter((line) => line["rollbackId"] === rollbackId).map((line) => `${name} ${JSON.stringify(line)}`),
      )
      return about
    },
    async stop() {
      stopping = true
      for (const { process } of seats) {
        if (process === null) continue
        expected.add(process)
        process.kill("SIGCONT")
        process.kill("SIGTERM")
      }
      await Promise.all(filling)
    },
  }
}

function newSeat(name: string, role: Role): Seat {
  return { name, role, process: null, frozen: false, clockMs: 0 }
}
