import type { Change, ChildRows, RehearsedStep, StepResult, StepView } from "../../rollback/facts.ts"
import { clean, cut } from "./escape.ts"
import { number, plural } from "./format.ts"
import type { Line } from "./parts.ts"

/** A value longer than this is shown around the place where it changes. */
const shownValue = 90
const aroundDifference = 30

/** `"v1.2.1" → "v1.2.0"` */
export function beforeAfter(change: Pick<Change, "before" | "after" | "afterKnown">): string {
  const before = shortCommit(clean(change.before))
  const after = change.after === null ? null : shortCommit(clean(change.after))
  const { afterKnown } = change
  if (!afterKnown) return `${cut(before, shownValue)} → known when it has run`
  const then = after ?? "(nothing)"
  if (before.length <= shownValue && then.length <= shownValue) return `${before} → ${then}`
  const same = commonStart(before, then)
  return `${windowOf(before, same)} → ${windowOf(then, same)}`
}

/** A commit is known by its first characters; Details has it whole. */
function shortCommit(value: string): string {
  return /^[0-9a-f]{40,64}$/.test(value) ? value.slice(0, 7) : value
}

/** `scoring_config.results_version.value "v1.2.1" → "v1.2.0"`; a row that is called like its step is not said again. */
export function changeText(change: Change, title: string | null = null): string {
  const row = change.row === title ? "" : change.row
  const name = [row, change.column]
    .map((word) => cut(word, 80))
    .filter((word) => word !== "")
    .join(".")
  return `${name} ${beforeAfter(change)}`.trim()
}

/** "deployed c79f812 → 5cbc3e8", "deployed still c79f812": which version of a function runs after its step; null for other steps. */
export function deployedText({ changes }: Pick<StepResult, "changes">): string | null {
  const seen = changes.find(({ column }) => column === "deployed")
  if (seen === undefined) return null
  return seen.before === seen.after
    ? `deployed still ${cut(shortCommit(clean(seen.before)), shownValue)}`
    : `deployed ${beforeAfter(seen)}`
}

/** "37 of 12,480 rows archived and removed (+ 74 in answers, by cascade)" */
export function countText(step: StepView, seen: RehearsedStep): string | null {
  // What an undo gives back is told table by table in its note.
  if (seen.rows === null || (step.kind === "undo" && seen.note !== null)) return null
  const rows = seen.total === null ? plural(seen.rows, "row") : `${number(seen.rows)} of ${plural(seen.total, "row")}`
  if (seen.rows === 0) return seen.total === null ? "no row matches" : `no row of ${number(seen.total)} matches`
  const verb = step.kind === "purge" ? " archived and removed" : ""
  const children = seen.children.filter((child) => child.rows > 0).map(childText)
  const shown = children.slice(0, 5)
  const more = children.length > shown.length ? `, and ${number(children.length - shown.length)} more tables` : ""
  const along = shown.length === 0 ? "" : ` (${shown.join(", ")}${more})`
  return `${rows}${verb}${along}${changedText(seen)}`
}

function changedText({ rows, changed }: RehearsedStep): string {
  if (changed === 0) return `, ${rows === 1 ? "" : "all of them "}so already: nothing to change`
  return changed === null || changed === rows ? "" : `, ${number(changed)} of them would change`
}

function childText({ table, rows, action }: ChildRows): string {
  if (action === "cascade") return `+ ${number(rows)} in ${table}, by cascade`
  return `${number(rows)} in ${table} ${action === "set null" ? "lose the reference" : "get the default reference"}`
}

/** How a step acts, where there are no rows to count. */
export function actionText(step: StepView): string {
  switch (step.kind) {
    case "http":
      return "sends a request"
    case "command":
      return "runs a command"
    case "workflow":
      return "starts a workflow and waits for it"
    case "manual":
      return "asks a person to do it"
    case "sql":
    case "restore":
    case "purge":
    case "check":
    case "undo":
      return "rows not known"
  }
}

/** One effectful step as lines of the card: its facts on the first, several changes below it. */
export function stepLines(step: StepView, seen: RehearsedStep | null): Line[] {
  const title: Line = [{ bold: cut(step.title, 120) }]
  if (seen === null) return [[...title, `: ${actionText(step)}, not looked at`]]
  if (seen.outcome === "unknown") {
    const what = seen.refused === true ? "would be refused as things stand" : "unknown, it could not be looked at"
    return [[...title, `: ${what}${seen.note === null ? "" : `: ${seen.note}`}`]]
  }
  const count = countText(step, seen) ?? (seen.changed === 0 ? "so already: nothing to change" : null)
  const note = seen.note === null ? null : cut(seen.note, 200)
  const [only] = seen.changes
  const single = only !== undefined && seen.changes.length === 1
  const change = single && seen.changed !== 0 ? changeText(only, step.title) : null
  const facts = [count, change, note].filter((text) => text !== null)
  const several = single ? [] : seen.changes.map((each): Line => ["• ", changeText(each, step.title)])
  return [[...title, `: ${facts.length === 0 ? actionText(step) : facts.join(" · ")}`], ...several]
}

function commonStart(one: string, other: string): number {
  let same = 0
  while (same < one.length && same < other.length && one[same] === other[same]) same++
  return same
}

/** The part of a long value where it differs: two values that look alike when cut would hide what is approved. */
function windowOf(value: string, same: number): string {
  const from = value.length <= shownValue ? 0 : Math.max(0, same - aroundDifference)
  const to = from + shownValue
  return `${from > 0 ? "…" : ""}${value.slice(from, to)}${to < value.length ? `… [${number(value.length)} characters]` : ""}`
}
