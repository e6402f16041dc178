/**
 * The few words in which Slack's own schema is written down in this folder. A check reports every problem it
 * finds, in Slack's words, at a JSON pointer.
 */
export type Problem = { message: string; pointer: string }
export type Check = (value: unknown, at: string, problems: Problem[]) => void
type Optional = { optional: Check }

export const optional = (check: Check): Optional => ({ optional: check })

const report = (problems: Problem[], message: string, pointer: string): void => void problems.push({ message, pointer })

/** Length counts UTF-16 units, as Slack's limits do within a character or two. */
export function string(max: number, min = 1): Check {
  return (value, at, problems) => {
    if (typeof value !== "string") return report(problems, "must provide a string", at)
    if (value.length < min) report(problems, `must be more than ${min - 1} characters`, at)
    if (value.length > max) report(problems, `must be less than ${max + 1} characters`, at)
  }
}

export const boolean: Check = (value, at, problems) => {
  if (typeof value !== "boolean") report(problems, "must provide a boolean", at)
}

export function number(min = -Infinity, max = Infinity): Check {
  return (value, at, problems) => {
    if (typeof value !== "number") return report(problems, "must provide a number", at)
    if (value < min) report(problems, `must be no less than ${min}`, at)
    if (value > max) report(problems, `must be no more than ${max}`, at)
  }
}

export function matching(pattern: RegExp, what: string, max = 3000): Check {
  return (value, at, problems) => {
    string(max)(value, at, problems)
    if (typeof value === "string" && !pattern.test(value)) report(problems, `must be a valid ${what}`, at)
  }
}

export function oneOf(...allowed: (string | number)[]): Check {
  return (value, at, problems) => {
    if (!allowed.includes(value as string)) report(problems, `must be a valid enum value: ${allowed.join(", ")}`, at)
  }
}

export function array(item: Check, max = Infinity, min = 1): Check {
  return (value, at, problems) => {
    if (!Array.isArray(value)) return report(problems, "must provide an array", at)
    if (value.length < min) report(problems, `no fewer than ${min} items required`, at)
    if (value.length > max) report(problems, `no more than ${max} items allowed`, at)
    value.forEach((entry, index) => item(entry, `${at}/${index}`, problems))
  }
}

/** Fields that are not listed are refused: an app that misspells one should hear of it. */
export function object(fields: Record<string, Check | Optional>): Check {
  return (value, at, problems) => {
    if (typeof value !== "object" || value === null || Array.isArray(value))
      return report(problems, "must provide an object", at)
    const given = value as Record<string, unknown>
    for (const [name, check] of Object.entries(fields)) {
      if (given[name] !== undefined)
        (typeof check === "function" ? check : check.optional)(given[name], `${at}/${name}`, problems)
      else if (typeof check === "function") report(problems, `missing required field: ${name}`, at)
    }
    for (const name of Object.keys(given))
      if (!Object.hasOwn(fields, name)) report(problems, `invalid additional property: ${name}`, at)
  }
}

/** Objects told apart by their `type`. */
export function byType(kinds: Record<string, Check>): Check {
  return (value, at, problems) => {
    if (typeof value !== "object" || value === null) return report(problems, "must provide an object", at)
    const { type } = value as { type?: unknown }
    if (typeof type !== "string") return report(problems, "missing required field: type", at)
    const kind = Object.hasOwn(kinds, type) ? kinds[type] : undefined
    if (!kind) return report(problems, `unsupported type: ${type}`, `${at}/type`)
    kind(value, at, problems)
  }
}

export function lazy(get: () => Check): Check {
  return (value, at, problems) => get()(value, at, problems)
}

/** Adds a rule about the whole to a check of the parts. */
export function also(check: Check, rule: (value: Record<string, unknown>) => string | false | undefined): Check {
  return (value, at, problems) => {
    check(value, at, problems)
    if (typeof value !== "object" || value === null) return
    const broken = rule(value as Record<string, unknown>)
    if (broken) report(problems, broken, at)
  }
}

export const pick = (kinds: Record<string, Check>, ...names: string[]): Record<string, Check> =>
  Object.fromEntries(names.flatMap((name) => (kinds[name] ? [[name, kinds[name]]] : [])))
