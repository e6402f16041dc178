/** How many commands and clicks one person may make at once, and how many a second come back. */
const burst = 100
const perSecond = 5
/** People remembered at the most; the oldest are forgotten. */
const remembered = 10_000

/** Keeps one person from drowning the others. Gives the seconds to wait, 0 when there is no need to. */
export function createLimit(clock = () => performance.now()): (userId: string) => number {
  const people = new Map<string, { tokens: number; at: number }>()
  return (userId) => {
    const now = clock()
    const known = people.get(userId) ?? { tokens: burst, at: now }
    const tokens = Math.min(burst, known.tokens + ((now - known.at) / 1000) * perSecond)
    people.delete(userId)
    people.set(userId, { tokens: Math.max(0, tokens - 1), at: now })
    if (people.size > remembered) people.delete(people.keys().next().value as string)
    return tokens >= 1 ? 0 : Math.ceil((1 - tokens) / perSecond)
  }
}
