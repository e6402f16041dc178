import { escapeIdentifier, type PoolClient } from "pg"
import { errorCode } from "../errors.ts"
import type { TableFacts } from "./catalog.ts"
import type { Demands } from "./blocked.ts"
import { nextTurn } from "./restore-blocked.ts"
import type { Going } from "./restore-plan.ts"
import { statement } from "./target.ts"

const id = escapeIdentifier

export type Applying = {
  table: TableFacts
  key: readonly string[]
  compared: readonly string[]
  demands: Demands
  rollbackId: string
  stepId: string
}
export type Applied = { updated: number; removed: number; inserted: number }

/**
 * Puts rows back and keeps what they replace. Removals first, so that their values are free again; undo goes the other
 * way. A row that is no longer as it was read is not touched: the counts then say so. Rows that refer to others of the table
 * may need those before: then rows that are missing come first, and those that are too many go last.
 */
export async function applyGoing(client: PoolClient, going: readonly Going[], applying: Applying): Promise<Applied> {
  await client.query("savepoint stepback_order")
  try {
    return await applyAll(client, going, applying, ["removed", "updated", "inserted"])
  } catch (error) {
    if (!["23503", "23001"].includes(errorCode(error))) throw error
    await client.query("rollback to savepoint stepback_order")
    return applyAll(client, going, applying, ["inserted", "updated", "removed"])
  }
}

async function applyAll(
  client: PoolClient,
  going: readonly Going[],
  applying: Applying,
  order: readonly (keyof Applied)[],
): Promise<Applied> {
  const { table, demands, rollbackId, stepId } = applying
  const run = async (sql: string, lists: string[][]) =>
    lists[0]?.length === 0
      ? 0
      : ((await statement(client, sql, [...lists, rollbackId, stepId, table.relation])).rowCount ?? 0)
  const nowTexts = (rows: readonly Going[]) => rows.map((row) => row.now?.row ?? "")
  const baseTexts = (rows: readonly Going[]) => rows.map((row) => row.base?.row ?? "")
  const ways: Record<keyof Applied, () => Promise<number>> = {
    removed: () => run(removal(applying), [nowTexts(going.filter((row) => row.base === null))]),
    updated: async () => {
      let updated = 0
      for (let rest = going.filter((row) => row.base !== null && row.now !== null); rest.length > 0;) {
        const turn = new Set(await nextTurn(client, applying, rest, demands))
        updated += await run(update(applying), [baseTexts([...turn]), nowTexts([...turn])])
        rest = rest.filter((row) => !turn.has(row))
      }
      return updated
    },
    inserted: () => run(insertion(applying), [baseTexts(going.filter((row) => row.now === null))]),
  }
  const applied: Applied = { removed: 0, updated: 0, inserted: 0 }
  for (const way of order) applied[way] = await ways[way]()
  return applied
}

function keep(operation: string, values: string, first: number): string {
  return `insert into stepback_ledger.before_images (rollback_id, step_id, relation, operation, row_text, after_text)
    select $${first}::uuid, $${first + 1}::text, $${first + 2}::text, '${operation}', ${values} from done`
}

const onKey = (key: readonly string[]) => key.map((name) => `stepback_t.${id(name)} = (o.r).${id(name)}`).join(" and ")

/** Params: rows as they are; rollback, step, relation. */
function removal({ table: { relation }, key }: Applying): string {
  return `with o as (select u.r::${relation} as r, u.r as now_text from unnest($1::text[]) u (r)),
    done as (delete from ${relation} stepback_t using o where ${onKey(key)} and (stepback_t.*)::text = o.now_text
      returning (stepback_t.*)::text as old_text)
    ${keep("delete", "old_text, null", 2)}`
}

/** Params: rows as they were, rows as they are; rollback, step, relation. */
function update({ table: { relation }, key, compared }: Applying): string {
  return `with o as (select u.base::${relation} as r, u.now_text from unnest($1::text[], $2::text[]) u (base, now_text)),
    done as (update ${relation} stepback_t set ${compared.map((name) => `${id(name)} = (o.r).${id(name)}`).join(", ")}
      from o where ${onKey(key)} and (stepback_t.*)::text = o.now_text
      returning o.now_text as old_text, (stepback_t.*)::text as new_text)
    ${keep("update", "old_text, new_text", 3)}`
}

