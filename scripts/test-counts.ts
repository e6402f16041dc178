/** The part of Vitest's JSON report that is read here. */
export type VitestReport = {
  testResults: { status: string; assertionResults: { status: string }[] }[]
}

export type Counts = { passed: number; failed: number; skipped: number }

/**
 * Counts tests. A file that could not be loaded, or whose hooks failed, has no failed test in the report and still is a
 * failure; so is an end of Vitest that no test explains (an unhandled rejection, a crash, a missing report).
 */
export function countTests(report: VitestReport | null, exitCode: number | null): Counts {
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 }
  for (const file of report?.testResults ?? []) {
    const statuses = file.assertionResults.map((test) => test.status)
    const failed = statuses.filter((status) => status === "failed").length
    const passed = statuses.filter((status) => status === "passed").length
    counts.passed += passed
    counts.skipped += statuses.length - passed - failed
    counts.failed += failed === 0 && file.status === "failed" ? 1 : failed
  }
  const explained = report !== null && (exitCode === 0 || counts.failed > 0)
  if (!explained) counts.failed += 1
  return counts
}

/** The last line of `npm test`; other programs read it. */
export function describeCounts({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`
}
