import type { Path } from "./yaml-source.ts"

const REFERENCE = /\$(?:\$|([A-Za-z_][A-Za-z0-9_]*))/g
const ENVIRONMENT_REFERENCE = /\$\{([^}]*)\}?/g
const OWN_VARIABLE = /^(?:SLACK_.*|STEPBACK_.*|DATABASE_URL|REDIS_URL)$/i

/** Names after `$` in a text, each once. `$$` is a dollar sign, `${NAME}` is something else. */
export function listReferences(text: string): string[] {
  return [...new Set([...text.matchAll(REFERENCE)].flatMap((match) => match[1] ?? []))]
}

/** Names inside `${…}`, as written; an unclosed one is included, so that it can be refused. */
export function listEnvironmentReferences(text: string): string[] {
  return [...text.matchAll(ENVIRONMENT_REFERENCE)].map((match) => match[1] ?? "")
}

/** Whether a variable belongs to Stepback itself; plans cannot read those. */
export function isOwnVariable(name: string): boolean {
  return OWN_VARIABLE.test(name)
}

/** Every text anywhere inside a value, with its path. */
export function listTexts(value: unknown, path: Path): { text: string; path: Path }[] {
  if (typeof value === "string") return [{ text: value, path }]
  if (Array.isArray(value)) return value.flatMap((item, index) => listTexts(item, [...path, index]))
  if (typeof value !== "object" || value === null) return []
  return Object.entries(value).flatMap(([key, item]) => listTexts(item, [...path, key]))
}
