import { Pool, types, type PoolClient, type QueryResult } from "pg"
import { errorCode, readOnly } from "../errors.ts"
import type { Logger } from "../log.ts"

export type Query = { text: string; values?: unknown[] }

// Counts and sums arrive as text otherwise; ours stay far below 2^53.
types.setTypeParser(types.builtins.INT8, Number)

/**
 * Whatever is set for the role or the database: moments are read as ISO writes them, a statement that waited for another
 * transaction sees what that one committed, and none has less time than the pool gives it. Older servers lack the last one.
 */
const session = `set datestyle = 'ISO, YMD'; set default_transaction_isolation = 'read committed'; set lock_timeout = 0;
  select set_config('transaction_timeout', '0', false) where current_setting('server_version_num')::int >= 170000`

/**
 * A pool on the state database. Pipelined: queries of one client go out without waiting for each other's answers,
 * which makes a transaction one round trip.
 */
export function createPool(url: string, options: { log: Logger; max?: number }): Pool {
  const pool = new Pool({
    connectionString: url,
    max: options.max ?? 20,
    connectionTimeoutMillis: 5_000,
    idleTimeoutMillis: 60_000,
    statement_timeout: 20_000,
    query_timeout: 25_000,
    idle_in_transaction_session_timeout: 20_000,
    application_name: "stepback",
    pipeline: true,
  })
  const lost = (error: Error) => options.log.warn({ err: error }, "state database connection lost")
  pool.on("error", lost)
  // The pool listens to idle ones alone: a link that breaks inside a transaction would end the process.
  pool.on("connect", (client) => {
    client.on("error", lost)
    // Goes before what is asked first.
    client.query(session).catch(lost)
  })
  return pool
}

/**
 * Runs the queries as one transaction in one round trip and gives their results. The first error is thrown and
 * nothing of it stays: statements behind an error fail too, and the commit of a failed transaction rolls back.
 */
export const inOneGo = (pool: Pool, queries: Query[]): Promise<QueryResult[]> => notLockedOut(() => send(pool, queries))

async function send(pool: Pool, queries: Query[]): Promise<QueryResult[]> {
  const client = await pool.connect()
  let broken: Error | undefined
  try {
    const sent = [{ text: "begin" }, ...queries, { text: "commit" }].map((query) => client.query(query))
    const settled = await Promise.allSettled(sent)
    const failed = settled.find((result) => result.status === "rejected")
    if (failed) {
      broken = failed.reason as Error
      throw broken
    }
    return settled.slice(1, -1).map((result) => (result as PromiseFulfilledResult<QueryResult>).value)
  } finally {
    client.release(broken && isSpent(broken) ? broken : undefined)
  }
}

/** A transaction whose statements depend on each other. `work` may be called again: it does nothing beside its statements. */
export const inTransaction = <T>(pool: Pool, work: (client: PoolClient) => Promise<T>): Promise<T> =>
  notLockedOut(() => transact(pool, work))

/**
 * Of two transactions that wait for each other the server takes one back, whole, and the other goes on: then it is done
 * again, so that neither a click nor what somebody typed is lost to a moment.
 */
async function notLockedOut<T>(work: () => Promise<T>, tries = 3): Promise<T> {
  for (let tried = 1; ; tried++)
    try {
      return await work()
    } catch (error) {
      if (errorCode(error) !== "40P01" || tried === tries) throw error
    }
}

async function transact<T>(pool: Pool, work: (client: PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect()
  let broken: Error | undefined
  try {
    await client.query("begin")
    const result = await work(client)
    await client.query("commit")
    return result
  } catch (error) {
    broken = error as Error
    await client.query("rollback").catch((failure: Error) => {
      broken = failure
    })
    throw error
  } finally {
    client.release(broken && isSpent(broken) ? broken : undefined)
  }
}

/** A link that broke; or one that leads to where no writes are taken, as to a server that was the primary: the next may lead on. */
function isSpent(error: Error): boolean {
  return !("severity" in error) || errorCode(error) === readOnly
}
