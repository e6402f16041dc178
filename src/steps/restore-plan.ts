import type { Change } from "../rollback/facts.ts"
import { keyId } from "./baseline.ts"
import type { Key, Row } from "./restore-rows.ts"
import { hidden, shorten } from "./shown.ts"

/** A row that goes back: `now` is null when it is to be inserted, `base` when it is to be removed. */
export type Going = { id: string; key: Key; base: Row | null; now: Row | null }

export type Judged = {
  going: Going[]
  /** Keys that the bad version changed and that have changed again since. */
  conflicts: Key[]
}

export type Comparison = {
  base: readonly Row[]
  now: readonly Row[]
  /** Null: two-way. */
  after: readonly Row[] | null
  keys: readonly string[] | null
  /** Keys of other steps, by `keyId`. */
  left: ReadonlySet<string>
}

/** What goes back. Three-way: only what differs between baseline and `after`, and is still as `after` has it. */
export function judge(comparison: Comparison): Judged {
  const { keys, left } = comparison
  const [base, now, after] = [comparison.base, comparison.now, comparison.after].map((rows) => byKey(rows ?? []))
  const judged: Judged = { going: [], conflicts: [] }
  const ids = new Set([...(base?.keys() ?? []), ...(now?.keys() ?? []), ...(after?.keys() ?? [])])
  for (const id of [...ids].sort()) {
    const [then, current, arrived] = [base?.get(id) ?? null, now?.get(id) ?? null, after?.get(id) ?? null]
    const key = (then ?? current ?? arrived)?.key ?? []
    if (left.has(id) || (keys !== null && !keys.includes(key.join("/"))) || same(then, current)) continue
    if (comparison.after === null) judged.going.push({ id, key, base: then, now: current })
    else if (same(then, arrived)) continue
    else if (same(current, arrived)) judged.going.push({ id, key, base: then, now: current })
    else judged.conflicts.push(key)
  }
  return judged
}

function byKey(rows: readonly Row[]): Map<string, Row> {
  // Rows without a key are not one another.
  return new Map(rows.map((row) => [keyId(isKeyless(row) ? [...row.key, row.row] : row.key), row]))
}

export function isKeyless({ key }: { key: Key }): boolean {
  return key.includes(null)
}

function same(one: Row | null, other: Row | null): boolean {
  return one === null || other === null ? one === other : one.compared === other.compared
}

export type Showing = {
  table: string
  key: readonly string[]
  /** Columns that are compared; `Row.shown` has their values, in order. */
  compared: readonly string[]
  redact: readonly string[]
  clean: (text: string) => string
}

/** `scoring_config.results_version`; a key that nobody may see is not said. */
export function labelOf(key: Key, { table, key: names, redact }: Pick<Showing, "table" | "key" | "redact">): string {
  const shown = key.map((value, index) => {
    if (redact.includes(names[index] ?? "")) return hidden
    return value === null ? "(null)" : shorten(value, 80)
  })
  return `${table}.${shown.join("/")}`
}

/** Now → then, a line for each column that differs; one line for a row that comes or goes. */
export function changesOf({ key, base, now }: Going, showing: Showing): Change[] {
  const row = labelOf(key, showing)
  if (base === null || now === null) {
    const whole = (seen: Row | null) => (seen === null ? null : wholeRow(seen, showing))
    return [{ row, column: "", before: whole(now) ?? "(nothing)", after: whole(base), afterKnown: true }]
  }
  return showing.compared.flatMap((column, index): Change[] => {
    const [before, after] = [now.shown[index], base.shown[index]]
    return before === after
      ? []
      : [
          {
            row,
            column,
            before: valueOf(before, column, showing),
            after: valueOf(after, column, showing),
            afterKnown: true,
          },
        ]
  })
}

function valueOf(value: string | null | undefined, column: string, { redact, clean }: Showing): string {
  return redact.includes(column) ? hidden : shorten(clean(value ?? "null"))
}

function wholeRow(row: Row, showing: Showing): string {
  const values = showing.compared.map((column, index) => `${column} ${valueOf(row.shown[index], column, showing)}`)
  return shorten(values.join(", ") || "a row")
}
