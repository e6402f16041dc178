import { describe, expect, test } from "vitest"
import type { RehearsedStep, StepResult, WatchSeen } from "../../../src/rollback/facts.ts"
import {
  describeWatch,
  judgeProbe,
  measureOf,
  watchIssues,
  type Measure,
  type Verdict,
} from "../../../src/rollback/watch.ts"

const rules = { failures: 2, slowerThan: 2 }
const worked: Measure = { heldBefore: true, ms: 200 }
const broken: Measure = { heldBefore: false, ms: 150 }

/** Probes one after the other: `-` does not hold, a number holds after so many ms. */
function watch(measure: Measure, probes: (number | "-")[]): { verdicts: Verdict[]; seen: WatchSeen } {
  let seen: WatchSeen | undefined
  const verdicts = probes.map((probe) => {
    const held = probe !== "-"
    const judged = judgeProbe(seen, { held, ms: held ? probe : 1, note: held ? "200" : "500" }, measure, rules)
    seen = judged.seen
    return judged.verdict
  })
  return { verdicts, seen: seen as WatchSeen }
}

describe("a probe", () => {
  test.each<[string, Measure, (number | "-")[], Verdict[]]>([
    ["once is chance, twice is said, and said once", worked, ["-", "-", "-"], ["well", "failing", "well"]],
    ["that comes back is a recovery", worked, ["-", "-", 200], ["well", "failing", "recovered"]],
    ["slower than twice what it took before is said", worked, [401, 401, 100], ["well", "slow", "recovered"]],
    ["slow and then failing is worse, and said too", worked, [500, 500, "-", "-"], ["well", "slow", "well", "failing"]],
    ["slow, but in the noise, is nothing", { heldBefore: true, ms: 20 }, [99, 99, 99], ["well", "well", "well"]],
    ["with nothing to compare with is never slow", { heldBefore: null, ms: null }, [9e6, 9e6], ["well", "well"]],
    [
      "that still fails after the recovery of a slow one is said anew",
      worked,
      [500, 500, 1, "-", "-"],
      ["well", "slow", "recovered", "well", "failing"],
    ],
  ])("%s", (_what, measure, probes, verdicts) => {
    expect(watch(measure, probes).verdicts).toEqual(verdicts)
  })
})

test("what was broken before is measured against its first good answer", () => {
  const before = (holds: boolean | null, ms: number) => ({ holds, ms }) as RehearsedStep
  const after = (outcome: string, ms: number) => ({ outcome, ms }) as StepResult
  expect(measureOf(before(true, 80), after("succeeded", 300))).toEqual({ heldBefore: true, ms: 80 })
  expect(measureOf(before(false, 80), after("succeeded", 300))).toEqual({ heldBefore: false, ms: 300 })
  expect(measureOf(before(false, 80), after("failed", 300))).toEqual({ heldBefore: false, ms: null })
  expect(measureOf(undefined, null)).toEqual({ heldBefore: null, ms: null })
})

test("the end tells apart what recovered, what got worse and what was broken already", () => {
  const seen = {
    a: watch(worked, [90, 110]).seen,
    b: watch(broken, [90, 110]).seen,
    c: watch(broken, ["-", 90]).seen,
    d: watch(worked, ["-", "-"]).seen,
  }
  const titles = new Map(Object.keys(seen).map((id) => [id, id.toUpperCase()]))
  const measures = new Map([
    ["a", worked],
    ["b", broken],
    ["c", broken],
    ["d", worked],
  ])
  expect(describeWatch(titles, seen, measures).split("; ")).toEqual([
    "A: 2 of 2 well, 110 ms at the most",
    "B: 2 of 2 well, 110 ms at the most, was broken before the rollback and works now",
    "C: 1 of 2 failed, 0 slow (was broken before the rollback too), last: 200",
    "D: 2 of 2 failed, 0 slow (worked before the rollback), last: 500",
  ])
  expect(describeWatch(titles, {}, measures)).toBe("nothing was probed")
  const slow = watch(worked, [500, 500]).seen
  expect(watchIssues(titles, { ...seen, a: slow, b: watch(worked, ["-", "-", 200]).seen })).toEqual([
    "A: slower than before, until the end of the watch",
    "D: failing after the rollback, until the end of the watch",
  ])
})
