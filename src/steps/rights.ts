import type { PoolClient } from "pg"
import type { StatementFacts } from "../plans/plan.ts"
import type { TableFacts } from "./catalog.ts"
import { statement } from "./target.ts"

type Right = keyof TableFacts["may"]

/** What this role lacks of these, as it is granted. */
export function missingRights({ may }: TableFacts, needs: readonly Right[]): string {
  return needs.flatMap((need) => (may[need] ? [] : [need === "lock" ? "update" : need])).join(", ")
}

/** What a card says where an undo would have to do what this role may not. */
export function withoutUndo(table: TableFacts, ...needs: readonly Right[]): string[] {
  const missing = missingRights(table, needs)
  return missing === "" ? [] : [`an undo could not be run by this role: grant ${missing} on ${table.relation}`]
}

/** An identity's own sequence needs no right; one that a default names does. */
const closedSequences = `select distinct format('%I.%I', n.nspname, s.relname) as name
  from pg_attrdef d join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
    join pg_depend p on p.classid = 'pg_attrdef'::regclass and p.objid = d.oid and p.refclassid = 'pg_class'::regclass
    join pg_class s on s.oid = p.refobjid join pg_namespace n on n.oid = s.relnamespace
  where d.adrelid = to_regclass($1) and a.attname <> all ($2::text[])
    -- Asked of a table it would be an error.
    and case when s.relkind = 'S' then not has_sequence_privilege(s.oid, 'usage, update') end order by 1`

/**
 * Why an INSERT could not fill the columns that it does not name; null when it can. Planning it asks for no sequence. Nothing is
 * said of one that names no column: how many of them it gives is not known.
 */
export async function numbersProblem(
  client: PoolClient,
  { verb, insertColumns }: StatementFacts,
  { relation }: TableFacts,
): Promise<string | null> {
  if (verb !== "insert" || insertColumns.length === 0) return null
  const { rows } = await statement(client, closedSequences, [relation, insertColumns])
  const names = (rows as { name: string }[]).map(({ name }) => name)
  return names.length === 0 ? null : `this role may not take numbers there: grant usage on sequence ${names.join(", ")}`
}
