import type { Failure } from "../../rollback/facts.ts"
import { cut } from "./escape.ts"
import { number } from "./format.ts"
import { code, type Line, type Part } from "./parts.ts"

/** "SQLSTATE 42P01: relation … does not exist", with detail and hint. `code: true` when the statement is shown below. */
export function failureLines(failure: Failure, shown: { code: boolean }): Line[] {
  const where = shown.code ? placeText(failure) : null
  return [
    [{ bold: codeText(failure.code) }, `: ${cut(failure.message, 600)}`],
    ...(failure.detail === null ? [] : [["Detail: ", failure.detail]]),
    ...(failure.hint === null ? [] : [["Hint: ", failure.hint]]),
    ...(where === null ? [] : [[where]]),
  ]
}

/** The statement that failed, with a caret below the place where it is short enough for one. */
export function failureStatement({ statement, position }: Failure): Part[] {
  if (statement === null || statement.trim() === "") return []
  const caret = position !== null && position <= 100 && !statement.includes("\n") && statement.length <= 160
  const text = caret ? `${statement}\n${" ".repeat(Math.max(0, position - 1))}^` : cut(statement, 2_500)
  return [code(null, text, { pasted: false, rest: null })]
}

/** What a code means, for people who do not know ours. */
export function codeText(text: string): string {
  if (/^(?=.*\d)[0-9A-Z]{5}$/.test(text)) return `SQLSTATE ${text}`
  const http = /^http_(\d{3})$/.exec(text)
  if (http !== null) return `HTTP ${http[1]}`
  const exit = /^exit_(-?\d+)$/.exec(text)
  if (exit !== null) return `Exit code ${exit[1]}`
  if (text === "timeout") return "Took too long"
  if (text === "expectation") return "Not as expected"
  const words = text.replaceAll("_", " ").trim()
  return words === "" ? "Failed" : `${words.slice(0, 1).toUpperCase()}${words.slice(1)}`
}

function placeText({ statement, position }: Failure): string | null {
  if (statement === null || position === null) return null
  const before = statement.slice(0, Math.max(0, position - 1)).split("\n")
  const line = before.length
  const at = `at character ${number(position)}`
  return line === 1 && !statement.includes("\n")
    ? at
    : `${at} (line ${line}, column ${(before.at(-1)?.length ?? 0) + 1})`
}
