import type { Button, KnownBlock, RichTextElement, RichTextText } from "@slack/types"

import { clean, cut, cutShort, escapeText, oneLine } from "./escape.ts"
import { number } from "./format.ts"
import type { ButtonPart, Line, Part, Span } from "./parts.ts"

/** Slack's limits (docs.slack.dev, Block Kit reference), a little below where a mark must fit too. */
export const limits = { section: 3000, header: 150, button: 75, value: 2000, blocks: 50, modalBlocks: 100 } as const

/** Rich text has no documented limit; a section's is kept, so that no client has reason to refuse. */
const richText = 2900

export function blocksOf(part: Part): KnownBlock[] {
  switch (part.kind) {
    case "headline":
      return [
        { type: "header", text: plain(cutShort(nonEmpty(oneLine(part.title)), limits.header)) },
        ...richLines([part.facts]),
      ]
    case "list":
      return richLines(listLines(part))
    case "code":
      return [
        ...richLines(part.heading === null ? [] : [part.heading]),
        ...codeBlocks(part.code),
        ...richLines(restLines(part)),
      ]
    case "call":
      return [{ type: "section", text: { type: "mrkdwn", text: cutMrkdwn(lineText(part.line)), verbatim: true } }]
    case "footer":
      return [
        {
          type: "context",
          elements: [{ type: "mrkdwn", text: cutMrkdwn(lineText(part.line)), verbatim: true }],
        },
      ]
    case "buttons":
      return [{ type: "actions", elements: part.buttons.map(button) }]
  }
}

/** The same in a message's `text`: escaped, with the mentions that are ours. */
export function textOf(part: Part): string {
  switch (part.kind) {
    case "headline":
      return [escapeText(oneLine(part.title)), lineText(part.facts)].filter((text) => text !== "").join(" · ")
    case "list":
      return listLines(part).map(lineText).join("\n")
    case "code": {
      const code = part.code === "" ? [] : [fence, escapeText(clean(part.code).replaceAll(fence, "'''")), fence]
      return [
        ...(part.heading === null ? [] : [lineText(part.heading)]),
        ...code,
        ...restLines(part).map(lineText),
      ].join("\n")
    }
    case "call":
    case "footer":
      return lineText(part.line)
    case "buttons":
      return ""
  }
}

const fence = "```"

export function lineText(line: Line): string {
  return line.map(spanText).join("")
}

/** Characters that a person reads. */
export function lineLength(line: Line): number {
  return line.reduce((sum, span) => sum + spanLength(span), 0)
}

function spanLength(span: Span): number {
  if (typeof span === "string") return keepEnds(span).length
  if ("bold" in span) return keepEnds(span.bold).length
  if ("code" in span) return keepEnds(span.code).length
  return "link" in span ? oneLine(span.label).length : spanText(span).length
}

export function plain(text: string): { type: "plain_text"; text: string; emoji: false } {
  return { type: "plain_text", text, emoji: false }
}

export function button({ id, label, value, style, confirm }: ButtonPart): Button {
  return {
    type: "button",
    action_id: id,
    text: plain(cutShort(label, limits.button)),
    value: value.slice(0, limits.value),
    ...(style === undefined ? {} : { style }),
    ...(confirm === undefined
      ? {}
      : {
          confirm: {
            title: plain(cutShort(confirm.title, 100)),
            text: plain(cutShort(confirm.text, 300)),
            confirm: plain(cutShort(confirm.yes, 30)),
            deny: plain(cutShort(confirm.no, 30)),
          },
        }),
  }
}

/** Lines of text as rich text, which parses nothing; as many blocks as it takes. */
export function richLines(lines: Line[]): KnownBlock[] {
  const blocks: KnownBlock[] = []
  let elements: RichTextElement[] = []
  let length = 0
  const close = (): void => {
    if (elements.length > 0) blocks.push({ type: "rich_text", elements: [{ type: "rich_text_section", elements }] })
    elements = []
    length = 0
  }
  for (const line of lines) {
    if (line.length === 0) continue
    if (length + lineLength(line) > richText) close()
    if (elements.length > 0) append(elements, { type: "text", text: "\n" })
    for (const span of line) append(elements, spanElement(span))
    length += lineLength(line) + 1
  }
  close()
  return blocks
}

