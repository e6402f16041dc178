import { Pool, type CustomTypesConfig, type PoolClient, type QueryResult } from "pg"
import { errorCode, StepbackError } from "../errors.ts"
import type { Fingerprint } from "../plans/frozen.ts"
import type { Logger } from "../log.ts"

/** A plan's own database and host. */
export type Target = { pool: Pool | null; httpBase: URL | null }

/** Pools are kept per address: a rollback starts on a warm connection. */
export function createTargetPools(log: Logger) {
  const pools = new Map<string, Pool>()
  return {
    get(url: string): Pool {
      const known = pools.get(url)
      if (known) return known
      const pool = new Pool({
        connectionString: url,
        max: 8,
        connectionTimeoutMillis: 5_000,
        idleTimeoutMillis: 600_000,
        keepAlive: true,
        application_name: "stepback",
        pipeline: true,
      })
      const lost = (error: Error) => log.warn({ err: error }, "target database connection lost")
      pool.on("error", lost)
      // The pool listens to idle ones alone: a link that breaks while a step has it would end the process.
      pool.on("connect", (client) => client.on("error", lost))
      pools.set(url, pool)
      return pool
    },
    async close(): Promise<void> {
      await Promise.all([...pools.values()].map((pool) => pool.end()))
      pools.clear()
    },
  }
}

/** Of a pool of eight: whoever takes a connection besides its own leaves as many to others, who may wait for theirs with one in hand. */
const connectionsLeft = 4

export function isBusy(pool: Pool): boolean {
  return pool.totalCount - pool.idleCount + pool.waitingCount >= connectionsLeft
}

export type TargetPools = ReturnType<typeof createTargetPools>

/** How long a step waits for a lock that somebody else holds. */
const lockTimeoutMs = 5_000
/** A worker that froze inside a transaction keeps its fence for this long at most; then the server ends it. */
const idleTimeoutMs = 15_000

/**
 * What a worker that died left running ends soon; older servers, and some systems, do not have it. A time limit of the role
 * for whole transactions would cut a step that its plan gives longer. Where triggers and foreign keys sleep for the role, rows
 * would lose their parents: they wake, or the server says that this role may not wake them.
 */
const whereNeeded = `select
  case when v >= 140000 and version() ~ 'linux' then set_config('client_connection_check_interval', '2s', true) end,
  case when v >= 170000 then set_config('transaction_timeout', '0', true) end,
  case when current_setting('session_replication_role') = 'replica' then set_config('session_replication_role', 'origin', true) end
  from (select current_setting('server_version_num')::int as v) server`

/** Not where the server's owner wants none. */
const oneHelper =
  "select set_config('max_parallel_workers_per_gather', least(1, current_setting('max_parallel_workers_per_gather')::int)::text, true)"

type Beginning = { readOnly?: boolean; sharing?: string; snapshotOf?: string | undefined; exclusive?: boolean }
type Settings = Beginning & { timeoutMs: number; helped?: boolean; compressed?: boolean }

function beginning(options: Beginning): string {
  if (options.sharing !== undefined)
    return `begin isolation level repeatable read read only; set transaction snapshot ${options.sharing}`
  if (options.readOnly) return "begin isolation level repeatable read read only"
  if (options.snapshotOf !== undefined) return "begin isolation level repeatable read"
  return options.exclusive ? "begin isolation level read committed" : "begin"
}

/**
 * `sharing`: a literal that names another transaction's snapshot, which this one sees too. `snapshotOf`: its statements see one moment of that table (quoted and qualified). `exclusive`: they see what was committed
 * while they waited, whatever the database's default. `helped`: the server may use a second core.
 * `compressed`: what is logged is to be small (`mayCompress` was asked).
 * `set local` only: behind a pooler in transaction mode a session's settings would be somebody else's.
 * `row_security = off` makes policies an error instead of a silent filter; the formats make a row's text exact.
 */
export function prologue(options: Settings): string {
  return [
    beginning(options),
    `set local statement_timeout = ${Math.ceil(options.timeoutMs)}`,
    // Shorter than the statement's own, which would fire first and name nobody.
    `set local lock_timeout = ${Math.min(lockTimeoutMs, Math.ceil(options.timeoutMs * 0.8))}`,
    `set local idle_in_transaction_session_timeout = ${idleTimeoutMs}`,
    // Before the first SELECT, whose snapshot is the transaction's: what others did under a lock of theirs is in it.
    ...(options.snapshotOf === undefined ? [] : [`lock table only ${options.snapshotOf} in row exclusive mode`]),
    "set local row_security = off",
    "set local timezone = 'UTC'",
    "set local datestyle = 'ISO, YMD'",
    "set local intervalstyle = 'postgres'",
    "set local extra_float_digits = 1",
    "set local bytea_output = 'hex'",
    // Off, `{NULL}` would be read back as a word.
    "set local array_nulls = on",
    "set local xmloption = content",
    // As the parser reads statements that was asked before.
    "set local standard_conforming_strings = on",
    // Statements that run once: compiling them costs more than it gives.
    "set local jit = off",
    ...(options.compressed ? ["set local wal_compression = lz4"] : []),
    // Others work there too: a look takes one core.
    options.helped ? oneHelper : "set local max_parallel_workers_per_gather = 0",
    whereNeeded,
  ].join("; ")
}

