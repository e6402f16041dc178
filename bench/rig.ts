import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as pause } from "node:timers/promises"
import pg from "pg"
import { startStage, type Stage } from "../playground/stage.ts"
import type { StepbackProcess } from "../playground/stepback-process.ts"

/** An environment of the benchmark: its plan, and the database that it acts on. */
export type BenchEnvironment = { name: string; url: string; variable: string }

export type Prepared = { id: string; token: string; channel: string; environment: BenchEnvironment }

/** Instants of one rollback in ms, all from the commit log of the one Postgres server: no clock is compared with another. */
export type Times = { approved: number; firstEffect: number; lastEffect: number; ended: number }

export type Rig = {
  stage: Stage
  state: pg.Pool
  environments: BenchEnvironment[]
  processes: StepbackProcess[]
  target(environment: BenchEnvironment): pg.Pool
  startProcess(more?: Record<string, string>): Promise<StepbackProcess>
  /** Asks for a rollback and waits for its rehearsal. `settled`: until Slack has the card and nothing is on its way. */
  prepare(environment: BenchEnvironment, options?: { settled?: boolean }): Promise<Prepared>
  approve(prepared: Prepared): Promise<void>
  /** Resolves when the end state was committed. */
  ended(prepared: Prepared): Promise<void>
  /** Resolves when Slack has every message of it. */
  delivered(prepared: Prepared): Promise<void>
  times(prepared: Prepared): Promise<Times>
  stop(): Promise<void>
}

/** Stepback on the stage of the demo, with plans of the benchmark's own in a temporary folder. */
export async function startRig(options: {
  environments: string[]
  /** Statements for each target database. */
  schema: string
  plan(environment: BenchEnvironment): string
  variables?: Record<string, string>
}): Promise<Rig> {
  const plans = await mkdtemp(join(tmpdir(), "stepback-bench-"))
  const stage = await startStage({ mode: "http", queue: "redis", plans, postgresFlags: [] })
  // The commit log is the stop watch: what counts is when a transaction was committed, not when a client heard of it.
  await execute(stage.postgres.url(), "alter system set track_commit_timestamp = on")
  await stage.postgres.restart()
  const environments: BenchEnvironment[] = []
  for (const name of options.environments) {
    const url = await stage.postgres.createDatabase(`bench_${name}`)
    const environment = { name, url, variable: `BENCH_${name.toUpperCase()}_DATABASE_URL` }
    await execute(url, options.schema)
    await writeFile(join(plans, `${name}.yaml`), options.plan(environment))
    environments.push(environment)
  }
  const variables = Object.fromEntries(environments.map(({ variable, url }) => [variable, url]))
  const state = quietPool(stage.environment["DATABASE_URL"] ?? "", 4)
  const targets = new Map<string, pg.Pool>()
  const processes: StepbackProcess[] = []
  let people = 0

  const target = (environment: BenchEnvironment) => {
    const known = targets.get(environment.name) ?? quietPool(environment.url, 1)
    targets.set(environment.name, known)
    return known
  }

  return {
    stage,
    state,
    environments,
    processes,
    target,
    async startProcess(more = {}) {
      const started = await stage.start({ ...variables, ...options.variables, ...more })
      processes.push(started)
      return started
    },
    async prepare(environment, { settled = false } = {}) {
      // Another person and another channel each time: Slack's limits on one of them are not what is measured.
      const channel = stage.slack.addChannel({ name: `bench-${++people}` }).id
      const user = stage.slack.addUser({ name: `requester-${++people}` })
      const sent = await stage.slack.command({ user: user.id, channel, text: `${environment.name} benchmark` })
      if (!sent.ok) throw new Error(`the command was not taken: ${JSON.stringify(sent)}`)
      const prepared = await waitForApprovable(state, environment, settled)
      return { ...prepared, channel, environment }
    },
    async approve({ token, channel }) {
      const user = stage.slack.addUser({ name: `approver-${++people}` })
      const press = { action_id: "approve", value: token }
      const sent = await stage.slack.click({ user: user.id, channel, ts: "1.0", action: "Approve", forge: press })
      if (!sent.ok) throw new Error(`the click was not taken: ${JSON.stringify(sent)}`)
    },
    async ended({ id }) {
      await Promise.race([
        Promise.any(
          processes.map((each) => each.logged((line) => line["msg"] === "rollback ended" && line["rollbackId"] === id)),
        ),
        pause(60_000, undefined, { ref: false }).then(() =>
          Promise.reject(new Error(`rollback ${id} did not end in a minute`)),
        ),
      ])
      const { rows } = await state.query<{ state: string; end_reason: string | null }>(
        "select state, end_reason from stepback.rollbacks where id = $1",
        [id],
      )
      if (rows[0]?.state !== "succeeded") throw new Error(`rollback ${id} ${rows[0]?.state}: ${rows[0]?.end_reason}`)
    },
    async delivered({ id }) {
      for (let waited = 0; waited < 60_000; waited += 10) {
        const { rows } = await state.query<{ quiet: boolean }>(
          "select deliver_at is null as quiet from stepback.rollbacks where id = $1",
          [id],
        )
        if (rows[0]?.quiet) return
        await pause(10)
      }
      throw new Error(`the messages of ${id} did not go out in a minute`)
    },
    times: async (prepared) => readTimes(prepared, state, target(prepared.environment)),
    async stop() {
      await Promise.all([state.end(), ...[...targets.values()].map((pool) => pool.end())])
      await stage.stop()
      await rm(plans, { recursive: true, force: true })
    },
  }
}

export async function execute(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(sql)
  } finally {
    await client.end()
  }
}

function quietPool(url: string, max: number): pg.Pool {
  const pool = new pg.Pool({ connectionString: url, max })
  pool.on("error", () => {})
  return pool
}

async function waitForApprovable(
  state: pg.Pool,
  environment: BenchEnvironment,
  settled: boolean,
): Promise<{ id: string; token: string }> {
  for (let waited = 0; waited < 60_000; waited += 25) {
    const { rows } = await state.query<{ id: string; token: string }>(
      `select id, token from stepback.rollbacks where environment = $1 and state = 'awaiting_approval'
         and ($2 = false or (card_sent_version = card_version and deliver_at is null))`,
      [environment.name, settled],
    )
    if (rows[0]) return rows[0]
    await pause(25)
  }
  throw new Error(`${environment.name} never asked for approval`)
}

const instant = (row: string) => `(extract(epoch from pg_xact_commit_timestamp(${row}.xmin)) * 1000)::float8`

/** The approval's row, the ledger's entries and the analysis are each written once, by the transaction that is timed. */
async function readTimes({ id }: Prepared, state: pg.Pool, target: pg.Pool): Promise<Times> {
  const [ours, theirs] = await Promise.all([
    state.query<{ approved: number; ended: number }>(
      `select max(${instant("a")}) as approved, max(${instant("n")}) as ended
       from stepback.approvals a join stepback.analyses n using (rollback_id) where rollback_id = $1`,
      [id],
    ),
    target.query<{ first: number; last: number }>(
      `select min(${instant("e")}) as first, max(${instant("e")}) as last from stepback_ledger.entries e where rollback_id = $1`,
      [id],
    ),
  ])
  const [run, effects] = [ours.rows[0], theirs.rows[0]]
  if (!run || !effects) throw new Error(`rollback ${id} left no traces`)
  return { approved: run.approved, ended: run.ended, firstEffect: effects.first, lastEffect: effects.last }
}
