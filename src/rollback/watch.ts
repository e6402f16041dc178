import type { SeenBefore, StepResult, WatchSeen } from "./facts.ts"

/** What a probe is measured against: itself before the run, or, when it was broken then, right after it. */
export type Measure = { heldBefore: boolean | null; ms: number | null }

export function measureOf(before: SeenBefore | undefined, after: StepResult | null): Measure {
  if (before?.holds === true) return { heldBefore: true, ms: before.ms }
  return { heldBefore: before?.holds ?? null, ms: after?.outcome === "succeeded" ? after.ms : null }
}

/** Below this, twice as long is noise and no degradation. */
const noiseMs = 100

export type Verdict = "well" | "failing" | "slow" | "recovered"

/** Adds one probe to what was seen, and says what to make of it. `failing` and `slow` are said once, at the limit. */
export function judgeProbe(
  known: WatchSeen | undefined,
  probe: { held: boolean; ms: number; note: string },
  measure: Measure,
  rules: { failures: number; slowerThan: number | null },
): { seen: WatchSeen; verdict: Verdict } {
  const limitMs =
    rules.slowerThan === null || measure.ms === null ? null : Math.max(measure.ms * rules.slowerThan, noiseMs)
  const slow = probe.held && limitMs !== null && probe.ms > limitMs
  const before = known ?? {
    failed: 0,
    slow: 0,
    failures: 0,
    slowAnswers: 0,
    probes: 0,
    worstMs: 0,
    alarm: null,
    last: "",
  }
  const seen: WatchSeen = {
    failed: probe.held ? 0 : before.failed + 1,
    slow: slow ? before.slow + 1 : 0,
    failures: before.failures + (probe.held ? 0 : 1),
    slowAnswers: before.slowAnswers + (slow ? 1 : 0),
    probes: before.probes + 1,
    worstMs: Math.max(before.worstMs, probe.ms),
    alarm: before.alarm,
    last: probe.note,
  }
  if (seen.failed >= rules.failures && before.alarm !== "failing")
    return { seen: { ...seen, alarm: "failing" }, verdict: "failing" }
  if (seen.slow >= rules.failures && before.alarm === null) return { seen: { ...seen, alarm: "slow" }, verdict: "slow" }
  if (before.alarm !== null && probe.held && !slow) return { seen: { ...seen, alarm: null }, verdict: "recovered" }
  return { seen, verdict: "well" }
}

/** The watch in one line, for the thread and the analysis. */
export function describeWatch(
  titles: ReadonlyMap<string, string>,
  seen: Readonly<Record<string, WatchSeen>>,
  measures: ReadonlyMap<string, Measure>,
): string {
  const lines = Object.entries(seen).map(([id, item]) => {
    const title = titles.get(id) ?? id
    if (item.failures === 0 && item.slowAnswers === 0) {
      const recovered = measures.get(id)?.heldBefore === false ? ", was broken before the rollback and works now" : ""
      return `${title}: ${item.probes} of ${item.probes} well, ${item.worstMs} ms at the most${recovered}`
    }
    const before = { true: " (worked before the rollback)", false: " (was broken before the rollback too)", null: "" }
    const broken = item.failures > 0 ? before[`${measures.get(id)?.heldBefore ?? null}`] : ""
    return `${title}: ${item.failures} of ${item.probes} failed, ${item.slowAnswers} slow${broken}, last: ${item.last}`
  })
  return lines.length === 0 ? "nothing was probed" : lines.join("; ")
}

/** What people were called for and has not recovered. */
export function watchIssues(titles: ReadonlyMap<string, string>, seen: Readonly<Record<string, WatchSeen>>): string[] {
  return Object.entries(seen).flatMap(([id, { alarm }]) => {
    if (alarm === null) return []
    const how = alarm === "slow" ? "slower than before" : "failing after the rollback"
    return [`${titles.get(id) ?? id}: ${how}, until the end of the watch`]
  })
}
