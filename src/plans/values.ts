/** Values that a step can name: parameters, commits, captures. All are text, as Postgres and argument lists take them. */
export type Values = Readonly<Record<string, string>>

const reference = /\$(?:\$|\{?([A-Za-z_][A-Za-z0-9_]*)\}?)/g

/** Names that a text refers to as `$name`. */
export function namesIn(text: string): string[] {
  // `$$` stands for a dollar sign.
  return [...text.matchAll(/\$\$|\$([A-Za-z_][A-Za-z0-9_]*)/g)].flatMap((match) => match[1] ?? [])
}

/** Replaces `$name` (and `$$` by `$`) in a text. An unknown name is left: the plan's checks refused those. */
export function fill(text: string, values: Values): string {
  return text.replace(reference, (whole, name: string | undefined) => {
    if (name === undefined) return whole === "$$" ? "$" : whole
    return whole.startsWith("${") ? whole : (values[name] ?? whole)
  })
}

// There a dollar sign is the end of a text, which no name can follow. Not behind a backslash, nor in [ ].
const patternPart = /\\[^]|\[(?:\\[^]|[^\]\\])*\]|\$([A-Za-z_][A-Za-z0-9_]*)/g

/** Names that a regular expression refers to as `$name`. */
export function namesInPattern(source: string): string[] {
  return [...source.matchAll(patternPart)].flatMap((match) => match[1] ?? [])
}

/** A regular expression with values in it, each of which means its own characters, and as a whole what stands behind it. */
export function patternOf(source: string, values: Values, flags = ""): RegExp {
  const filled = source.replace(patternPart, (whole, name: string | undefined) => {
    const value = name === undefined ? undefined : values[name]
    return value === undefined ? whole : `(?:${value.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&")})`
  })
  return new RegExp(filled, flags)
}

/**
 * Whether a pattern is about all of a text: what may not stand in it or, where lines do not count, where it ends. That it
 * fits a part of the text says nothing then.
 */
export function isAboutAll(source: string, flags = ""): boolean {
  const bare = source.replace(patternPart, "")
  return /\(\?<?!/.test(bare) || (!flags.includes("m") && bare.includes("$"))
}

/** Parameters that are no texts in JSON, by name. */
export type JsonTypes = Readonly<Record<string, "integer" | "number" | "boolean">>

/** Replaces `$name` in every string of a JSON value. One that is all of a string becomes what its type says. */
export function fillDeep(value: unknown, values: Values, types: JsonTypes = {}): unknown {
  if (typeof value === "string") return typedValue(value, values, types) ?? fill(value, values)
  if (Array.isArray(value)) return value.map((item) => fillDeep(item, values, types))
  if (value !== null && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, fillDeep(item, values, types)]))
  return value
}

/** What a string is that is nothing but the name of a parameter with such a type; null for others. */
export function typedValue(value: string, values: Values, types: JsonTypes): string | number | boolean | null {
  const name = /^\$([A-Za-z_][A-Za-z0-9_]*)$/.exec(value)?.[1] ?? ""
  const [type, text] = [types[name], values[name]]
  if (type === undefined || text === undefined) return null
  if (type === "boolean") return text === "true"
  const number = Number(text)
  // JSON's readers would take it for another number.
  return Number.isFinite(number) && (type === "number" || Number.isSafeInteger(number)) ? number : text
}

/** Names among `names` that have no value yet. */
export function missing(names: readonly string[], values: Values): string[] {
  return names.filter((name) => !(name in values))
}
