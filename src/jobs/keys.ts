import type { StepResult, StepRun } from "../rollback/facts.ts"

/** Names of a step's outside effect: how many are used up, and whether it may be done already under the one in use. */
export type Keys = { spent: number; doubt: boolean }

export const unusedKeys: Keys = { spent: 0, doubt: false }

/** What was ended while it ran may have done its work. */
const endedInIt = new Set(["timed_out", "stopped"])
/** Nothing of it was begun. */
const notBegun = new Set(["not_started", "unreachable", "not_sent", "no_value", "changed", "error"])

/**
 * After what is known it is named anew. What is not known keeps its name, and so does what was not begun: beside an earlier
 * attempt in doubt it would be done a second time under another one.
 */
export function keysAfter({ spent, doubt }: Keys, { outcome, failure, keysSpent = 0 }: StepResult): Keys {
  const code = failure?.code ?? ""
  if (outcome === "unknown" || endedInIt.has(code)) return { spent: spent + keysSpent, doubt: true }
  if (notBegun.has(code)) return { spent: spent + keysSpent, doubt: doubt && keysSpent === 0 }
  return { spent: spent + keysSpent + 1, doubt: false }
}

/** By step; attempt after attempt, whatever the clock of the database said meanwhile. */
export function keysOf(stepRuns: readonly StepRun[]): Map<string, Keys> {
  const keys = new Map<string, Keys>()
  for (const { stepId, result } of stepRuns.toSorted((a, b) => a.attempt - b.attempt))
    if (result) keys.set(stepId, keysAfter(keys.get(stepId) ?? unusedKeys, result))
  return keys
}
