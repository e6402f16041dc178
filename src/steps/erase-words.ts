/** Stands where a person's value stood. */
const gone = "(erased)"

/** Shorter values stand in too many words that mean something else. */
export const shortestWord = 4

/**
 * Takes a value out of every text inside `json`, where it stands as a word of its own. Captured values are left: later
 * steps and undo use them as they are.
 */
export function withoutWord(json: unknown, word: string): unknown {
  const pattern = wordPattern(word)
  const walk = (value: unknown): unknown => {
    if (typeof value === "string") return value.replace(pattern, gone)
    if (Array.isArray(value)) return value.map(walk)
    if (typeof value !== "object" || value === null) return value
    return Object.fromEntries(
      Object.entries(value).map(([key, inner]) => [
        key.replace(pattern, gone),
        key === "captures" ? (inner as unknown) : walk(inner),
      ]),
    )
  }
  return walk(json)
}

function wordPattern(word: string): RegExp {
  // Letters and digits beside it would make it another word.
  return new RegExp(`(?<![\\p{L}\\p{N}])${RegExp.escape(word)}(?![\\p{L}\\p{N}])`, "gu")
}