/** Params: rows as they were; rollback, step, relation. */
function insertion({ table: { relation, columns }, key }: Applying): string {
  const stored = columns.filter((column) => !column.generated).map((column) => id(column.name))
  return `with o as (select u.r::${relation} as r from unnest($1::text[]) u (r)),
    done as (insert into ${relation} as stepback_t (${stored.join(", ")}) overriding system value
      select ${stored.map((name) => `(o.r).${name}`).join(", ")} from o
      where not exists (select 1 from ${relation} stepback_t where ${onKey(key)}) returning (stepback_t.*)::text as new_text)
    ${keep("insert", "new_text, null", 2)}`
}

/** Why rows cannot be changed or removed: others refer to them and would be emptied, or go along, unkept. Null when they can. */
export async function childrenProblem(
  client: PoolClient,
  table: TableFacts,
  going: readonly Going[],
  /** The key by which the rows are locked first: who wants to refer to one of them waits from then on. Null: only looking. */
  lockBy: readonly string[] | null,
): Promise<string | null> {
  const cut = await cutProblem(client, table, going)
  if (cut !== null) return cut
  const gone = going.flatMap((row) => (row.base === null && row.now !== null ? [row.now.row] : []))
  if (gone.length === 0) return null
  if (table.heirs.length > 0)
    return `${table.heirs.join(", ")} inherits from ${table.name}: its rows would lose columns that cannot be kept`
  if (table.children.length > 0 && lockBy !== null)
    await statement(
      client,
      `with o as (select u.r::${table.relation} as r from unnest($1::text[]) u (r))
       select 1 from ${table.relation} stepback_t join o on ${onKey(lockBy)} for update of stepback_t`,
      [gone],
    )
  for (const child of table.children) {
    const theirs = child.columns.map((name) => `c.${id(name)}`).join(", ")
    const ours = child.parentColumns.map((name) => `(o.r).${id(name)}`).join(", ")
    const those = `(select u.r::${table.relation} as r from unnest($1::text[]) u (r) offset 0) o`
    // Rows of its own that go as well are kept as well.
    const names = child.self ? table.primaryKey : []
    const others =
      names.length === 0
        ? ""
        : ` and (${names.map((name) => `c.${id(name)}`).join(", ")}) not in (select ${names.map((name) => `(o.r).${id(name)}`).join(", ")} from ${those})`
    const { rows } = await statement(
      client,
      `select count(*)::int as rows from ${child.relation} c where (${theirs}) in (select ${ours} from ${those})${others}`,
      [gone],
    )
    const count = (rows[0] as { rows: number }).rows
    if (count > 0)
      return `${count} rows of ${child.table} refer to rows that would be removed: they would go along without being kept`
  }
  return null
}

/** A foreign key that empties what refers to a value, where that changes. */
async function cutProblem(client: PoolClient, table: TableFacts, going: readonly Going[]): Promise<string | null> {
  const changed = going.flatMap(({ base, now }) =>
    base !== null && now !== null ? [{ base: base.row, now: now.row }] : [],
  )
  if (changed.length === 0) return null
  for (const { table: child, parentColumns, through } of table.followers.filter(({ action }) => action !== "c")) {
    const differs = through.map((name) => `(o.base).${id(name)} is distinct from (o.now).${id(name)}`).join(" or ")
    const { rowCount } = await statement(
      client,
      `select 1 from (select u.base::${table.relation} as base, u.now::${table.relation} as now
         from unnest($1::text[], $2::text[]) u (base, now) offset 0) o where ${differs} limit 1`,
      [changed.map((row) => row.base), changed.map((row) => row.now)],
    )
    if ((rowCount ?? 0) > 0)
      return `rows of ${child} that refer to ${parentColumns.join(", ")} of ${table.name} would lose that without being kept`
  }
  return null
}
