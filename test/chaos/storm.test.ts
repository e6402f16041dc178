import { expect, it } from "vitest"
import { describe as describeReport, wrongs } from "../../playground/faults/storm/report.ts"
import { faultKinds } from "../../playground/faults/storm/schedule.ts"
import { runStorm } from "../../playground/faults/storm/storm.ts"

/** As it is printed, it plays the same faults again. The long storm is `npm run storm`. */
const seed = Number(process.env["STORM_SEED"] ?? 20_261_125)
const lastsMs = 45_000

it("a short storm loses nothing, doubles nothing and leaves nothing stuck", { timeout: 480_000 }, async () => {
  console.log(`storm of ${lastsMs / 1000} s, STORM_SEED=${seed}`)
  const report = await runStorm({ seed, lastsMs, kinds: faultKinds, tell: (line) => console.log(line) })
  for (const line of [...report.leftOut.map((why) => `left out: ${why}`), ...report.lines, describeReport(report)])
    console.log(line)
  // How long a takeover takes is for the long storm, on a machine that does nothing else.
  expect(wrongs(report).filter((wrong) => !wrong.startsWith("takeovers:"))).toEqual([])

  // A storm in which nothing happened would prove nothing.
  const leftOut = faultKinds.filter((kind) => report.leftOut.some((why) => why.includes(kind)))
  const wanted = faultKinds.filter((kind) => !leftOut.includes(kind))
  const names = Object.keys(report.thrown)
  expect(wanted.filter((kind) => !names.some((name) => name.startsWith(kind)))).toEqual([])
  expect(report.takeovers.length).toBeGreaterThan(0)
  expect(report.count.rollbacks["rollback succeeded"]).toBeGreaterThan(0)
  expect(report.count.effects).toBeGreaterThan(0)
  expect(report.count.replies).toBeGreaterThan(0)
})
