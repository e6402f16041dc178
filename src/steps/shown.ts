/** What stands for a value that the plan says is never shown. */
export const hidden = "(not shown)"

const shownLength = 200

/** "a, b and 3 more", of `all` in all. */
export function some(named: readonly string[], all: number): string {
  return `${named.join(", ")}${all > named.length ? ` and ${all - named.length} more` : ""}`
}

/** A value as one line of bounded length, whole characters only: Postgres stores neither halves of them nor NUL. */
export function shorten(text: string, most = shownLength): string {
  const line = text.replaceAll("\u0000", "").replace(/\s+/g, " ")
  return (line.length > most ? `${line.slice(0, most)}… (${line.length} characters)` : line).toWellFormed()
}
