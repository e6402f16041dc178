import { isAlias, isCollection, isMap, isPair, isScalar, isSeq, LineCounter, parseDocument, Scalar, visit } from "yaml"
import type { Document, Node, Pair } from "yaml"
import { losesDigits } from "./digits.ts"
import type { Problem } from "./plan.ts"

export type Path = readonly PropertyKey[]
export type YamlSource = {
  file: string
  source: string
  lines: LineCounter
  document: Document
  /** What the YAML says, as plain values. */
  value: unknown
}

// Far above what a plan needs, far below what an expanding bomb wants.
const MOST_ALIASES = 100

/** Reads YAML with the place of every node. What is wrong with it as YAML comes back as problems. */
export function readYaml(file: string, source: string): { yaml: YamlSource } | { problems: Problem[] } {
  const lines = new LineCounter()
  try {
    const document = parseDocument(source, { lineCounter: lines, prettyErrors: false, logLevel: "error" })
    const wrong = listYamlErrors(document).map(({ pos, code, message }) => ({
      file,
      ...findPlace(lines, pos[0]),
      message: `${describeYamlError(code, message)}${hintAt(source, pos[0])}`,
    }))
    wrong.push(
      ...findOddKeys(document).map((at) => ({ file, ...findPlace(lines, at), message: "expected a key that is text" })),
    )
    wrong.push(...findMergeKeys(document).map((at) => ({ file, ...findPlace(lines, at), message: mergeKey })))
    wrong.push(...findRounded(document).map(({ at, message }) => ({ file, ...findPlace(lines, at), message })))
    if (wrong.length > 0) return { problems: wrong }
    const value: unknown = document.toJS({ maxAliasCount: MOST_ALIASES })
    return { yaml: { file, source, lines, document, value } }
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    return { problems: [{ file, line: 1, column: 1, message: `not readable as YAML: ${message}` }] }
  }
}

/** One slip of syntax makes the parser stumble over all that follows: only the first is said. */
function listYamlErrors({ errors, warnings }: Document) {
  const said = new Set(["DUPLICATE_KEY", "TAG_RESOLVE_FAILED", "MULTIPLE_DOCS"])
  const syntax = errors.filter(({ code }) => !said.has(code)).toSorted((a, b) => a.pos[0] - b.pos[0])
  const first = syntax.find(({ code }) => code === "TAB_AS_INDENT") ?? syntax[0]
  return first ? [first] : [...errors, ...warnings]
}

/** Keys that are lists or mappings, or `__proto__`: as plain values they would be lost or become something else. */
function findOddKeys(document: Document): number[] {
  const places: number[] = []
  visit(document, {
    Pair(_, { key, value }) {
      const isText = isScalar(key) && key.value !== null && key.value !== "__proto__"
      if (!isText) places.push(startOf(key) ?? startOf(value) ?? 0)
    },
  })
  return places
}

const mergeKey =
  "a plan has no merge keys (<<), which YAML 1.2 has not either: write the keys out; an alias (*name) can stand for a whole value"

/** Taken for keys of that name they would lead to messages about something else. */
function findMergeKeys(document: Document): number[] {
  const places: number[] = []
  visit(document, {
    Pair(_, { key }) {
      if (isScalar(key) && key.value === "<<" && key.type === Scalar.PLAIN) places.push(startOf(key) ?? 0)
    },
  })
  return places
}

/** Numbers that would be read as others: nothing would be compared with, or sent as, what is written. */
function findRounded(document: Document): { at: number; message: string }[] {
  const found: { at: number; message: string }[] = []
  visit(document, {
    Scalar(_, node) {
      const { source, value } = node
      if (typeof value !== "number" || source === undefined) return
      if (!Number.isFinite(value) && !/\d/.test(source))
        return void found.push({
          at: startOf(node) ?? 0,
          message: `${source} is no number that a plan keeps: write "${value}" in quotes`,
        })
      if (!losesDigits(source, value)) return
      const message = `${source} has more digits than a number keeps (it would be ${value}): put it in quotes`
      found.push({ at: startOf(node) ?? 0, message })
    },
  })
  return found
}

