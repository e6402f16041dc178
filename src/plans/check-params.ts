import type { Finding } from "./finding.ts"
import { show } from "./issues.ts"
import { readValue } from "./param-value.ts"
import type { ParamType } from "./plan.ts"
import type { WrittenPlan } from "./schema.ts"

/** Whether the defaults of the parameters fit their types. */
export function checkParams(plan: WrittenPlan): Finding[] {
  return Object.entries(plan.params ?? {}).flatMap(([name, param]) => {
    if (param.default === undefined) return []
    const message = findDefaultError(param.type, param.default)
    return message === null
      ? []
      : [{ path: ["params", name, "default"], message: `${message}, found ${show(param.default)}` }]
  })
}

function findDefaultError(type: ParamType, value: string | number | boolean): string | null {
  // YAML has already turned 7.30 into 7.3 and 012 into 12: what the author meant is in quotes or lost.
  const isText = type !== "integer" && type !== "number" && type !== "boolean"
  if (isText && typeof value !== "string") return `expected ${article(type)} in quotes`
  if (typeof value === "number" && Math.abs(value) > Number.MAX_SAFE_INTEGER)
    return "expected so large a number in quotes"
  const read = readValue(type, String(value))
  return "expected" in read ? `expected ${read.expected}` : null
}

function article(type: ParamType): string {
  return type === "string" ? "text" : `a ${type}`
}
