import { mkdtemp, rm } from "node:fs/promises"
import { loadavg, tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as pause } from "node:timers/promises"
import pg from "pg"
import { findInstalledServer, startPostgres } from "../playground/postgres.ts"
import { startChild, type Child } from "./child.ts"
import { median, ms, type Line, type Table } from "./figures.ts"
import type { PurgeAnswer, PurgeCommand } from "./purge-child.ts"

/** `end`: the bad rows are the last ones, as after a bad release; else every so many. */
type Case = { total: number; bad: number; indexed: boolean; end?: true; pairs: number }

/** The same pair gives 1.0 to 1.5 from one run to the next, and even the median of so many moves by 0.1 to 0.3. */
const cases: Case[] = [
  { total: 500_000, bad: 100_000, indexed: false, pairs: 11 },
  { total: 500_000, bad: 100_000, indexed: true, pairs: 11 },
  { total: 2_000_000, bad: 1_000_000, indexed: false, pairs: 7 },
  { total: 2_000_000, bad: 1_000_000, indexed: true, pairs: 7 },
  { total: 500_000, bad: 100_000, indexed: false, end: true, pairs: 7 },
]
const required = { ratio: 1.25, holdUpMs: 60, peakMb: 100 }

/** One way of removing the rows, beside others who write. `writes`: theirs, while it went on. `lost`: gone and not in the archive. */
type Measured = {
  ms: number
  holdUpMs: number
  writes: number
  lost: number
  left: number
  told: string
  peakMb: number
}

/**
 * Archive and delete a share of a table while others insert and update, beside `insert … select; delete` in one transaction. On a
 * server as distributions build it, where there is one: the package's cannot compress what it logs by lz4.
 */
export async function benchPurge(): Promise<Table> {
  const cache = await compile()
  const postgres = await startPostgres({ server: process.env["PLAYGROUND_POSTGRES"] ?? findInstalledServer() })
  const url = await postgres.createDatabase("bench")
  const pool = new pg.Pool({ connectionString: url, max: 6 })
  pool.on("error", () => undefined)
  const lines: Line[] = []
  const notes = [await describe(pool)]
  const only = process.env["BENCH_PURGE_CASE"]
  try {
    for (const each of cases.filter((_one, index) => only === undefined || only === String(index))) {
      lines.push(...draw(each, await measurePairs({ pool, url, cache }, each)))
      notes.push(`load ${loadavg()[0]?.toFixed(1)} after ${each.total} rows${called(each)}`)
    }
    return {
      title: "purge: archive and delete while two others insert and update; medians of the runs, worst in brackets",
      plainName: "insert … select; delete",
      lines,
      notes,
    }
  } finally {
    await rm(cache, { recursive: true, force: true })
    await pool.end()
    await postgres.stop()
  }
}

async function describe(pool: pg.Pool): Promise<string> {
  const { rows } = await pool.query<{ version: string; lz4: boolean }>(
    `select current_setting('server_version') as version, 'lz4' = any(enumvals) as lz4
     from pg_settings where name = 'wal_compression'`,
  )
  const [{ version, lz4 } = { version: "", lz4: false }] = rows
  return `Postgres ${version}, ${lz4 ? "what Stepback's batches log is compressed by lz4" : "without lz4: nothing that is logged is compressed"}`
}

type Pair = { ours: Measured; plain: Measured }

/** By a worker of its own, so that its peak is this case's. */
async function measurePairs(on: { pool: pg.Pool; url: string; cache: string }, each: Case): Promise<Pair[]> {
  const child = startWorker(on.cache)
  const pairs: Pair[] = []
  try {
    for (let n = 0; n < each.pairs; n++) {
      const way = { plain: plainly(on.pool), ours: byStepback(on.pool, child, on.url) }
      // In turns: what comes first may leave the disk something to do for what comes second.
      const first = n % 2 === 0 ? "plain" : "ours"
      const second = n % 2 === 0 ? "ours" : "plain"
      const done = {
        [first]: await measure(on.pool, each, way[first]),
        [second]: await measure(on.pool, each, way[second]),
      }
      pairs.push(done as Pair)
    }
  } finally {
    await child.stop()
  }
  return pairs
}