/** Code as it is, over as many blocks as it takes. */
export function codeBlocks(code: string): KnownBlock[] {
  const text = clean(code)
  const blocks: KnownBlock[] = []
  for (let from = 0; from < text.length;) {
    const chunk = nextChunk(text, from)
    from += chunk.length
    const shown = chunk.replace(/\n$/, "")
    if (shown === "") continue
    blocks.push({
      type: "rich_text",
      elements: [{ type: "rich_text_preformatted", elements: [{ type: "text", text: shown }] }],
    })
  }
  return blocks
}

function nextChunk(text: string, from: number): string {
  if (text.length - from <= richText) return text.slice(from)
  const lineEnd = text.lastIndexOf("\n", from + richText - 1)
  if (lineEnd > from) return text.slice(from, lineEnd + 1)
  const last = text.charCodeAt(from + richText - 1)
  return text.slice(from, from + richText - (last >= 0xd800 && last <= 0xdbff ? 1 : 0))
}

function listLines(part: Extract<Part, { kind: "list" }>): Line[] {
  const more: Line[] = part.hidden === 0 ? [] : [[`… and ${number(part.hidden)} more`]]
  return [...(part.heading === null ? [] : [part.heading]), ...part.lines, ...more]
}

function restLines(part: Extract<Part, { kind: "code" }>): Line[] {
  if (part.left === 0) return []
  const where = part.rest === null ? "" : `; all of them: ${part.rest}`
  return [[`${number(part.left)} characters of statements left out here${where}`]]
}

function spanText(span: Span): string {
  if (typeof span === "string") return escapeText(keepEnds(span))
  if ("bold" in span) return escapeText(keepEnds(span.bold))
  if ("code" in span) return escapeText(keepEnds(span.code))
  if ("user" in span) return `<@${span.user}>`
  if ("group" in span) return `<!subteam^${span.group}>`
  return isLink(span.link)
    ? `<${span.link.replaceAll("&", "&amp;")}|${escapeText(oneLine(span.label)).replaceAll("|", "/")}>`
    : escapeText(oneLine(span.label))
}

function spanElement(span: Span): RichTextElement {
  if (typeof span === "string") return { type: "text", text: keepEnds(span) }
  if ("bold" in span) return { type: "text", text: keepEnds(span.bold), style: { bold: true } }
  if ("code" in span) return { type: "text", text: keepEnds(span.code), style: { code: true } }
  if ("user" in span) return { type: "user", user_id: span.user }
  if ("group" in span) return { type: "usergroup", usergroup_id: span.group }
  return isLink(span.link)
    ? { type: "link", url: span.link, text: nonEmpty(oneLine(span.label)) }
    : { type: "text", text: oneLine(span.label) }
}

/** Neighbours of the same style become one element: fewer characters, and a sentence stays in one piece. */
function append(elements: RichTextElement[], next: RichTextElement): void {
  if (next.type === "text" && next.text === "") return
  const last = elements.at(-1)
  if (last?.type === "text" && next.type === "text" && sameStyle(last, next)) last.text += next.text
  else elements.push(next)
}

function sameStyle(one: RichTextText, other: RichTextText): boolean {
  return one.style?.bold === other.style?.bold && one.style?.code === other.style?.code
}

/** The line as it will be shown: what is cut afterwards is cut where a reader would count. */
export function settled(line: Line): Line {
  return line.map((span) => {
    if (typeof span === "string") return keepEnds(span)
    if ("bold" in span) return { bold: keepEnds(span.bold) }
    return "code" in span ? { code: keepEnds(span.code) } : span
  })
}

/** On one line, but a space at either end stays: it parts the text from a mention. */
function keepEnds(text: string): string {
  const body = oneLine(text)
  if (body === "") return text === "" ? "" : " "
  return `${/^\s+/.exec(text)?.[0].replace(/\s/g, " ") ?? ""}${body}${/\s$/.test(text) ? " " : ""}`
}

/** Links are ours (Slack's own permalinks), but they come out of the database: only plain https is one. */
function isLink(url: string): boolean {
  return url.length <= 2000 && /^https?:\/\/[^\s<>|"]+$/.test(url)
}

function cutMrkdwn(text: string): string {
  // A cut inside an entity or a mention would show its pieces: what is too long here goes without markup.
  return text.length <= limits.section ? nonEmpty(text) : cut(text.replace(/<[^>]*>/g, ""), limits.section)
}

function nonEmpty(text: string): string {
  return text === "" ? "–" : text
}
