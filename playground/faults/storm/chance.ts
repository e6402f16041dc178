/** A number from 0 to 1 that is the same for the same words: a seed, and what it is drawn for. */
export function chance(...words: (string | number)[]): number {
  let state = 2_166_136_261
  for (const character of words.join("/")) state = Math.imul(state ^ character.charCodeAt(0), 16_777_619)
  state = (state + 0x6d2b79f5) | 0
  let t = Math.imul(state ^ (state >>> 15), 1 | state)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
}

/** The element that this share of the way points at; undefined of an empty list. */
export function pick<T>(all: readonly T[], share: number): T | undefined {
  return all[Math.min(Math.floor(share * all.length), all.length - 1)]
}
