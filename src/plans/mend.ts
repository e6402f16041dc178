import type { z } from "zod"

type Issue = z.core.$ZodIssue
type Path = readonly PropertyKey[]
type Node = Record<PropertyKey, unknown>

/** What stands in for something required that is wrong, so that the rest can be checked all the same. */
const standIns: Record<string, unknown> = {
  version: 1,
  title: "-",
  risk: "low",
  environment: "unknown",
}

/**
 * A copy of the plan without what the schema refuses, and which places it changed. A wrong step becomes one that does
 * nothing under the same id and with the same captures, so that what refers to it is not called wrong.
 */
export function mend(value: unknown, issues: readonly Issue[]): { value: unknown; changed: Path[] } {
  const copy: unknown = structuredClone(value)
  const changed: Path[] = []
  for (const issue of issues) {
    const step = stepOf(issue.path)
    const places: Path[] =
      step !== null
        ? [step]
        : issue.code === "unrecognized_keys"
          ? issue.keys.map((key) => [...issue.path, key])
          : [issue.path]
    for (const place of places) {
      replace(copy, place, step !== null)
      changed.push(place)
    }
  }
  return { value: copy, changed }
}

/** Whether a finding speaks of a place that was changed, of what has lost a part by it, or names what may be missing since. */
export function followsFrom({ path, message }: { path: Path; message: string }, changed: readonly Path[]): boolean {
  return changed.some(
    (place) =>
      place.every((key, at) => path[at] === key) ||
      (stepOf(place) === null && place.length === path.length + 1 && path.every((key, at) => place[at] === key)) ||
      (stepOf(place) === null && place.some((key) => typeof key === "string" && names(message, key))),
  )
}

function names(message: string, key: string): boolean {
  return (
    !["components", "params", "steps"].includes(key) && new RegExp(`(?<!\\w)${RegExp.escape(key)}(?!\\w)`).test(message)
  )
}

/** `components`, id, `steps`, number. */
function stepOf(path: Path): Path | null {
  return path[0] === "components" && path[2] === "steps" && typeof path[3] === "number" ? path.slice(0, 4) : null
}

function replace(root: unknown, path: Path, isStep: boolean): void {
  const last = path.at(-1)
  const parent = path.slice(0, -1).reduce<unknown>((node, key) => (isNode(node) ? node[key] : undefined), root)
  if (last === undefined || !isNode(parent)) return
  if (isStep) parent[last] = idle(parent[last], Number(last))
  else if (Object.hasOwn(standIns, last)) parent[last] = standIns[String(last)]
  else delete parent[last]
}

function idle(step: unknown, number: number): Node {
  const { id, capture } = isNode(step) ? step : {}
  const captures = isNode(capture) ? Object.keys(capture) : []
  return {
    id: typeof id === "string" && /^[A-Za-z0-9][A-Za-z0-9_-]*$/.test(id) ? id : `step-${number + 1}`,
    check: "select 1 as one",
    expect: { rows: 1 },
    ...(captures.length > 0 ? { capture: Object.fromEntries(captures.map((name) => [name, "one"])) } : {}),
  }
}

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null
}