const defaultDeadlineMs = 60_000

/** How long a transaction of a few statements may take, each of which the server ends after `timeoutMs`. */
export function deadlineOf(timeoutMs: number): number {
  return timeoutMs * 2 + 5_000
}

/** Takes a connection, runs `work`, and gives it back; one that broke, or whose transaction may be open, is closed. */
export async function withClient<T>(
  pool: Pool,
  work: (client: PoolClient) => Promise<T>,
  deadlineMs = defaultDeadlineMs,
): Promise<T> {
  const client = await pool.connect()
  let broken: Error | undefined
  // A link that went silent raises no error by itself, and the server's own timeouts cannot be heard over it.
  const deadline = setTimeout(() => cut(client), deadlineMs)
  try {
    return await work(client)
  } catch (error) {
    broken = error instanceof Error ? error : new Error(String(error))
    try {
      await client.query("rollback")
      if ("severity" in broken && broken.severity !== "FATAL") broken = undefined
    } catch {
      // The connection is gone, and the transaction with it.
    }
    throw error
  } finally {
    clearTimeout(deadline)
    client.release(broken)
  }
}

/** Ends the link, so that what waits for its answers hears an error that passes. */
function cut(client: PoolClient): void {
  const { connection } = client as unknown as { connection: { stream: { destroy(): void } } }
  connection.stream.destroy()
}

/** A read-only look, rolled back in any case. */
export async function looking<T>(
  pool: Pool,
  timeoutMs: number,
  work: (client: PoolClient) => Promise<T>,
  options: { helped?: boolean } = {},
): Promise<T> {
  return withClient(
    pool,
    async (client) => {
      await client.query(prologue({ timeoutMs, readOnly: true, ...options }))
      const result = await work(client)
      await client.query("rollback")
      return result
    },
    deadlineOf(timeoutMs),
  )
}

/** A plan's statement: never more than one, whatever its text says. */
export function statement(
  client: PoolClient,
  text: string,
  values: readonly unknown[],
  types?: CustomTypesConfig,
): Promise<QueryResult> {
  const asked = { text, values: [...values], queryMode: "extended", ...(types ? { types } : {}) }
  return client.query(asked as { text: string; values: unknown[] })
}

/** `closed`: why nothing can be written there, and what to do. */
export type Identity = { fingerprint: Fingerprint; closed: { why: string; mend: string } | null; version: number }

const closings = {
  standby: { why: "is a standby and takes no writes", mend: "point the plan at the primary" },
  // Not written to all the same: who sets it means it, as providers do when a disk is full.
  readOnly: {
    why: "takes no writes: default_transaction_read_only is on for this role or database",
    mend: "find out why, and switch it off",
  },
}

/** The same in a sentence, as "the target is a standby …: point the plan at the primary". */
export function inSentence(subject: string, { why, mend }: NonNullable<Identity["closed"]>): string {
  return `${subject} ${why}: ${mend}`
}

type Answer = { database: string; closed: keyof typeof closings | null; version: string }

/** Which database this is. The system identifier is null where the role may not read it. */
export async function identify(pool: Pool, httpBase: URL | null): Promise<Identity> {
  return withClient(pool, async (client) => {
    const asked = client.query<Answer>(
      `select current_database() as database, current_setting('server_version_num') as version,
         case when pg_is_in_recovery() then 'standby' when current_setting('default_transaction_read_only')::bool then 'readOnly' end as closed`,
    )
    const identified = client
      .query<{ id: string }>("select system_identifier::text as id from pg_control_system()")
      .then((result) => result.rows[0]?.id ?? null)
      .catch((error: unknown) => {
        if (errorCode(error) === "42501") return null
        throw error
      })
    // Both are on their way at once; the first is read first, so that its error is the one that is told.
    identified.catch(() => undefined)
    const row = (await asked).rows[0] as Answer
    const system = await identified
    return {
      fingerprint: { database: row.database, systemIdentifier: system, httpOrigin: httpBase?.origin ?? null },
      closed: row.closed === null ? null : closings[row.closed],
      version: Number(row.version),
    }
  })
}

/** The base of a plan's requests. Throws when it is not http(s). */
export function httpBase(url: string): URL {
  if (!URL.canParse(url)) throw new StepbackError("bad_url", "target.http is not a URL")
  const base = new URL(url)
  if (base.protocol !== "http:" && base.protocol !== "https:")
    throw new StepbackError("bad_url", `target.http must be http or https, not ${base.protocol}`)
  if (base.username !== "" || base.password !== "")
    throw new StepbackError(
      "bad_url",
      "target.http has a user or password in it, which no request can carry: give the steps a header instead",
    )
  return base
}
