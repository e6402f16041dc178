import type { BaselineAnswer, TableDifference } from "../../rollback/baseline-facts.ts"
import { changeText } from "./changes.ts"
import { draw, type Drawn } from "./fit.ts"
import { dateAndTime, duration, number, plural } from "./format.ts"
import { footer, headline, list, listOf, mention, type Line, type Part } from "./parts.ts"

type Asked = { environment: string; what: "capture" | "diff"; requester_id: string }

/** The answer to `/rollback baseline … capture` or `diff`, as one message of the channel. */
export function drawBaseline(answer: BaselineAnswer, asked: Asked): Drawn {
  return draw([
    ...partsOf(answer, asked),
    ...footer(asked.requester_id === "" ? null : ["asked by ", mention(asked.requester_id)]),
  ])
}

function partsOf(answer: BaselineAnswer, { environment, what }: Asked): Part[] {
  switch (answer.kind) {
    case "captured":
      return [
        headline(
          `${nameText(answer.name)} of ${environment} captured`,
          [dateAndTime(answer.capturedAt)],
          [`sha256 ${answer.sha256.slice(0, 16)}`],
        ),
        list(
          null,
          answer.tables.map(({ table, rows }): Line => [{ bold: table }, `: ${plural(rows, "row")}`]),
        ),
      ]
    case "compared":
      return [
        headline(
          headingOf(answer.tables, answer.name, environment),
          [`captured ${dateAndTime(answer.capturedAt)}`],
          [`sha256 ${answer.sha256.slice(0, 16)}`],
        ),
        ...answer.tables.flatMap(tableParts),
      ]
    case "failed":
      return [
        headline(
          what === "capture"
            ? `No baseline of ${environment} was captured`
            : `${environment} could not be compared with its baseline`,
        ),
        list(null, [[answer.message]]),
      ]
  }
}

function nameText(name: string): string {
  return name === "baseline" ? "Baseline" : `Snapshot "${name}"`
}

function headingOf(tables: readonly TableDifference[], name: string, environment: string): string {
  const rows = tables.reduce((sum, table) => sum + table.rows, 0)
  if (tables.some((table) => table.problem !== null))
    return `${environment} could not be compared in full with its ${name}`
  return rows === 0
    ? `${environment} is as in its ${name}`
    : `${environment} differs from its ${name} in ${plural(rows, "row")}`
}

function tableParts({ table, rows, changes, problem }: TableDifference): Part[] {
  if (problem !== null) return [list(null, [[{ bold: table }, `: ${problem}`]])]
  const heading: Line = [{ bold: table }, rows === 0 ? ": nothing differs" : `: ${plural(rows, "row")}, now → then`]
  return rows === 0
    ? [list(null, [heading])]
    : listOf(
        heading,
        changes.map((change): Line => ["• ", changeText(change)]),
      )
}

/** Which snapshots there are; ages by the database's clock. */
export function baselineList(
  environment: string,
  kept: readonly {
    name: string
    sha256: string
    capturedAt: string
    ageMs: number
    tables: { table: string; rows: number }[]
  }[],
): string {
  if (kept.length === 0)
    return `There is no baseline of ${environment} yet: \`/rollback baseline ${environment} capture\` makes one.`
  return kept
    .map(({ name, sha256, capturedAt, ageMs, tables }) => {
      const rows = tables.map((table) => `${table.table} ${number(table.rows)}`).join(", ")
      return `*${name}* of ${environment}: ${duration(ageMs)} old, captured ${dateAndTime(capturedAt)}, ${rows} rows, sha256 ${sha256.slice(0, 16)}`
    })
    .join("\n")
}
