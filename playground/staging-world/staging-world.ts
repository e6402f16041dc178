import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import pg from "pg"
import type { Postgres } from "../postgres.ts"
import {
  addBadProfiles,
  alignConfiguration,
  type Checksums,
  countArchived,
  readChecksums,
  readConfiguration,
} from "./contents.ts"
import { type FunctionName, functionNames, startFunctionsServer } from "./functions-server.ts"
import { createRepository, deploy, describeCommit } from "./repository.ts"

export type StagingState = {
  resultsVersion: string
  /** What is served now: the function's own version, its commit, and the tag of that commit. */
  functions: Record<FunctionName, { version: string; commit: string; ref: string }>
  /** Rows of each table; `badProfiles` carry results_version v1.2.1, `badAnswers` are their children. */
  rows: Record<
    "sessions" | "responses" | "profiles" | "badProfiles" | "badAnswers" | "badFcScores" | "errorLogs",
    number
  >
}

export type StagingWorld = {
  databaseUrl: string
  httpUrl: string
  repo: string
  /** What `plans/staging.yaml` reads from the environment. */
  env: { STAGING_DATABASE_URL: string; STAGING_URL: string; STAGING_REPO: string }
  state(): Promise<StagingState>
  /** Makes a function fail even after it was redeployed; null mends all. */
  breakFunctions(name: FunctionName | null): void
  /** Makes a function answer so much later; null makes all as quick as they are. */
  slowDown(name: FunctionName | null, ms?: number): void
  /** What the alignment did to the configuration beside results_version: between a baseline and its `after` snapshot. */
  alignConfiguration(): Promise<void>
  /** Somebody sets a key by hand, since then: a conflict, where the alignment had set it too. */
  setConfiguration(key: string, value: unknown): Promise<void>
  /** So many more profiles of the bad version, made now. */
  addBadProfiles(count: number): Promise<void>
  /** Of the tables' rows: equal when nothing differs but when a row was written. */
  checksums(): Promise<Checksums>
  /** `scoring_config`, by its keys. */
  configuration(): Promise<Record<string, unknown>>
  /** How many rows of each table a rollback has kept. */
  archived(): Promise<Record<string, number>>
  stop(): Promise<void>
}

export type StagingOptions = {
  postgres: Pick<Postgres, "url" | "createDatabase">
  /** Kept on stop; omitted: a temporary one. */
  dir?: string
  /** `staging` unless several worlds share one server. */
  database?: string
  /** Of the functions server; any free one unless given. */
  port?: number
}

/**
 * The staging environment at the bad version: a database named `staging`, a git repository with every version of the
 * three functions, and a server for what is deployed. What an earlier start left under the same names is replaced.
 */
export async function startStagingWorld(options: StagingOptions): Promise<StagingWorld> {
  const home = options.dir ?? (await mkdtemp(join(tmpdir(), "stepback-staging-")))
  const repo = join(home, "repo")
  const folder = join(home, "deployed")
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true })
  const [databaseUrl] = await Promise.all([
    createDatabase(options.postgres, options.database ?? "staging"),
    createRepository(repo).then(() => Promise.all(functionNames.map((name) => deploy(repo, name, "v1.2.1")))),
  ])

  const pool = new pg.Pool({ connectionString: databaseUrl, max: 4 })
  // A restarted Postgres cuts idle connections; the next query opens new ones.
  pool.on("error", () => {})
  const server = await startFunctionsServer({ folder, pool, port: options.port ?? 0 })
  return {
    databaseUrl,
    httpUrl: server.url,
    repo,
    env: { STAGING_DATABASE_URL: databaseUrl, STAGING_URL: server.url, STAGING_REPO: repo },
    breakFunctions: (name) => server.breakFunctions(name),
    slowDown: (name, ms = 0) => server.slowDown(name, ms),
    alignConfiguration: () => alignConfiguration(pool),
    addBadProfiles: (count) => addBadProfiles(pool, count),
    checksums: () => readChecksums(pool),
    configuration: () => readConfiguration(pool),
    archived: () => countArchived(pool),
    async setConfiguration(key, value) {
      await pool.query("update scoring_config set value = $2, updated_at = now() where key = $1", [
        key,
        JSON.stringify(value),
      ])
    },
    async state() {
      const functions = await Promise.all(
        functionNames.map(async (name) => {
          const served = await server.deployed(name)
          return [name, { ...served, ref: await describeCommit(repo, served.commit) }] as const
        }),
      )
      return { ...(await readRows(pool)), functions: Object.fromEntries(functions) as StagingState["functions"] }
    },
    async stop() {
      await server.close()
      await pool.end()
      if (options.dir === undefined) await rm(home, { recursive: true, force: true })
    },
  }
}

async function createDatabase(postgres: StagingOptions["postgres"], name: string): Promise<string> {
  await execute(postgres.url(), `drop database if exists ${pg.escapeIdentifier(name)} with (force)`)
  const url = await postgres.createDatabase(name)
  const [schema, seed] = await Promise.all(
    ["schema.sql", "seed.sql"].map((file) => readFile(join(import.meta.dirname, file), "utf8")),
  )
  await execute(url, `${schema}\n${seed}`)
  return url
}

async function execute(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(sql)
  } finally {
    await client.end()
  }
}

async function readRows(pool: pg.Pool): Promise<Omit<StagingState, "functions">> {
  const { rows } = await pool.query<{ results_version: string; rows: StagingState["rows"] }>(`
    select
      (select value #>> '{}' from scoring_config where key = 'results_version') as results_version,
      json_build_object(
        'sessions', (select count(*) from assessment_sessions),
        'responses', (select count(*) from assessment_responses),
        'profiles', (select count(*) from profiles),
        'badProfiles', (select count(*) from profiles where results_version = 'v1.2.1'),
        'badAnswers', (select count(*) from profile_answers join profiles on id = profile_id where results_version = 'v1.2.1'),
        'badFcScores', (select count(*) from fc_scores where version = 'v1.2'),
        'errorLogs', (select count(*) from function_logs where level = 'error')
      ) as rows`)
  const [row] = rows
  if (row === undefined) throw new Error("a select without from gave no row")
  return { resultsVersion: row.results_version, rows: row.rows }
}
