import type { Pool } from "pg"

/** The schema as the database has it after all migrations, as text that a person reads and a test compares. */
export async function dumpSchema(pool: Pool): Promise<string> {
  const list = async (query: string) => (await pool.query<{ line: string }>(query)).rows.map((row) => row.line)
  const parts = [
    ["-- Made from the migrations; compared by a test."],
    await list(`
      select 'table ' || c.relname || e'\\n' || string_agg('  ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
        || case when a.attnotnull then ' not null' else '' end
        || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), ''), e'\\n' order by a.attnum) as line
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
      where n.nspname = 'stepback' and c.relkind = 'r' group by c.relname order by c.relname`),
    await list(`
      select 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) as line
      from pg_constraint where connamespace = 'stepback'::regnamespace and contype <> 'n' order by 1`),
    await list(`select indexdef as line from pg_indexes where schemaname = 'stepback' order by indexname`),
    await list(`
      select pg_get_triggerdef(t.oid) as line from pg_trigger t join pg_class c on c.oid = t.tgrelid
      where c.relnamespace = 'stepback'::regnamespace and not t.tgisinternal order by c.relname, t.tgname`),
    await list(`
      select trim(pg_get_functiondef(p.oid)) as line from pg_proc p
      where p.pronamespace = 'stepback'::regnamespace order by p.proname`),
  ]
  return `${parts.map((lines) => lines.join("\n\n")).join("\n\n")}\n`
}
