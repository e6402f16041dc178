import type { Pool } from "pg"

/** What the bot and the workers do in each table, and no more: nobody updates or deletes what is written for good. */
export const runtimeRights: Readonly<Record<string, readonly string[]>> = {
  analyses: ["select", "insert", "update"],
  approvals: ["select", "insert", "update"],
  audit: ["select", "insert"],
  baseline_requests: ["select", "insert", "update"],
  baselines: ["select", "insert", "delete"],
  cards: ["select", "insert"],
  confirmations: ["select", "insert", "update"],
  counters: ["select", "update"],
  escalations: ["select", "insert", "update"],
  hook_events: ["select", "insert", "update"],
  migrations: ["select"],
  notes: ["select", "insert", "update"],
  outbox: ["select", "insert", "update", "delete"],
  requests: ["select", "insert"],
  rollbacks: ["select", "insert", "update"],
  second_looks: ["select", "insert", "update", "delete"],
  step_runs: ["select", "insert", "update"],
  watches: ["select", "insert", "update"],
  workers: ["select", "insert", "update"],
}

/** Grants for a role that runs Stepback and cannot change its tables or its audit; to be run by the owner, safe to repeat. */
export function runtimeRoleSql(role: string, queueSchema: string): string {
  const name = `"${role.replaceAll('"', '""')}"`
  const grants = Object.entries(runtimeRights).map(
    ([table, rights]) => `grant ${rights.join(", ")} on stepback.${table} to ${name};`,
  )
  return `-- The role that bot and workers run as. Run this as the owner of the tables, after \`stepback state init\` and again after
-- each upgrade. Give the role a password (\\password ${role} in psql) and put it into DATABASE_URL of the processes.
do $$ begin create role ${name} login; exception when duplicate_object then null; end $$;
revoke all on all tables in schema stepback from ${name};
grant usage on schema stepback to ${name};
${grants.join("\n")}
grant usage on all sequences in schema stepback to ${name};
grant execute on all functions in schema stepback to ${name};

-- The queue, where it lives in this database (no REDIS_URL). It is a doorbell: all of it may be lost. It makes a sequence
-- of its own at its first job.
do $$ begin
  if exists (select from pg_namespace where nspname = '${queueSchema}') then
    grant usage, create on schema ${queueSchema} to ${name};
    grant select, insert, update, delete on all tables in schema ${queueSchema} to ${name};
    grant usage on all sequences in schema ${queueSchema} to ${name};
    grant execute on all functions in schema ${queueSchema} to ${name};
  end if;
end $$;
`
}

/** Tables on which this connection's role lacks a right that it needs; and whether it could change the audit. */
export async function checkRights(pool: Pool): Promise<{ lacking: string[]; changesAudit: boolean }> {
  const wanted = Object.entries(runtimeRights).flatMap(([table, rights]) => rights.map((right) => [table, right]))
  const { rows } = await pool.query<{ table: string; right: string }>(
    `select w."table", w."right" from unnest($1::text[], $2::text[]) as w("table", "right")
     join pg_class c on c.relname = w."table" and c.relnamespace = 'stepback'::regnamespace
     where not has_table_privilege(c.oid, w."right")`,
    [wanted.map(([table]) => table), wanted.map(([, right]) => right)],
  )
  const { rows: changes } = await pool.query<{ may: boolean }>(
    "select has_table_privilege('stepback.audit', 'update, delete, truncate, trigger') as may",
  )
  return { lacking: rows.map(({ table, right }) => `${right} on ${table}`), changesAudit: changes[0]?.may === true }
}
