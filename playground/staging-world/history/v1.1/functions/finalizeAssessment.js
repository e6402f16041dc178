export const version = "v1.1"

const sample = [4, 2, 5, 3, 4, 1].map((value, index) => ({ question: index + 1, value }))

/** Scores a session and stores its profile. Called again for the same session it answers with the profile that is there. */
export async function handler({ session_id: session, discard }, { query, config }) {
  if (discard) return discardProfile(session, query)
  const configured = await config("results_version")
  if (configured !== version) throw new Error(`results_version is ${configured}, this finalizeAssessment computes ${version}`)
  const test = session === "test_session_id"
  const responses = test ? sample : await readResponses(session, query)
  const minimum = await config("minimum_responses")
  if (responses.length < minimum) throw new Error(`session ${session} has ${responses.length} of ${minimum} responses`)
  const answers = summarise(responses, await config("dimensions"))
  const scores = score(answers, await config("prism_engine"))
  const profile = test ? null : await storeProfile({ session, answers, scores, configured }, query)
  return { results_version: configured, scores, profile_id: profile }
}

async function readResponses(session, query) {
  return query("select question, value from assessment_responses where session_id = $1 order by question", [session])
}

function summarise(responses, dimensions) {
  return Object.entries(dimensions).map(([dimension, questions]) => {
    const values = responses.filter(({ question }) => questions.includes(question)).map(({ value }) => value)
    const sum = values.reduce((total, value) => total + value, 0)
    return { dimension, answered: values.length, mean: values.length === 0 ? 0 : sum / values.length }
  })
}

function score(answers, engine) {
  const scale = ({ dimension, mean }) => 50 + (mean - engine.midpoint) * engine.spread * engine.weights[dimension]
  return Object.fromEntries(answers.map((answer) => [answer.dimension, Math.round(scale(answer) * 10) / 10]))
}

async function storeProfile({ session, answers, scores, configured }, query) {
  const [profile] = await query(
    `with profile as (
       insert into profiles (session_id, results_version, version, scores) values ($1, $2, $3, $4)
       on conflict (session_id, results_version) do nothing
       returning id
     ), answers as (
       insert into profile_answers (profile_id, dimension, answered, mean)
       select profile.id, answer.dimension, answer.answered, answer.mean
       from profile, jsonb_to_recordset($5) as answer (dimension text, answered integer, mean numeric)
     ), closed as (
       update assessment_sessions set status = 'completed', completed_at = now()
       where id = $1 and exists (select from profile)
     )
     select id from profile union all select id from profiles where session_id = $1 and results_version = $2`,
    [session, configured, version, JSON.stringify(scores), JSON.stringify(answers)],
  )
  return profile.id
}

/** Takes back what a call stored: the session is open again, as before. */
async function discardProfile(session, query) {
  if (session === "test_session_id") return { discarded: 0 }
  const removed = await query(
    `with removed as (delete from profiles where session_id = $1 returning id), opened as (
       update assessment_sessions set status = 'open', completed_at = null
       where id = $1 and exists (select from removed)
     )
     select id from removed`,
    [session],
  )
  return { discarded: removed.length }
}
