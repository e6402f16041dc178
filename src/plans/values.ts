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

/** Replaces `$name` in every string of a JSON value. */
export function fillDeep(value: unknown, values: Values): unknown {
  if (typeof value === "string") return fill(value, values)
  if (Array.isArray(value)) return value.map((item) => fillDeep(item, values))
  if (value !== null && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, fillDeep(item, values)]))
  return value
}

/** Names among `names` that have no value yet. */
export function missing(names: readonly string[], values: Values): string[] {
  return names.filter((name) => !(name in values))
}
