import { escapeIdentifier, type PoolClient } from "pg"
import { blockedBy, oneOf, type Coming, type Demands } from "./blocked.ts"
import { splitName } from "./purge-counts.ts"
import { labelOf, type Going } from "./restore-plan.ts"
import type { Key, Reading } from "./restore-rows.ts"
import { showingOf, type OpenTable } from "./restore-table.ts"
import { some } from "./shown.ts"
import type { BaselineContext, StepContext } from "./step.ts"
import { statement } from "./target.ts"

/** A row that differs and cannot go back, though nobody changed it since. */
export type Blocked = { id: string; key: Key; why: string }

const id = escapeIdentifier

/** Rows that have no place as the baseline has them, and those that go back all the same. */
export async function splitBlocked(
  client: PoolClient,
  opened: OpenTable,
  going: readonly Going[],
  demands: Demands,
): Promise<{ going: Going[]; blocked: Blocked[] }> {
  const blocked: Blocked[] = []
  for (let left = [...going]; ;) {
    const found = await findBlocked(client, opened, left, { demands, spare: "goes too" })
    if (found.size === 0) return { going: left, blocked }
    // What one of them has now it keeps, and that may be in the way of others.
    for (const [at, why] of found) {
      const row = left[at] as Going
      blocked.push({ id: row.id, key: row.key, why })
    }
    left = left.filter((_row, at) => !found.has(at))
  }
}

/**
 * Rows to change next: the server looks at each row by itself, so that one that gives its unique value up comes before the
 * one that gets it. Where they wait for each other all of them are next, which is right where that is looked at in the end.
 */
export async function nextTurn(
  client: PoolClient,
  reading: Reading,
  rows: readonly Going[],
  { uniques }: Demands,
): Promise<Going[]> {
  const found = await findBlocked(client, reading, rows, {
    demands: { uniques: uniques.filter(({ atOnce }) => atOnce), parents: [], checks: [] },
    spare: "itself",
  })
  return found.size === rows.length ? [...rows] : rows.filter((_row, at) => !found.has(at))
}

/** Places in the list of rows that are blocked, with the reason. `spare`: rows whose values are no obstacle. */
async function findBlocked(
  client: PoolClient,
  { table, key, compared }: Reading,
  rows: readonly Going[],
  { demands, spare }: { demands: Demands; spare: "goes too" | "itself" },
): Promise<Map<number, string>> {
  if (Object.values(demands).every((some) => some.length === 0) || rows.every(({ base }) => base === null))
    return new Map()
  const coming = (has: readonly string[]): Coming => ({
    star: "(o.base).*",
    column: (name) => `(o.base).${id(name)}`,
    has,
  })
  const stored = table.columns.filter((column) => !column.generated).map((column) => column.name)
  const same = (owner: string) => key.map((name) => `(${owner}.now).${id(name)} = stepback_x.${id(name)}`).join(" and ")
  // Itself first, as an undo has it.
  const spared =
    spare === "itself"
      ? same("o")
      : `${same("o")} or ${oneOf(key, "stepback_o.now", "o stepback_o where not stepback_o.comes")}`
  const { rows: found } = await statement(
    client,
    `with o as (select u.n::int - 1 as at, u.base is null as goes, u.now is null as comes, u.base::${table.relation} as base, u.now::${table.relation} as now
       from unnest($1::text[], $2::text[]) with ordinality u (base, now, n)),
     judged as (select at, case when goes then null when comes then ${blockedBy(table, demands, coming(stored), spared)}
       else ${blockedBy(table, demands, coming(compared), spared)} end as why from o)
     select at, why from judged where why is not null`,
    [rows.map(({ base }) => base?.row ?? null), rows.map(({ now }) => now?.row ?? null)],
  )
  return new Map((found as { at: number; why: string }[]).map(({ at, why }) => [at, why]))
}

/** For a card: a parent that is not there yet may come with another step of the run, which writes to its table. */
export function withoutOthers(parents: Demands["parents"], { others }: BaselineContext): Demands["parents"] {
  const written = others.flatMap(({ step }) => {
    if (step.kind === "restore") return [splitName(step.table).name]
    return step.kind === "sql" && step.facts.table ? [step.facts.table.name] : []
  })
  return parents.filter(({ name }) => !written.includes(name))
}

const mostNamed = 20

/** "1 cannot go back: flags.a (another row has its position)" */
export function blockedLines(blocked: readonly Blocked[], opened: OpenTable, context: StepContext): string[] {
  if (blocked.length === 0) return []
  const showing = showingOf(opened, context)
  const named = blocked.slice(0, mostNamed).map(({ key, why }) => `${labelOf(key, showing)} (${why})`)
  return [`${blocked.length} cannot go back: ${some(named, blocked.length)}`]
}
