import type pg from "pg"

const tables = [
  "scoring_config",
  "assessment_sessions",
  "assessment_responses",
  "profiles",
  "profile_answers",
  "fc_scores",
]

/** Writes down each row that anybody inserts, updates or deletes in the staging world. */
export async function watchEffects(pool: pg.Pool): Promise<void> {
  await pool.query(`create table seen_effects (relation text not null, operation text not null);
    create function see_effect() returns trigger language plpgsql as $$
    begin
      insert into seen_effects values (tg_table_name, lower(tg_op));
      return null;
    end $$`)
  for (const table of tables)
    await pool.query(`create trigger see_effect after insert or update or delete on ${table}
      for each row execute function see_effect()`)
}

/** `table operation` -> rows. */
export async function countEffects(pool: pg.Pool): Promise<Record<string, number>> {
  const { rows } = await pool.query<{ name: string; n: number }>(
    "select relation || ' ' || operation as name, count(*)::int as n from seen_effects group by 1 order by 1",
  )
  return Object.fromEntries(rows.map((row) => [row.name, row.n]))
}

/** What `plans/staging.yaml` does, once. */
export const effectsOfTheStagingPlan: Record<string, number> = {
  "assessment_responses delete": 6,
  "assessment_responses insert": 6,
  "assessment_sessions delete": 1,
  "assessment_sessions insert": 1,
  "assessment_sessions update": 1,
  "profile_answers delete": 2,
  "profile_answers insert": 2,
  "profiles delete": 1,
  "profiles insert": 1,
  "scoring_config update": 1,
}
