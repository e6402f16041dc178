import type { KnownBlock } from "@slack/types"

import { cut, cutShort, cutStatements, oneLine } from "./escape.ts"
import type { Line, Part } from "./parts.ts"
import { blocksOf, limits, lineLength, settled, textOf } from "./render.ts"

export type Drawn = { text: string; blocks: KnownBlock[] }

/** Slack refuses a message whose blocks together are longer than about 13,000 characters (`msg_blocks_too_long`). */
const blocksBudget = 12_800
/** `chat.update` refuses a longer `text`. */
const textBudget = 3_900
/** No list of a card is worth reading beyond this. */
const mostLines = 60
const longestLine = 700
const shortestLine = 40

/** Draws parts as one message that Slack accepts, however long its facts are. */
export function draw(parts: Part[]): Drawn {
  const bounded = parts.map(bound)
  const blocks = fit(bounded, blocksBudget, (part) => JSON.stringify(blocksOf(part)).length).flatMap(blocksOf)
  const text = fit(bounded, textBudget, (part) => textOf(part).length + 1)
    .map(textOf)
    .filter((part) => part !== "")
    .join("\n")
  return { text, blocks: blocks.slice(0, limits.blocks) }
}

/** Shortens the longest part again and again until all of them fit: what is short is never cut for what is long. */
function fit(parts: Part[], budget: number, measure: (part: Part) => number): Part[] {
  const fitted = [...parts]
  const sizes = fitted.map(measure)
  const stuck = new Set<number>()
  while (sizes.reduce((sum, size) => sum + size, 0) > budget) {
    const longest = sizes.reduce(
      (best, size, index) => (!stuck.has(index) && size > (sizes[best] ?? 0) ? index : best),
      -1,
    )
    const part = fitted[longest]
    if (part === undefined) break
    const shorter = shorten(part)
    if (shorter === null) stuck.add(longest)
    else {
      fitted[longest] = shorter
      sizes[longest] = measure(shorter)
    }
  }
  return fitted
}

/** The first cut, which keeps the work small before anything is measured. */
function bound(part: Part): Part {
  switch (part.kind) {
    case "headline":
      return { ...part, title: cutShort(oneLine(part.title), limits.header), facts: cutLine(part.facts, longestLine) }
    case "list": {
      const lines = firstLines(part.lines)
      const heading = part.heading === null ? null : cutLine(part.heading, longestLine)
      return { ...part, heading, lines, hidden: part.hidden + part.lines.length - lines.length }
    }
    case "code": {
      const rest = part.rest === null ? null : cutShort(oneLine(part.rest), 120)
      return part.code.length > blocksBudget ? cutCode({ ...part, rest }, blocksBudget) : { ...part, rest }
    }
    case "call":
    case "footer":
      return { ...part, line: cutLine(part.line, longestLine) }
    case "buttons":
      return part
  }
}

/** Lines from the start, up to what a whole message could hold. */
function firstLines(lines: Line[]): Line[] {
  const kept: Line[] = []
  let room = blocksBudget
  for (const line of lines.slice(0, mostLines)) {
    const shown = cutLine(line, longestLine)
    room -= lineLength(shown)
    if (room < 0 && kept.length > 0) break
    kept.push(shown)
  }
  return kept
}

function shorten(part: Part): Part | null {
  switch (part.kind) {
    case "headline":
      return shorterLine(part.facts, (facts) => ({ ...part, facts }))
    case "list":
      return shortenList(part)
    case "code":
      return part.code === "" ? null : cutCode(part, Math.floor(part.code.length * 0.8))
    case "call":
    case "footer":
      return shorterLine(part.line, (line) => ({ ...part, line }))
    case "buttons":
      return null
  }
}

function shortenList(part: Extract<Part, { kind: "list" }>): Part | null {
  const [only] = part.lines
  if (part.lines.length > 1) {
    const dropped = Math.max(1, Math.floor(part.lines.length / 8))
    return { ...part, lines: part.lines.slice(0, -dropped), hidden: part.hidden + dropped }
  }
  const shorter = only === undefined ? null : shorterLine(only, (line) => ({ ...part, lines: [line] }))
  return shorter ?? (part.heading === null ? null : shorterLine(part.heading, (heading) => ({ ...part, heading })))
}

function shorterLine(line: Line, into: (line: Line) => Part): Part | null {
  const length = lineLength(line)
  const shorter = cutLine(line, Math.max(shortestLine, Math.floor(length * 0.7)))
  return lineLength(shorter) < length ? into(shorter) : null
}

function cutCode(part: Extract<Part, { kind: "code" }>, limit: number): Part {
  if (!part.pasted) return { ...part, code: limit < shortestLine ? "" : cut(part.code, limit) }
  const { kept, cut: left } = cutStatements(part.code, limit)
  return { ...part, code: kept, left: part.left + left }
}

/** Whole spans go before a span is cut: a mention is kept or left out, never broken. */
function cutLine(line: Line, limit: number): Line {
  const shown = settled(line)
  if (lineLength(shown) <= limit) return shown
  const kept: Line = []
  let room = limit
  for (const span of shown) {
    const length = lineLength([span])
    if (length > room && typeof span === "string") kept.push(cut(span, Math.max(room, 30)))
    else if (length > room && typeof span === "object" && "bold" in span)
      kept.push({ bold: cut(span.bold, Math.max(room, 30)) })
    else if (length > room && typeof span === "object" && "code" in span)
      kept.push({ code: cut(span.code, Math.max(room, 30)) })
    else if (length <= room) kept.push(span)
    room -= length
    if (room <= 0) break
  }
  return kept
}
