import { execFile } from "node:child_process"
import { promisify } from "node:util"
import pg from "pg"
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest"
import { connectPostgres } from "../../playground/postgres.ts"
import { type StagingWorld, startStagingWorld } from "../../playground/staging-world/staging-world.ts"

const run = promisify(execFile)

let world: StagingWorld
let database: pg.Client

beforeAll(async () => {
  world = await startStagingWorld({ postgres: connectPostgres(inject("postgresUrl")), database: "staging_world_test" })
  database = new pg.Client({ connectionString: world.databaseUrl })
  await database.connect()
})

afterAll(async () => {
  await database.end()
  await world.stop()
})

async function call(name: string, input: object): Promise<{ status: number; body: Record<string, unknown> }> {
  const response = await fetch(`${world.httpUrl}/functions/v1/${name}`, { method: "POST", body: JSON.stringify(input) })
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

/** With nothing but PATH, as a step's command gets it. */
async function script(...command: [string, ...string[]]): Promise<string> {
  const [program, ...args] = command
  const { stdout } = await run(program, args, { cwd: world.repo, env: { PATH: process.env["PATH"] } })
  return stdout.trim()
}

const probe = { session_id: "test_session_id" }

describe("the staging world", () => {
  it("starts at the bad version, broken", async () => {
    const state = await world.state()
    expect(state.resultsVersion).toBe("v1.2.1")
    expect(state.rows).toMatchObject({ badProfiles: 37, badAnswers: 74, badFcScores: 21 })
    expect(Object.values(state.functions).map(({ ref }) => ref)).toEqual(["v1.2.1", "v1.2.1", "v1.2.1"])

    expect(await call("finalizeAssessment", probe)).toMatchObject({
      status: 500,
      body: { error: 'scoring_config has no key "prism_engine_v121"', version: "v1.2.1" },
    })
    expect(await call("score_fc_session", probe)).toMatchObject({ status: 500 })
    expect((await world.state()).rows.errorLogs).toBe(state.rows.errorLogs + 2)
  })

  it("refuses to deploy what the repository does not have", async () => {
    await expect(script("./deploy.sh", "score_prism", "v9")).rejects.toThrow("there is no commit v9")
    await expect(script("./deploy.sh", "score_nothing", "v1.1")).rejects.toThrow("has no function score_nothing")
    expect((await world.state()).functions.score_prism.ref).toBe("v1.2.1")
  })

  it("answers once the configuration and the functions are back", async () => {
    await script("./deploy.sh", "finalizeAssessment", "v1.2.0")
    expect(await call("finalizeAssessment", probe)).toMatchObject({ status: 500, body: { version: "v1.2.0" } })
    await database.query(`update scoring_config set value = '"v1.2.0"' where key = 'results_version'`)
    await Promise.all([
      script("./deploy.sh", "score_prism", "v1.2.0"),
      script("./deploy.sh", "score_fc_session", "v1.1"),
    ])

    const before = await world.state()
    for (const [name, version] of [
      ["finalizeAssessment", "v1.2.0"],
      ["score_prism", "v1.2.0"],
      ["score_fc_session", "v1.1"],
    ] as const) {
      expect(await call(name, probe)).toMatchObject({ status: 200, body: { ok: true, function: name, version } })
    }
    expect((await world.state()).rows).toEqual(before.rows)
    expect(await script("./deployed.sh", "score_fc_session")).toBe(before.functions.score_fc_session.commit)
    expect(before.functions.score_fc_session.ref).toBe("v1.1")
  })

  it("gives a real session one profile of the good version", async () => {
    const session = await answeredSession()
    const first = await call("finalizeAssessment", { session_id: session })
    const again = await call("finalizeAssessment", { session_id: session })
    expect(first).toMatchObject({ status: 200, body: { results_version: "v1.2.0" } })
    expect(again.body["profile_id"]).toBe(first.body["profile_id"])

    const profiles = await database.query(
      "select results_version, version, (select count(*)::int from profile_answers where profile_id = id) as answers from profiles where session_id = $1",
      [session],
    )
    expect(profiles.rows).toEqual([{ results_version: "v1.2.0", version: "v1.2.0", answers: 2 }])
    expect((await call("finalizeAssessment", { session_id: session, discard: true })).body).toMatchObject({
      discarded: 1,
    })
    const { rows } = await database.query("select status, completed_at from assessment_sessions where id = $1", [
      session,
    ])
    expect(rows).toEqual([{ status: "open", completed_at: null }])
  })

  it("keeps a broken function failing whatever is deployed", async () => {
    world.breakFunctions("finalizeAssessment")
    await script("./deploy.sh", "finalizeAssessment", "v1.2.0")
    expect(await call("finalizeAssessment", probe)).toMatchObject({ status: 500 })
    expect(await call("score_prism", probe)).toMatchObject({ status: 200 })
    world.breakFunctions(null)
    expect(await call("finalizeAssessment", probe)).toMatchObject({ status: 200 })
  })
})

async function answeredSession(): Promise<string> {
  const { rows } = await database.query<{ id: string }>("insert into assessment_sessions default values returning id")
  const id = rows[0]?.id ?? ""
  await database.query(
    "insert into assessment_responses (session_id, question, value) select $1, question, 3 from generate_series(1, 6) as question",
    [id],
  )
  return id
}
