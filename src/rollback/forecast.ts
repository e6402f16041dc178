/** How long so many runs took; nine of ten no longer than `p90Ms`. */
type RunTimes = { runs: number; medianMs: number; p90Ms: number }

/** Run time of earlier rollbacks with the same components, and of each component in whichever rollback it ran. */
export type Forecast = RunTimes & {
  fastestMs: number
  slowestMs: number
  components: ({ id: string } & RunTimes)[]
}

/** How long it will probably take, from how long it took, in ms; null when it never ran. */
export function forecastOf(
  totals: readonly number[],
  components: ReadonlyMap<string, readonly number[]>,
): Forecast | null {
  const whole = runTimesOf(totals)
  const parts = [...components].flatMap(([id, times]) => {
    const known = runTimesOf(times)
    return known === null ? [] : [{ id, ...known }]
  })
  // Parts that have run, and never together, are known all the same.
  if (whole === null)
    return parts.length === 0 ? null : { runs: 0, medianMs: 0, p90Ms: 0, fastestMs: 0, slowestMs: 0, components: parts }
  return { ...whole, fastestMs: Math.min(...totals), slowestMs: Math.max(...totals), components: parts }
}

function runTimesOf(times: readonly number[]): RunTimes | null {
  const sorted = times.toSorted((a, b) => a - b)
  // The nearest rank: a time that one of the runs really took.
  const rank = (share: number) => sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)]
  const [medianMs, p90Ms] = [rank(0.5), rank(0.9)]
  return medianMs === undefined || p90Ms === undefined ? null : { runs: sorted.length, medianMs, p90Ms }
}