function describeYamlError(code: string, message: string): string {
  if (code === "DUPLICATE_KEY") return "this key is given twice"
  if (code === "MULTIPLE_DOCS") return "a plan file is one YAML document, found a second after ---"
  if (code === "TAG_RESOLVE_FAILED") return `${message}; a plan has no YAML tags`
  return `not valid YAML: ${message}`
}

/** The braces of `${NAME}` are YAML's own inside `{ … }` and `[ … ]`; a comment ends a text that goes on below it. */
function hintAt(source: string, offset: number): string {
  const start = source.lastIndexOf("\n", offset - 1) + 1
  const line = source.slice(start).split("\n", 1)[0] ?? ""
  const above =
    source
      .slice(0, Math.max(0, start - 1))
      .split("\n")
      .at(-1) ?? ""
  if (/\S\s+#/.test(above))
    return '; the line above ends at " #", where a comment begins: put a text with # in it in quotes or under |'
  return /[^"']\$\{/.test(line) ? '; inside { } and [ ] write "${NAME}" in quotes' : ""
}

export function findPlace(lines: LineCounter, offset: number): { line: number; column: number } {
  const { line, col } = lines.linePos(offset)
  return { line: Math.max(1, line), column: Math.max(1, col) }
}

/**
 * The place of a value, of its key (`key`), or, when the path leads nowhere, of the nearest parent that is there: its
 * key if it has one, since that is what its author looks for.
 */
export function locate(
  yaml: YamlSource,
  path: Path,
  want: "key" | "value" = "value",
): { line: number; column: number } {
  let node: unknown = yaml.document.contents
  let offset = startOf(node)
  for (const [index, step] of path.entries()) {
    const container = resolve(yaml, node)
    const pair = isMap(container) ? findPair(container.items, step) : undefined
    const child: unknown = isSeq(container) ? container.items[Number(step)] : pair?.value
    if (!pair && !child) break
    const isLast = index === path.length - 1
    const hasValue = child !== null && startOf(child) !== undefined && !(isScalar(child) && child.source === "")
    const wantsKey =
      pair !== undefined && (!hasValue || (isLast ? want === "key" : isParentOfMissing(yaml, child, path, index)))
    offset = (wantsKey ? startOf(pair.key) : startOf(child)) ?? startOf(pair?.key) ?? offset
    node = child
  }
  return findPlace(yaml.lines, offset ?? 0)
}

function isParentOfMissing(yaml: YamlSource, child: unknown, path: Path, index: number): boolean {
  const container = resolve(yaml, child)
  const next = path[index + 1]
  if (next === undefined) return false
  if (isMap(container)) return !findPair(container.items, next)
  return isSeq(container) ? container.items[Number(next)] === undefined : true
}

function resolve(yaml: YamlSource, node: unknown): unknown {
  return isAlias(node) ? node.resolve(yaml.document) : node
}

function findPair(items: readonly unknown[], step: PropertyKey): Pair | undefined {
  return items.filter((item) => isPair(item)).find((pair) => keyOf(pair) === String(step))
}

function keyOf(pair: Pair): string {
  return isScalar(pair.key) ? String(pair.key.value) : String(pair.key)
}

function startOf(node: unknown): number | undefined {
  const isNode = isScalar(node) || isCollection(node) || isAlias(node)
  return isNode ? (node.range?.[0] ?? undefined) : undefined
}

/** The YAML node at a path, or null. */
export function findNode(yaml: YamlSource, path: Path): Node | null {
  let node: unknown = yaml.document.contents
  for (const step of path) {
    const container = resolve(yaml, node)
    if (isMap(container)) node = findPair(container.items, step)?.value
    else if (isSeq(container)) node = container.items[Number(step)]
    else return null
  }
  return isScalar(node) || isCollection(node) || isAlias(node) ? node : null
}
