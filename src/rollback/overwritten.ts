import type { Change } from "./facts.ts"

/** Lines at most: the thread has all changes. */
const mostTold = 5

/**
 * What stood in the way of an UPDATE although as many rows matched as were approved: values that the card did not show, since
 * somebody set them meanwhile. They are kept like all others. `earlier`: changes of this run's own steps, which are no news.
 */
export function overwritten(shown: readonly Change[], done: readonly Change[], earlier: readonly Change[]): string[] {
  const nameOf = ({ row, column }: Change) => JSON.stringify([row, column])
  const before = new Map(shown.map((change) => [nameOf(change), change.before]))
  const ours = new Set(earlier.map(nameOf))
  const lines = done.flatMap((change) => {
    const then = before.get(nameOf(change))
    if (then === undefined || then === change.before || ours.has(nameOf(change))) return []
    return [`${change.row}.${change.column} was ${change.before} when it was set, where the card had ${then}`]
  })
  const more = lines.length - mostTold
  return more > 0 ? [...lines.slice(0, mostTold), `and ${more} more`] : lines
}
