export const version = "v1.2"

const sample = { 1: 4, 2: 2, 3: 5, 4: 3, 5: 4, 6: 1 }

/** The forced-choice score of a session; stored once per session and version. */
export async function handler({ session_id: session }, { query, config }) {
  const test = session === "test_session_id"
  const values = test ? sample : await readValues(session, query)
  const settings = await config("fc_settings")
  const scores = { first: 0, second: 0 }
  for (const [first, second] of settings.pairs) {
    if (values[first] === values[second]) {
      scores.first += settings.tie
      scores.second += settings.tie
    } else scores[values[first] > values[second] ? "first" : "second"] += settings.points
  }
  if (!test) await storeScores(session, scores, query)
  return { scores }
}

async function readValues(session, query) {
  const rows = await query("select question, value from assessment_responses where session_id = $1", [session])
  if (rows.length === 0) throw new Error(`session ${session} has no responses`)
  return Object.fromEntries(rows.map((row) => [row.question, row.value]))
}

async function storeScores(session, scores, query) {
  await query(
    `insert into fc_scores (session_id, version, scores) values ($1, $2, $3)
     on conflict (session_id, version) do update set scores = excluded.scores`,
    [session, version, JSON.stringify(scores)],
  )
}
