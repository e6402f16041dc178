import type { Pool, PoolClient } from "pg"
import { StepbackError } from "../errors.ts"
import type { BaselineRules } from "../plans/plan.ts"
import type { TableDifference } from "../rollback/baseline-facts.ts"
import type { KeptSnapshot } from "./baseline.ts"
import { changesOf, judge } from "./restore-plan.ts"
import { openTable, readNow, showingOf } from "./restore-table.ts"
import type { Secrets } from "./secrets.ts"
import { looking } from "./target.ts"

/** More than this is not read by anybody. */
const mostChanges = 200
const compareTimeoutMs = 30_000

type Comparing = { kept: KeptSnapshot; rules: BaselineRules; redact: readonly string[]; secrets: Secrets }

/** How the plan's baseline tables differ from a snapshot: now → then. */
export function compareBaseline(pool: Pool, comparing: Comparing): Promise<TableDifference[]> {
  return looking(pool, compareTimeoutMs, async (client) => {
    const tables: TableDifference[] = []
    for (const rule of comparing.rules.tables) tables.push(await compareTable(client, rule, comparing))
    return tables
  })
}

async function compareTable(
  client: PoolClient,
  rule: BaselineRules["tables"][number],
  { kept, redact, secrets }: Comparing,
): Promise<TableDifference> {
  const opened = await openTable(
    client,
    { table: rule.table, irreversible: "only a look" },
    { kept, after: null, key: rule.key, ignore: rule.ignore },
  )
  if ("problem" in opened) return { table: rule.table, rows: 0, changes: [], problem: opened.problem }
  const { going } = judge({ ...opened.snapshots, now: await readNow(client, opened), keys: null, left: new Set() })
  const showing = showingOf(opened, { redact, secrets })
  return {
    table: rule.table,
    rows: going.length,
    changes: going.flatMap((row) => changesOf(row, showing)).slice(0, mostChanges),
    problem: null,
  }
}

/** A snapshot's name as people give it. Throws with the way out. */
export function checkName(name: string): string {
  if (/^[a-z0-9][a-z0-9_-]{0,39}$/.test(name)) return name
  throw new StepbackError(
    "refused",
    `"${name}" is no name for a snapshot: lower-case letters, digits, - and _, at most 40`,
  )
}
