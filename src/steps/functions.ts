import type { PoolClient } from "pg"
import { errorCode, errorMessage } from "../errors.ts"
import { listFunctions } from "../plans/statements.ts"
import type { RehearsedStep } from "../rollback/facts.ts"
import { outside } from "./catalog.ts"

/** Functions of the database's own that may do more than give a value, not those of Postgres or of its extensions. */
const functionsQuery = `select p.proname as name, bool_or(p.prosrc ~* '${outside}') as calling from pg_proc p
  where p.proname = any($1) and p.provolatile = 'v' and p.pronamespace <> 'pg_catalog'::regnamespace
    and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
  group by p.proname order by p.proname`

/** What the card says of functions that a statement calls: what they do besides is not kept. */
export async function calledFunctions(
  client: PoolClient,
  sql: string,
): Promise<{ warnings: string[]; raises: string[] }> {
  const names = await listFunctions(sql)
  if (names.length === 0) return { warnings: [], raises: [] }
  const { rows } = await client.query<{ name: string; calling: boolean }>(functionsQuery, [names])
  return {
    warnings: rows.map(({ name }) => `function ${name} is called: what it does besides giving a value is not kept`),
    raises: rows.flatMap(({ name, calling }) => (calling ? [`function ${name} reaches beyond the database`] : [])),
  }
}

/**
 * The look is read-only: a function that the statement calls wanted to write. `kept`: the step says that it can be taken back.
 * `own`: it calls functions of the database's own. Else it took the next number of a sequence, as a column's default does.
 */
export function besides(
  error: unknown,
  { kept, own, warnings }: { kept: boolean; own: boolean; warnings: string[] },
): Partial<RehearsedStep> {
  if (errorCode(error) !== "25006") throw error
  if (!own && errorMessage(error).includes("nextval()"))
    return { outcome: "unknown", note: "it takes numbers of a sequence, which cannot be looked at", warnings }
  const note = "a function that it calls writes, which cannot be looked at"
  return kept
    ? { outcome: "unknown", refused: true, note: `${note} and which nothing keeps: say irreversible and why`, warnings }
    : { outcome: "unknown", note, warnings }
}