const startWorker = (cache: string): Child => startChild("./purge-child.ts", { NODE_COMPILE_CACHE: cache })

/**
 * A folder in which a worker finds its modules compiled, as an installed one does: turning TypeScript into JavaScript at
 * the start takes 30 MB more than the purge, and the peak would be that.
 */
async function compile(): Promise<string> {
  const cache = await mkdtemp(join(tmpdir(), "stepback-bench-"))
  const first = startWorker(cache)
  await first.ask<PurgeAnswer>({ url: "", table: "", do: "nothing" } satisfies PurgeCommand)
  await first.stop()
  return cache
}

type Way = {
  prepare(): Promise<unknown>
  run(): Promise<{ ms: number; told: string; peakMb: number; sum: number }>
  /** Rows that were kept. */
  kept(): Promise<number>
}

function plainly(pool: pg.Pool): Way {
  return {
    prepare: () => pool.query("drop table if exists kept; create table kept (like scores)"),
    run: async () => {
      const client = await pool.connect()
      const started = performance.now()
      await client.query("begin")
      await client.query("insert into kept select * from scores where version = 'bad'")
      await client.query("delete from scores where version = 'bad'")
      await client.query("commit")
      client.release()
      return { ms: performance.now() - started, told: "", peakMb: 0, sum: 0 }
    },
    kept: () => count(pool, "kept"),
  }
}

function byStepback(pool: pg.Pool, child: Child, url: string): Way {
  const command = { url, table: "scores" }
  let rollbackId = ""
  return {
    prepare: async () => {
      const answer = await child.ask<PurgeAnswer>({ ...command, do: "rehearse" } satisfies PurgeCommand)
      rollbackId = answer.rollbackId
    },
    run: async () => {
      const answer = await child.ask<PurgeAnswer>({ ...command, do: "run" } satisfies PurgeCommand)
      if (answer.outcome !== "succeeded") throw new Error(`${answer.outcome}: ${answer.words.join("; ")}`)
      return { ms: answer.ms, told: answer.words.join("; "), peakMb: answer.peakMb, sum: answer.rows ?? 0 }
    },
    kept: async () => {
      const { rows } = await pool.query<{ name: string }>(
        `select name from stepback_ledger.archives where rollback_id = '${rollbackId}'`,
      )
      let sum = 0
      for (const { name } of rows) sum += await count(pool, name)
      return sum
    },
  }
}

async function measure(pool: pg.Pool, each: Case, way: Way): Promise<Measured> {
  await fill(pool, each)
  await way.prepare()
  await pool.query("checkpoint")
  const writers = startWriters(pool, each)
  await pause(100)
  writers.begin()
  const done = await way.run()
  const writes = writers.measured()
  // What came in the last moments was nobody's to see.
  const { rows } = await pool.query<{ at: string }>("select (clock_timestamp() - interval '1 s')::text as at")
  const seen = await writers.end()
  const [stay, left, kept] = [
    await count(pool, "scores"),
    await count(pool, `scores where version = 'bad' and scored_at < '${rows[0]?.at}'`),
    await way.kept(),
  ]
  return { ...done, ...seen, writes, left, lost: each.total + seen.inserted - stay - kept }
}

const called = ({ indexed, end }: Case) => `${indexed ? ", indexed" : ""}${end ? ", at its end" : ""}`

async function fill(pool: pg.Pool, { total, bad, indexed, end }: Case): Promise<void> {
  await pool.query("drop table if exists scores")
  await pool.query(
    "create table scores (id bigint primary key, version text, score numeric, facts jsonb, scored_at timestamptz default now(), pad text)",
  )
  await pool.query(
    `insert into scores select n, case when ${end ? `n > ${total - bad}` : `n % ${total / bad} = 0`} then 'bad' else 'good' end, n * 1.1, '{"a": 1}', now(), repeat('x', 100)
     from generate_series(1, ${total}) n`,
  )
  if (indexed) await pool.query("create index on scores (version)")
  await pool.query("vacuum analyze scores")
}

