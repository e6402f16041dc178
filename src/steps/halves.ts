import { escapeIdentifier, escapeLiteral, type Pool, type PoolClient } from "pg"
import { deadlineOf, isBusy, prologue, statement, withClient } from "./target.ts"

type Query = { text: string; values: readonly unknown[] }

/** A table, under the name that it has in the query. `scan`: the same look as a plain count, which every server can share. */
export type Looked = { name: string; pages: number; scan: Query }

/** 8 MB: a look at fewer is over before a second connection has begun. The server does not share such a one either. */
export const fewPages = 1_000

/**
 * Rows of a query that reads a whole table, asked of both halves of its pages at once, where the server would use a helper
 * of its own. A second connection that sees the same moment does as much, and is there already: a helper is a new process,
 * which has to find each page of the cache anew, and that costs more than the scan where memory is virtual twice (count
 * and last look at 500,000 rows 81 ms, with a helper 109 ms). `client` is in a read-only transaction that may use a helper.
 * `query`: with what a row has to fulfil besides. Its answers are to be put together by whoever asks.
 */
export async function lookInHalves(
  { pool, client, timeoutMs }: { pool: Pool; client: PoolClient; timeoutMs: number },
  looked: Looked,
  query: (within: string) => Query,
): Promise<unknown[]> {
  const ask = async (by: PoolClient, { text, values }: Query) => (await statement(by, text, values)).rows as unknown[]
  if (looked.pages < fewPages || isBusy(pool) || !(await isShared(client, looked))) return ask(client, query("true"))
  const { rows } = await client.query<{ name: string }>(
    "select pg_export_snapshot() as name, set_config('max_parallel_workers_per_gather', '0', true)",
  )
  const place = `${escapeIdentifier(looked.name)}.ctid`
  const middle = `'(${Math.floor(looked.pages / 2)},0)'::tid`
  const [first, second] = [query(`${place} < ${middle}`), query(`${place} >= ${middle}`)]
  const beside = withClient(
    pool,
    async (other) => {
      await other.query(prologue({ timeoutMs, sharing: escapeLiteral(rows[0]?.name ?? "") }))
      const found = await ask(other, second)
      await other.query("rollback")
      return found
    },
    deadlineOf(timeoutMs),
  )
  // Whatever was wrong with the other connection is not wrong with this one.
  const [ours, theirs] = await Promise.all([ask(client, first), beside.catch(() => null)])
  return [...ours, ...(theirs ?? (await ask(client, second)))]
}

/**
 * Whether the server would read the table from its beginning to its end and let a helper do half of it, and has room for all
 * of it in its memory. A larger one goes through a few of its buffers, which a helper has soon met; a range of pages goes
 * through all of them, and has to write out first what batches left there (340 MB beside 128 MB of memory: 276 ms, with a
 * helper 202 ms).
 */
async function isShared(client: PoolClient, { pages, scan }: Looked): Promise<boolean> {
  const fits = client.query<{ fits: boolean }>(
    `select ${pages} * current_setting('block_size')::bigint <= pg_size_bytes(current_setting('shared_buffers')) as fits`,
  )
  const [room, plan] = await Promise.all([fits, statement(client, `explain (costs off) ${scan.text}`, scan.values)])
  const lines = plan.rows as Record<string, string>[]
  return room.rows[0]?.fits === true && lines.some((line) => Object.values(line)[0]?.includes("Parallel Seq Scan"))
}
