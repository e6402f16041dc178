import { parseArgs } from "node:util"
import { describe, wrongs } from "./report.ts"
import { faultKinds, scheduleOf, type FaultKind } from "./schedule.ts"
import { runStorm } from "./storm.ts"

const usage = `npm run storm -- [--minutes 35] [--seed N] [--faults kill,cut,…] [--schedule]

Faults: ${faultKinds.join(", ")}. --schedule only prints which faults the seed has.`

/** Ends with 0 when nothing was lost, doubled, out of order or stuck, with 1 otherwise, with 64 for words that it does not know. */
async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      minutes: { type: "string", default: "35" },
      seed: { type: "string", default: String(Math.floor(Math.random() * 2 ** 31)) },
      faults: { type: "string", default: faultKinds.join(",") },
      schedule: { type: "boolean", default: false },
    },
  })
  const seed = Number(values.seed)
  const minutes = Number(values.minutes)
  const kinds = values.faults.split(",") as FaultKind[]
  const known = kinds.every((kind) => faultKinds.includes(kind))
  if (!known || !Number.isSafeInteger(seed) || !(minutes > 0 && minutes <= 24 * 60)) {
    console.error(usage)
    return 64
  }
  const lastsMs = minutes * 60_000
  if (values.schedule) {
    for (const fault of scheduleOf(seed, lastsMs, kinds)) console.log(JSON.stringify(fault))
    return 0
  }
  const again = `npm run storm -- --seed ${seed} --minutes ${minutes}${kinds.length < faultKinds.length ? ` --faults ${values.faults}` : ""}`
  console.log(`A storm of ${minutes} min. The same again: ${again}`)
  const breakOff = new AbortController()
  for (const signal of ["SIGINT", "SIGTERM"] as const)
    process.on(signal, () => {
      // Who asks twice does not want to wait; what was started ends with this process.
      if (breakOff.signal.aborted) process.exit(130)
      console.log("broken off; what goes on comes to its end and is counted")
      breakOff.abort()
    })
  const report = await runStorm({ seed, lastsMs, kinds, tell: (line) => console.log(line), signal: breakOff.signal })
  for (const line of report.leftOut) console.log(`left out: ${line}`)
  for (const line of report.lines) console.log(line)
  for (const [answer, n] of Object.entries(report.answers)) console.log(`${n} answered: ${answer.slice(0, 150)}`)
  for (const [reason, n] of Object.entries(report.count.reasons)) console.log(`${n} ended: ${reason}`)
  console.log(`\n${describe(report)}\n`)
  const found = wrongs(report)
  for (const line of found) console.log(`WRONG ${line}`)
  console.log(found.length === 0 ? `Nothing is wrong. Seed ${seed}.` : `${found.length} are wrong. Again: ${again}`)
  return found.length === 0 ? 0 : 1
}

try {
  process.exitCode = await main()
} catch (error) {
  console.error(error)
  process.exitCode = 1
}
