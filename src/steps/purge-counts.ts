import { escapeIdentifier, type Pool, type PoolClient } from "pg"
import { lookInHalves } from "./halves.ts"
import { readSample, samplingOf, unknownDensity, type Density } from "./purge-pace.ts"
import { listedKin, unlistedKin, whereOf, type Family, type Kin } from "./purge-family.ts"
import { allowedRows, describeRange, failure, stepResult } from "./step.ts"
import { bindUsed } from "./sql-text.ts"
import { statement } from "./target.ts"
import type { PurgeStep } from "../plans/plan.ts"
import type { RehearsedStep, StepResult } from "../rollback/facts.ts"

export function splitName(table: string): { schema: string | null; name: string } {
  const parts = table.split(".")
  return parts.length > 1
    ? { schema: parts[0] as string, name: parts.slice(1).join(".") }
    : { schema: null, name: table }
}

function counting(kin: Kin, rootWhere: string, values: readonly unknown[]) {
  const { name, relation } = kin.table
  return bindUsed(
    `select count(*)::int as rows from ${relation} as ${escapeIdentifier(name)} where ${whereOf(kin, rootWhere)}`,
    values,
  )
}

/** Rows of a kin that go with the root's. */
export async function countMatching(
  client: PoolClient,
  kin: Kin,
  rootWhere: string,
  values: readonly unknown[],
): Promise<number> {
  const used = counting(kin, rootWhere, values)
  return ((await statement(client, used.text, used.values)).rows[0] as { rows: number }).rows
}

type Counting = { family: Family; step: PurgeStep; values: readonly unknown[] }
/** The root's leaves: their oids, and how many pages each has. */
type Leaves = { oids: readonly string[]; pages: readonly number[] }

/** The root's rows, by two connections where the table is large. */
export async function countRoot(
  { pool, client, timeoutMs }: { pool: Pool; client: PoolClient; timeoutMs: number },
  { family: { root }, step, values }: Counting,
  { pages }: Leaves,
): Promise<number> {
  const count = (within: string) => counting(root, `(${step.where}) and ${within}`, values)
  const halves = await lookInHalves(
    { pool, client, timeoutMs },
    // Of several leaves, or with a condition that looks at all of them, half of the work would be done twice.
    { name: root.table.name, pages: pages.length > 1 || step.whole ? 0 : (pages[0] ?? 0), scan: count("true") },
    count,
  )
  return halves.reduce((sum: number, half) => sum + (half as { rows: number }).rows, 0)
}

/**
 * Where about `rows` rows are, by a sample of the table's pages: a batch that comes from where nothing matches would take
 * far too many. Not taken note of by the count, which may need no more than an index.
 */
export async function findDensity(
  client: PoolClient,
  { family: { root }, step, values }: Counting,
  { oids, pages }: Leaves,
  rows: number,
): Promise<Density> {
  // None can be asked for, or all of it is one batch.
  if (pages.every((n) => n === 0) || step.whole) return unknownDensity
  const { share, every } = samplingOf(pages, rows)
  const name = escapeIdentifier(root.table.name)
  const used = bindUsed(
    `select string_agg(concat(${name}.tableoid, ${name}.ctid), ' ') as sample
       from ${root.table.relation} as ${name} tablesample system (${share * 100})
       where hashtid(${name}.ctid) % ${every} = 0 and (${step.where})`,
    values,
  )
  const found = (await statement(client, used.text, used.values)).rows[0] as { sample: string | null }
  return readSample(found.sample, oids, every / share)
}

/** Rows that match, of the table and of each that goes along; a row of a table that the plan does not list is an error. */
export async function countFamily(client: PoolClient, { family, step, values }: Counting, known?: number) {
  const count = (kin: Kin) => countMatching(client, kin, `(${step.where})`, values)
  const rows = known ?? (await count(family.root))
  const children: RehearsedStep["children"] = []
  for (const kin of listedKin(family).slice(1))
    children.push({
      table: kin.table.name,
      rows: await count(kin),
      action: kin.action === "delete" ? "cascade" : "set null",
    })
  let unlisted: string | null = null
  for (const kin of unlistedKin(family)) {
    const found = await count(kin)
    if (found > 0)
      unlisted ??= `${found} rows of ${kin.table.name} refer to them: list it in cascade, or remove those first`
  }
  return { rows, children, unlisted }
}

export async function countTable(client: PoolClient, family: Family): Promise<number> {
  const { rows } = await statement(client, `select count(*)::int as rows from ${family.root.table.relation}`, [])
  return (rows[0] as { rows: number }).rows
}

/**
 * Why a condition that reads what it removes cannot be evaluated once for all of it. `pages`: null before they are known;
 * rows without pages are those of a server that cannot be asked for a range of them.
 */
export function wholeProblem(
  step: PurgeStep,
  family: Family,
  { pages, rows }: { pages: readonly number[] | null; rows: number },
): string | null {
  if (step.whole === undefined) return null
  if (family.leaves.length === 1 && (pages?.[0] !== 0 || rows === 0)) return null
  const why = family.leaves.length > 1 ? "it is partitioned" : "the server is older than version 14"
  return `the condition reads what it removes from ${family.root.table.name} and cannot be evaluated once, since ${why}: use a "sql" step with a DELETE`
}

/** Two shares with as many decimals as it takes to see that the first is the larger. */
function percents(share: number, most: number): [string, string] {
  const texts = (digits: number) => [share, most].map((one) => String(Number((one * 100).toFixed(digits))))
  const [seen = "", allowed = ""] =
    [0, 1, 2, 4].map(texts).find(([a, b]) => Number(a) > Number(b) && Math.abs(Number(b) - most * 100) < 1e-9) ??
    texts(6)
  return [seen, allowed]
}

/** Why so many rows may not go; null when they may. */
export function capProblem(step: PurgeStep, rows: number, total: number): string | null {
  if (rows > step.atMost) return `${rows} rows match, at most ${step.atMost} may go: raise at_most when that is right`
  const share = total === 0 ? 0 : rows / total
  if (share <= step.maxShare) return null
  const [seen, allowed] = percents(share, step.maxShare)
  return `${rows} of ${total} rows are ${seen} % of the table, at most ${allowed} % may go: raise max_share when that is right`
}

/** Rows that the approval allows at the most. */
export function allowedRowsMax(step: PurgeStep, counted: number | null): number {
  return allowedRows(step.expectRows, counted)?.max ?? 0
}

/** Whether this many rows is what was approved. Null when it is. */
export function countProblem(step: PurgeStep, counted: number | null, rows: number): StepResult | null {
  const allowed = allowedRows(step.expectRows, counted)
  if (allowed === null)
    return stepResult({
      outcome: "failed",
      failure: failure(
        "not_rehearsed",
        "how many rows to expect was not known when this was approved: ask again when the target can be looked at",
      ),
    })
  if (rows >= allowed.min && rows <= allowed.max) return null
  return stepResult({
    outcome: "failed",
    rows,
    failure: failure(
      "row_count",
      `${rows} rows match now, ${describeRange(allowed)} were approved; nothing was deleted`,
      { statement: step.where },
    ),
  })
}
