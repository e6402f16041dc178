import { randomUUID } from "node:crypto"
import type { PurgeStep } from "../src/plans/plan.ts"
import { createLogger } from "../src/log.ts"
import { initLedger, raiseFence } from "../src/steps/ledger.ts"
import { purgeStep } from "../src/steps/purge.ts"
import { createSecrets } from "../src/steps/secrets.ts"
import { createTargetPools } from "../src/steps/target.ts"

/** A worker's part of the benchmark: its own process, so that its memory is its own. */

export type PurgeCommand = { url: string; table: string; do: "nothing" | "rehearse" | "run" }
export type PurgeAnswer = {
  rollbackId: string
  ms: number
  rows: number | null
  outcome: string
  words: string[]
  peakMb: number
}

const log = createLogger({ level: "silent", role: "worker" })
const pools = createTargetPools(log)

function stepOn(table: string): PurgeStep {
  return {
    kind: "purge",
    id: "remove",
    title: "Remove",
    effect: "transactional",
    timeoutMs: 120_000,
    retries: 0,
    needs: [],
    onFailure: "stop",
    irreversible: null,
    table,
    where: "version = $1",
    params: ["bad"],
    cascade: [],
    atMost: 5_000_000,
    maxShare: 0.9,
    batch: 10_000,
    expectRows: { kind: "rehearsed", tolerance: null },
  }
}

async function begin({ url, table }: PurgeCommand) {
  const pool = pools.get(url)
  const key = { rollbackId: randomUUID(), epoch: 1, digest: "bench" }
  await initLedger(pool)
  await raiseFence(pool, key)
  const step = stepOn(table)
  const context = {
    rollbackId: key.rollbackId,
    environment: "bench",
    values: { bad: "bad" },
    secrets: createSecrets({}),
    target: { pool, httpBase: null },
    redact: [],
    signal: new AbortController().signal,
    log,
  }
  const rehearsed = await purgeStep.rehearse(step, context)
  const run = () =>
    purgeStep.run(step, {
      ...context,
      key,
      attempt: 1,
      rehearsed,
      fingerprint: null,
      recordProcess: () => undefined,
      checkpoint: () => Promise.resolve(),
      stillOurs: () => Promise.resolve(),
    })
  return { rollbackId: key.rollbackId, rehearsed, run }
}

let begun: Awaited<ReturnType<typeof begin>> | null = null

async function answer(command: PurgeCommand): Promise<PurgeAnswer> {
  const peakMb = () => process.resourceUsage().maxRSS / 1024
  if (command.do === "nothing") return { rollbackId: "", ms: 0, rows: 0, outcome: "", words: [], peakMb: peakMb() }
  if (command.do === "rehearse" || begun === null) {
    begun = await begin(command)
    const { rollbackId, rehearsed } = begun
    const { ms, rows, outcome, note } = rehearsed
    return { rollbackId, ms, rows, outcome, words: note === null ? [] : [note], peakMb: peakMb() }
  }
  const started = performance.now()
  const result = await begun.run()
  const ms = performance.now() - started
  const words = [...result.evidence, ...result.issues, ...(result.failure ? [result.failure.message] : [])]
  return { rollbackId: begun.rollbackId, ms, rows: result.rows, outcome: result.outcome, words, peakMb: peakMb() }
}

process.on("message", (command: PurgeCommand) => {
  void (async () => {
    process.send?.(await answer(command))
  })().catch((error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`)
    process.exit(1)
  })
})
process.on("disconnect", () => process.exit(0))
