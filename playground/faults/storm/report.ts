import type { Report } from "./storm.ts"

/** The share of all that took no longer; null of none. */
export function quantile(all: readonly number[], share: number): number | null {
  const sorted = [...all].sort((a, b) => a - b)
  return sorted[Math.min(Math.ceil(share * sorted.length) - 1, sorted.length - 1)] ?? null
}

/** Takeovers after a kill: no longer than this in 99 of 100. */
export const takeoverP99Ms = 10_000

/** Everything that must not be, in a line each. */
export function wrongs(report: Report): string[] {
  const p99 = quantile(report.takeovers, 0.99)
  return [
    ...report.count.violations.map(({ kind, what, said }) => `${what} ${kind}: ${said}`),
    ...report.stuck.map((said) => `stuck: ${said}`),
    ...report.crashes.map((said) => `crashed: ${said}`),
    ...(p99 !== null && p99 > takeoverP99Ms ? [`takeovers: p99 ${seconds(p99)}`] : []),
  ]
}

/** For the end of a storm, on a terminal. */
export function describe(report: Report): string {
  const { count } = report
  const violations = (what: string, kind: string) =>
    String(count.violations.filter((each) => each.what === what && each.kind === kind).length)
  const rows: [string, string][] = [
    ...table(report.thrown),
    ["", ""],
    ...table(report.deeds).map(([name, n]): [string, string] => [`people: ${name}`, n]),
    ...table(count.rollbacks),
    ["", ""],
    ["effects", String(count.effects)],
    ["effects lost", violations("effect", "lost")],
    ["effects doubled", violations("effect", "doubled")],
    ["replies", String(count.replies)],
    ["replies lost", violations("reply", "lost")],
    ["replies doubled", violations("reply", "doubled")],
    ["replies out of order", violations("reply", "out of order")],
    ["runs stuck over 60 s", String(report.stuck.length)],
    ["processes that ended by themselves", String(report.crashes.length)],
    [
      "takeover after a kill, p50 / p99 / longest",
      [quantile(report.takeovers, 0.5), quantile(report.takeovers, 0.99), quantile(report.takeovers, 1)]
        .map(seconds)
        .join(" / "),
    ],
    ["takeovers measured", String(report.takeovers.length)],
    ["the longest that a message waited", seconds(report.oldestUnsentMs)],
  ]
  const wide = Math.max(...rows.map(([name]) => name.length))
  return rows.map(([name, value]) => (name === "" ? "" : `${name.padEnd(wide)}  ${value}`)).join("\n")
}

function table(counts: Record<string, number>): [string, string][] {
  return Object.entries(counts)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, n]) => [name, String(n)])
}

function seconds(ms: number | null): string {
  return ms === null ? "–" : `${(ms / 1000).toFixed(1)} s`
}
