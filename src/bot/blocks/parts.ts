/**
 * What a message says, before it is Block Kit: blocks and `text` are both made of this, so that they cannot differ.
 *
 * A plain string in a line is always data: it is cleaned, put on one line and escaped when it is rendered. Only spans
 * can mention, and only ids that look like Slack's.
 */
export type Span =
  | string
  | { bold: string }
  | { code: string }
  | { user: string }
  | { group: string }
  | { link: string; label: string }

export type Line = Span[]

/** `confirm`: asked before the click counts, for what cannot be taken back. */
export type ButtonPart = {
  id: string
  label: string
  value: string
  style?: "primary" | "danger"
  confirm?: { title: string; text: string; yes: string; no: string }
}

export type Part =
  /** `title` stands large; `facts` beside it say the most important numbers. */
  | { kind: "headline"; title: string; facts: Line }
  /** `hidden`: how many lines were left out at the end. */
  | { kind: "list"; heading: Line | null; lines: Line[]; hidden: number }
  /** `pasted` is cut between statements only; `left` counts the characters left out, `rest` says where they can be read. */
  | { kind: "code"; heading: Line | null; code: string; pasted: boolean; left: number; rest: string | null }
  /** Stands in front and calls people: a section of mrkdwn, because that is sure to reach them. */
  | { kind: "call"; line: Line }
  | { kind: "footer"; line: Line }
  | { kind: "buttons"; buttons: ButtonPart[] }

export function headline(title: string, ...facts: (Line | null)[]): Part {
  return { kind: "headline", title, facts: joined(facts) }
}

/** A heading with lines below it. */
export function list(heading: string | Line | null, lines: Line[]): Part {
  return { kind: "list", heading: typeof heading === "string" ? [{ bold: heading }] : heading, lines, hidden: 0 }
}

/** Like `list`, but nothing at all where there are no lines. */
export function listOf(heading: string | Line | null, lines: Line[]): Part[] {
  return lines.length === 0 ? [] : [list(heading, lines)]
}

export function footer(...facts: (Line | null)[]): Part[] {
  const line = joined(facts)
  return line.length === 0 ? [] : [{ kind: "footer", line }]
}

export function buttons(...shown: ButtonPart[]): Part[] {
  return shown.length === 0 ? [] : [{ kind: "buttons", buttons: shown }]
}

/** Code or output as it is. `rest`: where all of it can be read, should it be too long. */
export function code(
  heading: Line | null,
  text: string,
  { pasted, rest }: { pasted: boolean; rest: string | null },
): Part {
  return { kind: "code", heading, code: text, pasted, left: 0, rest }
}

/** Facts beside each other: "a · b · c". */
export function joined(facts: (Line | null)[]): Line {
  const present = facts.filter((fact): fact is Line => fact !== null && fact.length > 0)
  return present.flatMap((fact, index) => (index === 0 ? fact : [" · ", ...fact]))
}

/** A person or a group that we mention. What does not look like an id of Slack's is shown as text. */
export function mention(id: string): Span {
  if (/^[UW][A-Z0-9]{1,30}$/.test(id)) return { user: id }
  if (/^S[A-Z0-9]{1,30}$/.test(id)) return { group: id }
  return id
}

/** "@a, @b and 3 more" */
export function mentions(ids: readonly string[], most = 10): Line {
  const shown = ids.slice(0, most).flatMap((id, index): Line => (index === 0 ? [mention(id)] : [", ", mention(id)]))
  return ids.length > most ? [...shown, ` and ${ids.length - most} more`] : shown
}