/** One inserts, now and then a bad row; one updates any row, half of them about to go. */
function startWriters(pool: pg.Pool, { total, bad, end }: Case) {
  const seen = { holdUpMs: 0, writes: 0, inserted: 0 }
  const now = { over: false, measuring: false }
  const write = async (text: string, values: unknown[]) => {
    const started = performance.now()
    await pool.query(text, values)
    if (now.measuring) seen.holdUpMs = Math.max(seen.holdUpMs, performance.now() - started)
    if (now.measuring) seen.writes++
  }
  const inserting = async () => {
    for (let n = 1; !now.over; n++) {
      await write("insert into scores (id, version, pad) values ($1, $2, 'late')", [
        total + n,
        n % 20 === 0 ? "bad" : "good",
      ])
      seen.inserted++
      await pause(3)
    }
  }
  const updating = async () => {
    for (let n = 0; !now.over; n++) {
      const any = Math.ceil(Math.random() * total)
      const step = total / bad
      const doomed = end ? total - Math.floor(any / step) : Math.ceil(any / step) * step
      await write("update scores set pad = 'touched' where id = $1", [n % 2 === 0 ? any : doomed])
      await pause(3)
    }
  }
  const writers = [inserting(), updating()]
  return {
    begin: () => void (now.measuring = true),
    measured: () => seen.writes,
    end: async () => {
      now.over = true
      await Promise.all(writers)
      return seen
    },
  }
}

async function count(pool: pg.Pool, of: string): Promise<number> {
  const { rows } = await pool.query<{ n: number }>(`select count(*)::int as n from ${of}`)
  return rows[0]?.n ?? Number.NaN
}

const many = (rows: number) => `${(rows / 1_000).toLocaleString("en")},000`

function draw(each: Case, pairs: Pair[]): Line[] {
  const of = (pick: (one: Measured) => number) => ({
    ours: pairs.map(({ ours }) => pick(ours)),
    plain: pairs.map(({ plain }) => pick(plain)),
  })
  const worst = (values: number[], show: (value: number) => string) =>
    `${show(median(values))} (${show(Math.max(...values))})`
  const line = (what: string, pick: (one: Measured) => number, show: (value: number) => string) => {
    const { ours, plain } = of(pick)
    return { what: `  ${what}`, ours: worst(ours, show), plain: worst(plain, show), required: "", holds: null } as Line
  }
  const ratio = median(pairs.map(({ ours, plain }) => ours.ms / plain.ms))
  const holdUp = median(of((one) => one.holdUpMs).ours)
  const lost = Math.max(...of((one) => one.lost).ours.map(Math.abs))
  const peak = Math.max(...of((one) => one.peakMb).ours)
  const untold = pairs.filter(({ ours }) => ours.left > 0 && !ours.told.includes("were left")).length
  const plainNumber = (value: number) => value.toFixed(0)
  return [
    {
      ...line("time", (one) => one.ms, ms),
      what: `${many(each.bad)} of ${many(each.total)}${called(each)}: time`,
    },
    {
      what: "  ratio, median of the pairs",
      ours: ratio.toFixed(2),
      plain: "1",
      required: `≤ ${required.ratio}`,
      holds: ratio <= required.ratio,
    },
    {
      ...line("longest hold-up of a writer", (one) => one.holdUpMs, ms),
      required: `≤ ${required.holdUpMs} ms`,
      holds: holdUp <= required.holdUpMs,
    },
    line("writes of the others, a second", (one) => (one.writes / one.ms) * 1_000, plainNumber),
    { ...line("deleted without archive", (one) => one.lost, plainNumber), required: "0", holds: lost === 0 },
    { ...line("bad rows left at the end", (one) => one.left, plainNumber), required: "told", holds: untold === 0 },
    {
      what: "  peak memory of the client",
      ours: `${peak.toFixed(0)} MB`,
      plain: "",
      required: `< ${required.peakMb} MB`,
      holds: peak < required.peakMb,
    },
  ]
}
