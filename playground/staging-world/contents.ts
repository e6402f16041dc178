import type pg from "pg"

/** What a rollback may change and an undo has to bring back; `updated_at` says when, and is nobody's data. */
export type Checksums = Record<(typeof checksummed)[number], string>

const checksummed = ["profiles", "profile_answers", "fc_scores", "scoring_config"] as const

export async function readChecksums(pool: pg.Pool): Promise<Checksums> {
  const sums = checksummed.map(
    (table) =>
      `(select md5(coalesce(string_agg(line, e'\\n' order by line), '')) from (
         select (to_jsonb(t) - 'updated_at')::text as line from ${table} as t) as lines) as ${table}`,
  )
  const { rows } = await pool.query<Checksums>(`select ${sums.join(", ")}`)
  const [row] = rows
  if (row === undefined) throw new Error("a select without from gave no row")
  return row
}

/** The bad version is still at work: so many more people finish, each with a profile and its answers. */
export async function addBadProfiles(pool: pg.Pool, count: number): Promise<void> {
  await pool.query(
    `with session as (
       insert into assessment_sessions (id, status, completed_at)
       select gen_random_uuid(), 'completed', now() from generate_series(1, $1::int) returning id
     ), profile as (
       insert into profiles (session_id, results_version, version, scores)
       select id, 'v1.2.1', 'v1.2.1', '{"focus": 310, "drive": 360}' from session returning id
     )
     insert into profile_answers (profile_id, dimension, answered, mean)
     select id, dimension, 3, 15.5 from profile, unnest(array['focus', 'drive']) as dimension`,
    [count],
  )
}

/** Keys that v1.2.1 changed, added and no longer wanted. Functions of either version work with both. */
export async function alignConfiguration(pool: pg.Pool): Promise<void> {
  await pool.query(`with changed as (
    update scoring_config set value = case key
      when 'prism_engine' then jsonb_set(value, '{spread}', '18')
      else jsonb_set(value, '{high}', '70') end, updated_at = now()
    where key in ('prism_engine', 'fit_bands')
  ), added as (
    insert into scoring_config (key, value) values ('alignment', '"v1.2.1"')
  ) delete from scoring_config where key = 'rounding'`)
}

export async function readConfiguration(pool: pg.Pool): Promise<Record<string, unknown>> {
  const { rows } = await pool.query<{ key: string; value: unknown }>("select key, value from scoring_config")
  return Object.fromEntries(rows.map(({ key, value }) => [key, value]))
}

/** Rows that are kept in the archive, by the table that they came from. */
export async function countArchived(pool: pg.Pool): Promise<Record<string, number>> {
  const { rows } = await pool.query<{ name: string; relation: string }>(
    "select name, relation from stepback_ledger.archives",
  )
  const counts: Record<string, number> = {}
  for (const { name, relation } of rows) {
    const counted = await pool.query<{ rows: number }>(`select count(*)::int as rows from ${name}`)
    // It stands there with its schema, quoted.
    const table = /"([^"]+)"$/.exec(relation)?.[1] ?? relation
    counts[table] = (counts[table] ?? 0) + (counted.rows[0]?.rows ?? 0)
  }
  return counts
}
