import type { Finding } from "./finding.ts"
import { show } from "./issues.ts"
import type { ParamType } from "./plan.ts"
import type { WrittenPlan } from "./schema.ts"

const TIMESTAMP = /^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?)?(Z|[+-]\d{2}(?::?\d{2})?)?$/

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
  return findValueError(type, String(value))
}

/** Why a text is not a value of this type ("expected …"), or null. Also for values from the command line. */
export function findValueError(type: ParamType, text: string): string | null {
  switch (type) {
    case "string":
      return text.includes("\0") ? "expected text without zero bytes" : null
    case "integer":
      return /^-?\d{1,18}$/.test(text) ? null : "expected a whole number"
    case "number":
      return /^-?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?$/.test(text) ? null : "expected a number"
    case "boolean":
      return /^(?:true|false)$/.test(text) ? null : "expected true or false"
    case "uuid":
      return /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text) ? null : "expected a uuid"
    case "git_ref":
      // A leading hyphen would be an option of git.
      return /^(?!-)[\w./@+#-]+$/.test(text) && !text.includes("..") ? null : "expected a branch, a tag or a commit"
    case "timestamp":
      return findTimestampError(text)
  }
}

function findTimestampError(text: string): string | null {
  const example = "such as 2026-10-01T09:00:00Z"
  const match = TIMESTAMP.exec(text)
  if (!match) return `expected a timestamp ${example}`
  if (!match[1] || !/\d[T ]\d/.test(text)) return `expected a timestamp with time and zone, ${example}`
  const day = new Date(`${text.slice(0, 10)}T00:00:00Z`)
  const isDay = !Number.isNaN(day.getTime()) && day.toISOString().startsWith(text.slice(0, 10))
  const isTime = /^(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d)?/.test(text.slice(11))
  return isDay && isTime ? null : "expected a day and a time that exist"
}

function article(type: ParamType): string {
  return type === "string" ? "text" : `a ${type}`
}
