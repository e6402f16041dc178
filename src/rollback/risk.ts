import type { Risk } from "./facts.ts"

const order = ["low", "medium", "high"] as const satisfies Risk[]

export function isRiskier(one: Risk, other: Risk): boolean {
  return order.indexOf(one) > order.indexOf(other)
}

/**
 * A rollback's risk: the highest of its components, raised by one level, once, when there is any reason to. Never
 * lowered: what could not be counted is not nothing.
 */
export function overallRisk(
  components: readonly Risk[],
  reasonsToRaise: readonly string[],
): { risk: Risk; reasons: string[] } {
  const highest = Math.max(0, ...components.map((risk) => order.indexOf(risk)))
  const raised = Math.min(order.length - 1, highest + (reasonsToRaise.length > 0 ? 1 : 0))
  return { risk: order[raised] as Risk, reasons: [...new Set(reasonsToRaise)] }
}
