import type { WrittenPlan } from "./schema.ts"

/** What may have to wait for others, by their ids. */
export type Waiting = { id: string; needs: readonly string[] }

/**
 * The ids in an order in which everything comes after what it needs and otherwise as given, or the ids that wait for
 * each other in a circle. Needs that name nothing are passed over.
 */
export function sortByNeeds(items: readonly Waiting[]): { order: string[] } | { circle: string[] } {
  const order: string[] = []
  let waiting = [...items]
  while (waiting.length > 0) {
    const isReady = ({ needs }: Waiting) => needs.every((need) => !waiting.some((other) => other.id === need))
    const next = waiting.find(isReady)
    if (!next) return { circle: findCircle(waiting) }
    order.push(next.id)
    waiting = waiting.filter((item) => item !== next)
  }
  return { order }
}

function findCircle(waiting: readonly Waiting[]): string[] {
  const path: string[] = []
  let current = waiting[0]
  while (current && !path.includes(current.id)) {
    path.push(current.id)
    const { needs } = current
    current = waiting.find((item) => needs.includes(item.id))
  }
  return current ? [...path.slice(path.indexOf(current.id)), current.id] : path
}

/** The ids of the components in the order in which they run. A circle has been refused before; then it is the file's. */
export function orderComponents(plan: WrittenPlan): string[] {
  const ids = Object.keys(plan.components)
  const sorted = sortByNeeds(ids.map((id) => ({ id, needs: plan.components[id]?.needs ?? [] })))
  return "order" in sorted ? sorted.order : ids
}
