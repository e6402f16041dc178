import type { Failure } from "../rollback/facts.ts"
import type { StepContext } from "./step.ts"
import { withClient } from "./target.ts"

type Holder = { pid: number; age: string | null; state: string | null; query: string | null }

/** Who holds locks that others wait for, for the message of a lock timeout. Null when nobody does any more, or nobody says. */
export async function lockHolders({
  target,
  secrets,
}: Pick<StepContext, "target" | "secrets">): Promise<string | null> {
  const { pool } = target
  if (!pool) return null
  try {
    const { rows } = await withClient(
      pool,
      (client) =>
        client.query<Holder>(
          `select pid, date_trunc('second', now() - xact_start)::text as age, state, left(query, 120) as query
       from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
         and exists (select 1 from pg_locks l where l.pid = pg_stat_activity.pid and l.granted and l.mode like '%Exclusive%' and l.locktype in ('relation', 'transactionid', 'tuple'))
       order by xact_start limit 3`,
        ),
      5_000,
    )
    return rows.length === 0 ? null : rows.map((row) => describe(row, secrets.redact)).join("; ")
  } catch {
    return null
  }
}

function describe({ pid, age, state, query }: Holder, redact: (text: string) => string): string {
  return age === null
    ? `held by pid ${pid}, of which this role may see no more: grant it pg_read_all_stats`
    : `held by pid ${pid} for ${age} (${state ?? "?"}): ${redact(query ?? "")}`
}

/** The same behind a note of the rehearsal, where it was a lock that was waited for. */
export async function withHolders(
  { code }: Pick<Failure, "code">,
  note: string,
  context: Pick<StepContext, "target" | "secrets">,
): Promise<string> {
  const holders = code === "55P03" ? await lockHolders(context) : null
  return holders === null ? note : `${note}: ${holders}`
}
