/**
 * Text from outside is data. Everything that people, errors or targets say goes through here before Slack sees it.
 *
 * What is taken out is replaced by `·`, never dropped: two texts that differ must not look the same to an approver.
 */

/** Characters that show nothing, or that reorder what is beside them. */
const invisible = new RegExp(
  `[${[
    "\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f", // control characters but tab and line feed
    "\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u3164\\uffa0", // soft hyphen, fillers, Arabic letter mark
    "\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb", // zero width, bidi, annotations
    "\\ufe00-\\ufe0d\\u{e0000}-\\u{e0fff}", // variation selectors (not those of emoji), tags
    "\\p{Cs}", // half of a surrogate pair
  ].join("")}]`,
  "gu",
)

/** Slack's markup for calling people. Escaping disarms it; broken up, no renderer and no copy of it can arm it again. */
const calls = /<(?=!(?:channel|here|everyone|subteam\^)[^<>]*>|@[UW][A-Z0-9]+(?:\|[^<>]*)?>)/gi

/** Replaces what cannot be seen by `·`, and breaks up what would call people. Line feeds and tabs stay. */
export function clean(text: string): string {
  return text
    .replace(/\r\n/g, "\n")
    .replace(/[\u2028\u2029]/g, "\n")
    .replace(invisible, "·")
    .replace(calls, "<·")
}

/** `clean`, on one line: a reason with line breaks must not look like lines of ours. */
export function oneLine(text: string): string {
  return clean(text).replace(/\s+/gu, " ").trim()
}

/** The three characters with which Slack's markup begins and ends: without them nothing can mention anybody. */
export function escapeText(text: string): string {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;")
}

/** One line of text from outside, ready to stand in mrkdwn or in a message's `text`. */
export function safe(text: string, limit = 500): string {
  return escapeText(cut(oneLine(text), limit))
}

/** At most `limit` characters, the mark included; the mark says how much was cut. */
export function cut(text: string, limit: number): string {
  if (text.length <= limit) return text
  const room = Math.max(0, limit - cutMark(text.length).length)
  const kept = wholeCharacters(text, room)
  return `${kept}${cutMark(text.length - kept.length)}`.slice(0, limit)
}

/** For places with room for a word or two: at most `limit` characters, ended by `…`. */
export function cutShort(text: string, limit: number): string {
  return text.length <= limit ? text : `${wholeCharacters(text, limit - 1)}…`
}

/**
 * The statements from the start that fit as a whole. Half a statement is worse than none when somebody pastes it:
 * a DELETE that lost its WHERE still runs.
 */
export function cutStatements(sql: string, limit: number): { kept: string; cut: number } {
  if (sql.length <= limit) return { kept: sql, cut: 0 }
  let end = 0
  for (const found of sql.matchAll(/;[ \t]*(?:\n|$)/g)) {
    const next = found.index + found[0].length
    if (next > limit) break
    end = next
  }
  return { kept: sql.slice(0, end), cut: sql.length - end }
}

function wholeCharacters(text: string, length: number): string {
  const last = text.charCodeAt(length - 1)
  const splitsPair = last >= 0xd800 && last <= 0xdbff
  return text.slice(0, splitsPair ? length - 1 : length)
}

function cutMark(characters: number): string {
  return `… [${characters.toLocaleString("en-US")} characters cut]`
}
