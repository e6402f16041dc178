import type { PoolClient } from "pg"
import type { SqlStep, StatementFacts } from "../plans/plan.ts"
import type { ChildRows, Failure } from "../rollback/facts.ts"
import { actedOnBySet, computedKey, findRelation, type Follower, type TableFacts } from "./catalog.ts"
import { bindUsed, changedThrough, childrenOf, followedBy, lockRows } from "./sql-text.ts"
import { failure } from "./step.ts"
import { statement } from "./target.ts"

/** Why the rows as they were could not be kept. */
export function keepingProblem(step: SqlStep, table: TableFacts): string | null {
  if (step.irreversible !== null) return null
  if (table.isView) return `${table.name} is not a plain table: its rows cannot be kept; say irreversible and why`
  if (table.primaryKey.length === 0)
    return `${table.name} has no primary key: its rows cannot be kept; say irreversible and why`
  if (step.facts.verb === "delete" && table.heirs.length > 0)
    return `${table.heirs.join(", ")} inherits from ${table.name}, and rows of it would go with columns that cannot be kept: say irreversible and why`
  const rules = ruleProblem(step.facts.verb, table)
  if (rules !== null) return `${rules}, which nothing keeps: say irreversible and why`
  const moved = step.facts.set.find((item) => table.primaryKey.includes(item.column))
  if (moved)
    return `${moved.column} is part of the primary key: changing it cannot be taken back; say irreversible and why`
  const made = step.facts.set.find((item) => table.columns.some(({ name, always }) => always && name === item.column))
  if (made)
    return `${made.column} is given by the server alone (generated always): its value cannot be given back; say irreversible and why`
  const computed = computedKey(table)
  if (step.facts.verb === "update" && computed !== undefined)
    return `${computed} of the primary key is computed from other columns: what becomes of a row could not be followed; say irreversible and why`
  const set = new Set(step.facts.set.map((item) => item.column))
  const cut = table.followers.find(({ action, through }) => action !== "c" && through.some((name) => set.has(name)))
  return cut ? cutWords(cut) : null
}

const cutWords = ({ table, parentColumns }: Follower) =>
  `rows of ${table} that refer to ${parentColumns.join(", ")} would lose that unkept: say irreversible and why`

/** Rules that say what a write does, or the one that takes it back; null when there are none. */
export function ruleProblem(verb: string, { name, rules }: TableFacts): string | null {
  const meant = rules.filter(({ on }) => (verb === "update" ? on === "update" : on !== "update"))
  return meant.length === 0
    ? null
    : `what a write to ${name} does is for its rules to say (${meant.map((rule) => rule.name).join(", ")})`
}

/** Why what was kept is not what the UPDATE changed: between the two of them others may have moved what it matches. */
export function keptProblem(
  kept: number,
  updated: number,
  { rows, spared }: { rows: number; spared: number },
): Failure | null {
  if (kept !== updated)
    return failure("40001", `rows changed while they were being kept: ${kept} kept, ${updated} matched`)
  if (spared > 0)
    return failure("40001", `rows changed while they were being kept: ${spared} of ${kept} are others now`)
  if (rows < kept)
    return failure(
      "cannot_keep",
      `${kept - rows} of ${kept} rows are not there under their key when they have been changed: a trigger moves or removes them; say irreversible and why`,
    )
  return rows > kept
    ? failure(
        "cannot_keep",
        `rows of tables that inherit from it have the same key (${rows} for ${kept}): say irreversible and why`,
      )
    : null
}

function actionOf({ action }: { action: "c" | "n" | "d" }): ChildRows["action"] {
  return action === "c" ? "cascade" : action === "n" ? "set null" : "set default"
}

export const noParents: { locked: number | null; problem: Failure | null } = { locked: null, problem: null }

/**
 * Locks the rows of a DELETE that others may refer to, and counts those again: one that came meanwhile would go along. `locked`:
 * how many there are; null where nobody refers to the table.
 */
