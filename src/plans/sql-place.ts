import { isScalar, Scalar } from "yaml"
import { findNode, findPlace, locate } from "./yaml-source.ts"
import type { Path, YamlSource } from "./yaml-source.ts"

/** The place in the file of a character of the SQL at a path; where the YAML rewrites its text, the place of the whole. */
export function locateInText(yaml: YamlSource, path: Path, position: number | null): { line: number; column: number } {
  const node = findNode(yaml, path)
  const offset = position === null || !isScalar(node) ? null : findOffset(yaml.source, node, position)
  return offset === null ? locate(yaml, path) : findPlace(yaml.lines, offset)
}

function findOffset(source: string, node: Scalar, position: number): number | null {
  const [start, end] = node.range ?? [0, 0]
  const text = String(node.value)
  const written = source.slice(start, end)
  if (node.type === Scalar.BLOCK_LITERAL) return findBlockOffset(written, text, position, start)
  const quote = node.type === Scalar.QUOTE_DOUBLE || node.type === Scalar.QUOTE_SINGLE ? 1 : 0
  const inner = written.slice(quote, written.length - quote)
  return inner === text ? start + quote + position : null
}

/** `|` keeps lines as they are but for the indent in front of each. */
function findBlockOffset(written: string, text: string, position: number, start: number): number | null {
  const before = text.slice(0, position).split("\n")
  const lines = written.split("\n")
  const wanted = text.split("\n")[before.length - 1] ?? ""
  const line = lines[before.length] ?? ""
  if (!line.endsWith(wanted)) return null
  const lineStart = lines.slice(0, before.length).join("\n").length + 1
  return start + lineStart + (line.length - wanted.length) + (before.at(-1)?.length ?? 0)
}

/** Whether the file goes on with a comment after a plain scalar: `select a #>> '{}'` loses its end that way. */
export function hasSwallowedComment(yaml: YamlSource, path: Path): boolean {
  const node = findNode(yaml, path)
  if (!isScalar(node) || node.type !== Scalar.PLAIN || !node.range) return false
  const rest = yaml.source.slice(node.range[1]).split("\n", 1)[0] ?? ""
  return /^\s+#/.test(rest)
}
