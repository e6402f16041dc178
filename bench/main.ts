import { execFileSync } from "node:child_process"
import { availableParallelism, cpus, totalmem } from "node:os"
import { parseArgs } from "node:util"
import { findRedis } from "../playground/redis.ts"
import { startPostgres } from "../playground/postgres.ts"
import pg from "pg"
import { benchAck } from "./ack.ts"
import { drawTable, type Table } from "./figures.ts"
import { benchFirstEffect } from "./first-effect.ts"
import { benchLightSteps } from "./light-steps.ts"
import { benchPurge } from "./purge.ts"
import { benchSlowSlack } from "./slow-slack.ts"
import { benchThroughput } from "./throughput.ts"

const benchmarks: Record<string, () => Promise<Table>> = {
  ack: benchAck,
  "first-effect": benchFirstEffect,
  "light-steps": benchLightSteps,
  throughput: benchThroughput,
  purge: benchPurge,
  "slow-slack": benchSlowSlack,
}

/** What the figures depend on. A commit waits for the disk, so its price stands here too. */
async function machineFacts(): Promise<string> {
  const postgres = await startPostgres()
  const client = new pg.Client({ connectionString: postgres.url() })
  await client.connect()
  try {
    const { rows } = await client.query<{ version: string; fsync: string; sync: string }>(
      "select current_setting('server_version') as version, current_setting('fsync') as fsync, current_setting('synchronous_commit') as sync",
    )
    await client.query("create table t (n integer)")
    const started = performance.now()
    for (let n = 0; n < 200; n++) await client.query("insert into t values (1)")
    const commitMs = (performance.now() - started) / 200
    const row = rows[0]
    return [
      `${availableParallelism()} cores (${cpus()[0]?.model.trim() ?? "unknown"}), ${Math.round(totalmem() / 2 ** 30)} GB, Node ${process.versions.node}`,
      `Postgres ${row?.version} (fsync ${row?.fsync}, synchronous_commit ${row?.sync}, one commit ${commitMs.toFixed(2)} ms), ${redisVersion()}`,
    ].join("\n")
  } finally {
    await client.end()
    await postgres.stop()
  }
}

function redisVersion(): string {
  const program = findRedis()
  if (program === null) return "no Redis: the queue lives in Postgres"
  const version = /v=(\S+)/.exec(execFileSync(program, ["--version"], { encoding: "utf8" }))?.[1]
  return `Redis ${version ?? "?"}`
}

const { values } = parseArgs({ options: { only: { type: "string", multiple: true } } })
const wanted = values.only ?? Object.keys(benchmarks)
const unknown = wanted.filter((name) => !(name in benchmarks))
if (unknown.length > 0) {
  process.stderr.write(
    `There is no benchmark ${unknown.join(", ")}. There are: ${Object.keys(benchmarks).join(", ")}\n`,
  )
  process.exitCode = 2
} else {
  process.stdout.write(`${await machineFacts()}\n\n`)
  for (const name of wanted) {
    try {
      const table = await benchmarks[name]?.()
      if (table) process.stdout.write(`${drawTable(table)}\n`)
    } catch (error) {
      process.stderr.write(`${name} could not run: ${error instanceof Error ? error.stack : String(error)}\n`)
      process.exitCode = 1
    }
  }
}
