import type { RehearsedStep, StepResult } from "../../src/rollback/facts.ts"
import { rehearseStep, runStep } from "../../src/steps/definitions.ts"
import type { RunContext } from "../../src/steps/step.ts"
import { contextOf, freshTarget, stepOf } from "./steps-fixture.ts"

const schema = `
  create table orders (id integer primary key, kind text not null, pad text);
  create table lines (id integer primary key, order_id integer references orders on delete cascade);
  create table parcels (id integer primary key, line_id integer references lines on delete cascade);
  create table calls (id integer primary key, order_id integer references orders on delete set null);
  create index on lines (order_id); create index on parcels (line_id); create index on calls (order_id);
  create table loose (id integer primary key, kind text not null);
  create table days (id integer, day date not null, kind text not null, primary key (id, day)) partition by range (day);
  create table days_1 partition of days for values from ('2026-01-01') to ('2026-02-01');
  create table days_2 (kind text not null, day date not null, id integer not null);
  alter table days attach partition days_2 for values from ('2026-02-01') to ('2026-03-01');
  create table day_notes (id integer primary key, day_id integer, day date, foreign key (day_id, day) references days on delete cascade);`

export const fill = `
  truncate orders, lines, parcels, calls, loose, days, day_notes;
  insert into orders select n, case when n % 10 = 0 then 'bad' else 'good' end, repeat('x', 200) from generate_series(1, 2000) n;
  insert into lines select n, n from generate_series(1, 2000) n;
  insert into parcels select n, n from generate_series(1, 2000, 2) n;
  insert into parcels select 10000 + n, n from generate_series(20, 2000, 20) n;
  insert into calls select n, n from generate_series(5, 2000, 5) n;
  insert into loose select n, case when n % 10 = 0 then 'bad' else 'good' end from generate_series(1, 1000) n;
  insert into days select n, date '2026-01-01' + n % 59, case when n % 4 = 0 then 'bad' else 'good' end from generate_series(1, 1000) n;
  insert into day_notes select id, id, day from days where id % 8 = 0`

export type Options = {
  table?: string
  where?: string
  cascade?: string
  batch?: number
  more?: string
  expect?: string
}

/** A target with orders and what hangs on them, and what tests ask of it. */
export async function startOrders() {
  const target = await freshTarget(schema)
  /** `batch: 50`: some 200 rows are several transactions. */
  const purgeOf = ({
    table = "orders",
    where = "kind = 'bad'",
    cascade = "lines, parcels, calls",
    batch = 50,
    more = "",
    expect: rows = "rehearsed",
  }: Options = {}) =>
    stepOf(
      `- { id: p, purge: { table: ${table}, where: "${where}", cascade: [${cascade}], at_most: 5000, max_share: 30%, batch: ${batch} ${more} }, expect: { rows: ${rows} } }`,
    )

  async function rehearse(
    options: Options = {},
  ): Promise<{ rehearsal: RehearsedStep; run(facts?: Partial<RunContext>): Promise<StepResult>; context: RunContext }> {
    const step = await purgeOf(options)
    const context = await contextOf({ pool: target.pools.get(target.url) })
    const rehearsal = await rehearseStep(step, context)
    return { rehearsal, context, run: (facts = {}) => runStep(step, { ...context, rehearsed: rehearsal, ...facts }) }
  }

  const count = async (sql: string) =>
    (await target.admin.query<{ n: number }>(`select count(*)::int as n from ${sql}`)).rows[0]?.n

  /** Rows that the archives have of a run, by their table. */
  async function archived(rollbackId: string): Promise<Record<string, number>> {
    const { rows } = await target.admin.query<{ name: string; relation: string }>(
      "select name, relation from stepback_ledger.archives where rollback_id = $1",
      [rollbackId],
    )
    const found: Record<string, number> = {}
    for (const { name, relation } of rows) {
      const n = (await count(name)) ?? 0
      const table = relation.split(".").at(-1)?.replaceAll('"', "") ?? ""
      if (n > 0) found[table] = (found[table] ?? 0) + n
    }
    return found
  }

  /** The only archive of a run, by its name. */
  async function archiveOf(rollbackId: string): Promise<string> {
    const { rows } = await target.admin.query<{ name: string }>(
      "select name from stepback_ledger.archives where rollback_id = $1",
      [rollbackId],
    )
    if (rows.length !== 1) throw new Error(`${rows.length} archives`)
    return rows[0]?.name ?? ""
  }

  /** Resolves when a statement of ours waits for a lock; one with these words in it, when they are given. */
  async function waitingForLock(words = ""): Promise<void> {
    for (;;) {
      const { rows } = await target.admin.query(
        "select 1 from pg_stat_activity where datname = current_database() and application_name = 'stepback' and wait_event_type = 'Lock' and position($1 in query) > 0",
        [words],
      )
      if (rows.length > 0) return
    }
  }

  /** Resolves when somebody waits for a lock of the whole table. */
  async function queuedForTable(table: string): Promise<void> {
    const waits = "select 1 from pg_locks where locktype = 'relation' and relation = to_regclass($1) and not granted"
    while ((await target.admin.query(waits, [table])).rows.length === 0);
  }

  return { target, purgeOf, rehearse, count, archived, archiveOf, waitingForLock, queuedForTable }
}
