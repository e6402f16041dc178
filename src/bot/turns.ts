/** What follows acks runs this many at once, so that the next ack never stands behind all of it. */
const atOnce = 6
/** Work begins when no further request has come for this long, or after the longer time: a person does not feel either. */
const calmMs = 4
const mostCalmMs = 40
/** What takes longer waits for somebody else and not for this process's attention: its turn goes to the next. */
const turnMs = 250
/** More than this never waits: memory stays level under any flood, and who was dropped asks again. */
const mostWaiting = 5_000

export class TooManyWaitingError extends Error {
  constructor() {
    super("too many requests wait for their turn")
  }
}

export type Turns = <T>(work: () => Promise<T>) => Promise<T>

/**
 * An ack has three seconds and costs a millisecond; what follows it looks people up, reads and answers, and costs
 * several. Fifty people at once are all acked first, then served one after the other in the order in which they came.
 */
export function createTurns(): Turns {
  const waiting: (() => void)[] = []
  let taken = 0
  let calm: NodeJS.Timeout | null = null
  let restless = 0

  /** Puts the beginning off while more requests come in. */
  function settle(): void {
    const now = performance.now()
    if (calm === null) restless = now
    else clearTimeout(calm)
    calm = setTimeout(
      () => {
        calm = null
        for (let n = taken; n < atOnce; n++) next()
      },
      Math.min(calmMs, Math.max(0, restless + mostCalmMs - now)),
    )
  }

  function next(): void {
    if (taken >= atOnce) return
    const start = waiting.shift()
    if (start === undefined) return
    taken++
    // After what has arrived by now.
    setImmediate(start)
  }

  function give(): () => void {
    let given = false
    return () => {
      if (given) return
      given = true
      taken--
      if (calm === null) next()
    }
  }

  return (work) =>
    new Promise((resolve, reject) => {
      if (waiting.length >= mostWaiting) {
        reject(new TooManyWaitingError())
        return
      }
      waiting.push(() => {
        const giveBack = give()
        const timer = setTimeout(giveBack, turnMs)
        const done = () => {
          clearTimeout(timer)
          giveBack()
        }
        work().finally(done).then(resolve, reject)
      })
      settle()
    })
}