export async function lockParents(
  client: PoolClient,
  step: SqlStep,
  table: TableFacts,
  values: string[],
): Promise<typeof noParents> {
  if (table.children.length === 0) return noParents
  const locked = (await statement(client, ...bound(lockRows(step.facts), values))).rowCount
  const [child] = await countChildren(client, step, table, values)
  const problem = child
    ? failure(
        "children",
        `${child.rows} rows of ${child.table} would go along (${child.action}) without being kept: use purge`,
      )
    : null
  return { locked, problem }
}

/** Rows of other tables that a DELETE would take along or change. */
export async function countChildren(
  client: PoolClient,
  step: SqlStep,
  table: TableFacts,
  values: string[],
): Promise<ChildRows[]> {
  const found: ChildRows[] = []
  for (const child of table.children) {
    const counted = await statement(client, ...bound(childrenOf(step.facts, child), values))
    const rows = (counted.rows[0] as { rows: number }).rows
    if (rows > 0) found.push({ table: child.table, rows, action: actionOf(child) })
  }
  return found
}

/** Rows of other tables that get the new value of what they refer to, or lose it. */
export async function countFollowing(
  followers: readonly Follower[],
  count: (follower: Follower) => Promise<number>,
): Promise<ChildRows[]> {
  const found: ChildRows[] = []
  for (const follower of followers.filter(({ seen }) => seen)) {
    const [{ table }, action, rows] = [follower, actionOf(follower), await count(follower)]
    const known = found.find((one) => one.table === table && one.action === action)
    if (known) known.rows += rows
    else if (rows > 0) found.push({ table, rows, action })
  }
  return found
}

/** Rows that follow and that this role may not count. */
export function unseenFollowing(facts: StatementFacts, table: TableFacts): string[] {
  const unseen = actedOnBySet(table, facts.set).filter(({ seen }) => !seen)
  return unseen.map(
    (each) => `rows of ${each.table} change with it by ${actionOf(each)}, and this role cannot see how many`,
  )
}

/** The table, and those whose rows get a new value with its own. */
export async function writtenWith(client: PoolClient, { facts }: SqlStep, table: TableFacts): Promise<TableFacts[]> {
  const found: TableFacts[] = [table]
  for (const { relation } of actedOnBySet(table, facts.set)) {
    const one = await findRelation(client, relation)
    if (one !== null && found.every((known) => known.relation !== one.relation)) found.push(one)
  }
  return found
}

/** What followed an UPDATE. A trigger, or a column that the server computes, may have changed what others refer to as well. */
export async function whatFollowed(
  client: PoolClient,
  table: TableFacts,
  keys: readonly [rollbackId: string, stepId: string],
): Promise<{ following: ChildRows[]; problem: Failure | null }> {
  for (const cut of table.followers.filter(({ action }) => action !== "c")) {
    const { rowCount } = await statement(client, changedThrough(table, cut, "1"), keys)
    if ((rowCount ?? 0) > 0) return { following: [], problem: failure("cannot_keep", cutWords(cut)) }
  }
  return { following: await countFollowed(client, table, keys), problem: null }
}

/** Rows that refer to what the step left: they got it with its rows, and would get what was there before with them too. */
export function countFollowed(
  client: PoolClient,
  table: TableFacts,
  keys: readonly [rollbackId: string, stepId: string],
): Promise<ChildRows[]> {
  return countFollowing(
    table.followers.filter(({ action }) => action === "c"),
    async (follower) => ((await statement(client, followedBy(table, follower), keys)).rows[0] as { rows: number }).rows,
  )
}

/** "5 in answers with them, by cascade" */
export function followingWords(following: readonly ChildRows[]): string[] {
  return following.map(({ table, rows }) => `${rows} in ${table} with them, by cascade`)
}

/** A text of ours with those of the step's parameters that it uses. */
export function bound(text: string, values: readonly unknown[]): [string, unknown[]] {
  const used = bindUsed(text, values)
  return [used.text, used.values]
}

/** Triggers that wait for the commit fire here: what they make of rows is seen, and kept as what the step left. */
export async function fireDeferred(client: PoolClient, { triggers }: TableFacts): Promise<void> {
  if (triggers.length > 0) await client.query("set constraints all immediate")
}
