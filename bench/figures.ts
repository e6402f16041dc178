/** One line of a benchmark's table. `required` is in the unit of `value`. */
export type Line = {
  what: string
  ours: string
  plain: string
  required: string
  holds: boolean | null
}

export type Table = { title: string; plainName: string; lines: Line[]; notes: string[] }

/** Nearest-rank: a value that was really measured. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  const rank = Math.max(0, Math.ceil(share * sorted.length) - 1)
  return sorted[rank] ?? Number.NaN
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = (sorted.length - 1) / 2
  const [low, high] = [sorted[Math.floor(middle)], sorted[Math.ceil(middle)]]
  return low === undefined || high === undefined ? Number.NaN : (low + high) / 2
}

export function ms(value: number): string {
  return `${value.toFixed(value < 100 ? 1 : 0)} ms`
}

/** `1.23 ms (p99 4.56 ms)`. */
export function spread(values: readonly number[]): string {
  return `${ms(median(values))} (p99 ${ms(quantile(values, 0.99))})`
}

export function drawTable(table: Table): string {
  const head = ["", "Stepback", table.plainName, "required", ""]
  const rows = table.lines.map((line) => [
    line.what,
    line.ours,
    line.plain,
    line.required,
    line.holds === null ? "" : line.holds ? "✓" : "✗",
  ])
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)))
  const draw = (cells: string[]) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd()
  const rule = widths.map((width) => "─".repeat(width)).join("  ")
  return [table.title, "", draw(head), rule, ...rows.map(draw), ...table.notes.map((note) => `  ${note}`), ""].join(
    "\n",
  )
}
