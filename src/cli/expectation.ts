import type { Expected, PlanStep, RowExpectation } from "../plans/plan.ts"
import type { Values } from "../plans/values.ts"
import { describeRange } from "../steps/step.ts"

/** What a step must show to count as done, in words; null when it says nothing of the kind. */
export function expectation(step: PlanStep, values: Values): string | null {
  const parts = partsOf(step, values)
  return parts.length === 0 ? null : parts.join(", ")
}

function partsOf(step: PlanStep, values: Values): string[] {
  switch (step.kind) {
    case "sql":
    case "purge":
      return [rowsText(step.expectRows)]
    case "check":
      return [
        ...(step.expect.rows === null ? [] : [rowsText(step.expect.rows)]),
        ...pairs(step.expect.values, values),
        ...(step.expect.matches === null ? [] : [`a row like /${step.expect.matches}/`]),
      ]
    case "http":
      return [
        `status ${step.expect.status?.join(" or ") ?? "2xx"}`,
        ...pairs(step.expect.json, values),
        ...(step.expect.underMs === null ? [] : [`under ${step.expect.underMs} ms`]),
        ...(step.expect.matches === null ? [] : [`an answer like /${step.expect.matches}/`]),
      ]
    case "command":
      return [
        `exit code ${step.expect.exit}`,
        ...(step.expect.stdout === null ? [] : [`output like /${step.expect.stdout}/`]),
      ]
    default:
      return []
  }
}

function rowsText(rows: RowExpectation): string {
  if (rows.kind === "rehearsed") return "as many rows as a rehearsal counts"
  const text = describeRange(rows)
  return text === "1" ? "1 row" : `${text} rows`
}

function pairs(expected: Record<string, Expected>, values: Values): string[] {
  return Object.entries(expected).map(([name, item]) => {
    if (item.kind === "pattern") return `${name} like /${item.source}/`
    const value = item.kind === "ref" ? (values[item.name] ?? `$${item.name}`) : item.value
    return `${name} = ${typeof value === "string" ? value : JSON.stringify(value)}`
  })
}
