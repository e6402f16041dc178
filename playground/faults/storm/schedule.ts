import { chance } from "./chance.ts"

/** Each kind of fault, and after how many seconds, in the mean, the next of its kind follows. */
export const gaps = {
  /** `kill -9` of a bot or a worker, when it holds something. */
  kill: 1.9,
  /** The link of a COMMIT is cut, before it arrives or before its answer does. */
  cut: 1.9,
  /** SIGSTOP of a worker past its lease, now and then of a bot. */
  freeze: 7.5,
  /** FLUSHALL. */
  flush: 9,
  /** Redis is killed; it comes back at once or after a while, and empty. */
  "redis-kill": 36,
  /** The server crashes and recovers. */
  "state-restart": 30,
  "target-restart": 30,
  /** A link of which nobody hears any more. */
  "half-open": 20,
  /** 429, 500, no answer, dropped before or after it was accepted. */
  slack: 6,
  /** What people did arrives again, in another order. */
  twice: 7,
  /** A process that starts next has a clock that is ten minutes off. */
  clock: 25,
  /** No room on the disk of the state or of the targets. */
  disk: 40,
} as const

export type FaultKind = keyof typeof gaps
export const faultKinds = Object.keys(gaps) as FaultKind[]

/** A fault as the seed has it: the shares, from 0 to 1, say who, when exactly, for how long and in which way. */
export type Fault = { kind: FaultKind; n: number; atMs: number; who: number; when: number; long: number; way: number }

/** The nth fault of a kind: a function of the seed and nothing else. */
export function faultOf(seed: number, kind: FaultKind, n: number): Fault {
  const share = (what: string) => chance(seed, kind, n, what)
  // Each in its own stretch of time, so that a kind neither piles up nor pauses.
  const atMs = Math.round((n + 0.1 + 0.8 * share("at")) * gaps[kind] * 1000)
  return { kind, n, atMs, who: share("who"), when: share("when"), long: share("long"), way: share("way") }
}

/** All faults of a storm, in the order of their times. */
export function scheduleOf(seed: number, lastsMs: number, kinds: readonly FaultKind[]): Fault[] {
  const faults = kinds.flatMap((kind) => {
    const most = Math.ceil(lastsMs / (gaps[kind] * 1000))
    return Array.from({ length: most }, (_, n) => faultOf(seed, kind, n))
  })
  return faults.filter(({ atMs }) => atMs < lastsMs).sort((a, b) => a.atMs - b.atMs)
}
