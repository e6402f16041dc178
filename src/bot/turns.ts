/** What follows acks runs this many at once, so that the next ack never stands behind all of it. */
const atOnce = 6
/** What takes longer waits for somebody else and not for this process's attention: its turn goes to the next. */
const turnMs = 250

export type Turns = <T>(work: () => Promise<T>) => Promise<T>

/**
 * An ack has three seconds and costs a millisecond; what follows it looks people up, reads and answers, and costs
 * several. Fifty people at once are all acked first, then served one after the other in the order in which they came.
 */
export function createTurns(): Turns {
  const waiting: (() => void)[] = []
  let taken = 0

  function next(): void {
    if (taken >= atOnce) return
    const start = waiting.shift()
    if (start === undefined) return
    taken++
    // After the requests that have arrived by now.
    setImmediate(start)
  }

  function give(): () => void {
    let given = false
    return () => {
      if (given) return
      given = true
      taken--
      next()
    }
  }

  return (work) =>
    new Promise((resolve, reject) => {
      waiting.push(() => {
        const giveBack = give()
        const timer = setTimeout(giveBack, turnMs)
        const done = () => {
          clearTimeout(timer)
          giveBack()
        }
        work().finally(done).then(resolve, reject)
      })
      next()
    })
}
