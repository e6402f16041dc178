import { execFile } from "node:child_process"
import { randomUUID } from "node:crypto"
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { Pool } from "pg"
import { afterAll, beforeAll, beforeEach, describe, expect, inject, it } from "vitest"
import { connectPostgres } from "../../playground/postgres.ts"
import { type StagingWorld, startStagingWorld } from "../../playground/staging-world/staging-world.ts"
import { drawBaseline } from "../../src/bot/blocks/baseline.ts"
import type { Sender } from "../../src/jobs/deliver.ts"
import { prepareRun } from "../../src/jobs/rehearse.ts"
import { capture, serveBaseline, type BaselineDeps } from "../../src/jobs/serve-baselines.ts"
import { createPlanFolder } from "../../src/plans/plan-folder.ts"
import { createSecrets } from "../../src/steps/secrets.ts"
import { createTargetPools } from "../../src/steps/target.ts"
import type { Store } from "../../src/store/store.ts"
import { freshState, log } from "./store-fixture.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

let world: StagingWorld
let state: { url: string; pool: Pool; store: Store }
let folder: string
let targets: ReturnType<typeof createTargetPools>

beforeAll(async () => {
  const name = `baseline_${randomUUID().slice(0, 8)}`
  world = await startStagingWorld({ postgres: connectPostgres(inject("postgresUrl")), database: name })
  state = await freshState()
  folder = await mkdtemp(join(tmpdir(), "stepback-baseline-"))
  targets = createTargetPools(log)
  const plan = await readFile(join(root, "plans/staging.yaml"), "utf8")
  await writeFile(
    join(folder, "staging.yaml"),
    plan.replace("baseline:\n", "redact: [secret]\nbaseline:\n  file: kept/staging.json\n  max_age: 30d\n"),
  )
})
afterAll(async () => {
  await targets.close()
  await Promise.all([state.pool.end(), world.stop()])
  await rm(folder, { recursive: true, force: true })
})
beforeEach(() => state.pool.query("truncate stepback.baselines, stepback.baseline_requests"))

function stepback(...words: string[]): Promise<{ code: number; out: string; err: string }> {
  const env = {
    PATH: process.env["PATH"],
    HOME: tmpdir(),
    DATABASE_URL: state.url,
    STEPBACK_PLANS: folder,
    ...world.env,
  }
  return new Promise((resolve) => {
    const child = execFile(
      join(root, "node_modules/.bin/node"),
      ["src/cli.ts", ...words],
      { cwd: root, env },
      (_error, out, err) => resolve({ code: child.exitCode ?? -1, out, err }),
    )
  })
}

/** A Slack that keeps what it was given; `answers` are used up first. */
function fakeSlack(...answers: ("lost" | "taken")[]) {
  const posted: { key: string; text: string }[] = []
  const sender: Sender = {
    async post({ key, drawn }) {
      const answer = answers.shift()
      if (answer !== "lost") posted.push({ key, text: drawn.text })
      return answer === undefined ? { kind: "sent", channel: "C1", ts: "1.1" } : { kind: "unknown", error: "no answer" }
    },
    update: () => Promise.reject(new Error("nothing is edited here")),
    find: async ({ key }) => (posted.some((one) => one.key === key) ? { kind: "found", ts: "1.1" } : { kind: "none" }),
    findFile: () => Promise.reject(new Error("no file goes with it")),
    remove: () => Promise.reject(new Error("nothing is taken back here")),
    upload: () => Promise.reject(new Error("no file goes with it")),
    permalink: async () => null,
  }
  return { posted, sender }
}

function deps(sender: Sender): BaselineDeps {
  const plans = createPlanFolder(folder)
  return { store: state.store, plans, targets, environment: world.env, log, sender, drawBaseline }
}

const wish = (what: "capture" | "diff", requestKey: string | null = null) =>
  state.store.baselines.request({
    id: randomUUID(),
    environment: "staging",
    what,
    name: "baseline",
    requesterId: "U1ALICE",
    channelId: "C1",
    requestKey,
  })

async function keep(name: string): Promise<void> {
  const loaded = (await createPlanFolder(folder).load()).plans.get("staging")
  if (!loaded) throw new Error("the plan is not valid")
  const { baseline } = await capture(loaded.plan, name, "U1ALICE", createSecrets(world.env), { targets })
  await state.store.baselines.keep(baseline)
}

describe("from the command line", () => {
  it("captures, writes the file, and tells what differs since", async () => {
    const captured = await stepback("baseline", "capture", "staging")
    expect(captured, captured.err).toMatchObject({ code: 0, out: expect.stringContaining("scoring_config: 11 rows") })
    const kept = await state.store.baselines.newest("staging", "baseline")
    const file = JSON.parse(await readFile(join(folder, "kept/staging.json"), "utf8")) as {
      timestamp: string
      sha256: string
      content: unknown
    }
    expect(file).toMatchObject({ timestamp: kept?.capturedAt, environment: "staging", sha256: kept?.sha256 })
    expect(file.content).toEqual(JSON.parse(kept?.content ?? ""))
    expect(await stepback("baseline", "diff", "staging")).toMatchObject({
      code: 0,
      out: expect.stringContaining("staging is as in its baseline"),
    })
    await world.setConfiguration("languages", ["en"])
    const diff = await stepback("baseline", "diff", "staging")
    expect(diff.out).toContain('scoring_config.languages.value ["en"] → ["en", "de", "fr"]')
    await world.setConfiguration("languages", ["en", "de", "fr"])
  })

  it("is what a rehearsal from the command line compares with, as the one of a request does", async () => {
    expect((await stepback("plan", "rehearse", "staging")).out).toContain("no baseline has been captured")
    await stepback("baseline", "capture", "staging")
    const { out } = await stepback("plan", "rehearse", "staging")
    expect(out).toMatch(/baseline: .* old, captured \d{4}/)
    expect(out).not.toContain("no baseline has been captured")
  })

  it("keeps snapshots by name, and refuses with a sentence", async () => {
    expect(await stepback("baseline", "diff", "staging")).toMatchObject({
      code: 1,
      err: expect.stringMatching(/capture it first, with \/rollback baseline \w+ capture/),
    })
    expect(await stepback("baseline", "capture", "staging", "--as", "after")).toMatchObject({
      code: 0,
      out: expect.stringContaining("staging.after.json"),
    })
    expect((await state.store.baselines.list("staging")).map(({ name }) => name)).toEqual(["after"])
    expect(await stepback("baseline", "capture", "stagin")).toMatchObject({
      code: 1,
      err: expect.stringContaining('Did you mean "staging"?'),
    })
    expect(await stepback("baseline", "capture")).toMatchObject({
      code: 1,
      err: expect.stringContaining("An environment is missing"),
    })
    expect(await stepback("baseline", "capture", "staging", "--as", "A b")).toMatchObject({
      code: 1,
      err: expect.stringContaining("is no name"),
    })
  })
})

describe("from Slack, by a worker", () => {
  it("captures and compares, and answers in the channel, once for each request", async () => {
    const { posted, sender } = fakeSlack()
    expect(await wish("capture", "r1")).toBe(true)
    expect(await wish("capture", "r1")).toBe(false)
    expect(await wish("diff")).toBe(true)
    expect(await serveBaseline(deps(sender))).toBe(true)
    expect(await serveBaseline(deps(sender))).toBe(true)
    expect(await serveBaseline(deps(sender))).toBe(false)
    expect(posted.map(({ text }) => text)).toEqual([
      expect.stringContaining("Baseline of staging captured"),
      expect.stringContaining("staging is as in its baseline"),
    ])
  })

  it.each([
    ["arrived all the same", "taken" as const],
    ["was lost", "lost" as const],
  ])("posts one answer when the first post was not heard of and %s", async (_name, fate) => {
    const { posted, sender } = fakeSlack(fate)
    await wish("capture")
    await serveBaseline(deps(sender))
    await state.pool.query("update stepback.baseline_requests set due_at = now()")
    await serveBaseline(deps(sender))
    await serveBaseline(deps(sender))
    expect(posted).toHaveLength(1)
    expect((await state.pool.query("select count(*)::int as n from stepback.baselines")).rows).toEqual([{ n: 1 }])
  })

  it("is served by another worker when the first one died at it", async () => {
    const { posted, sender } = fakeSlack()
    await wish("capture")
    expect(await state.store.baselines.claimRequest(60_000)).toMatchObject({ what: "capture", state: "waiting" })
    expect(await serveBaseline(deps(sender))).toBe(false)
    await state.pool.query("update stepback.baseline_requests set due_at = now()")
    expect(await serveBaseline(deps(sender))).toBe(true)
    expect(posted).toHaveLength(1)
  })

  it.each(["before", "after"])("posts one answer though a worker stood still %s it had answered", async (when) => {
    const { posted, sender } = fakeSlack()
    const [asleep, awake] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const stand = async () => {
      asleep.resolve()
      await awake.promise
    }
    const answer: Store["baselines"]["answer"] = async (...given) => {
      if (when === "before") await stand()
      const answered = await state.store.baselines.answer(...given)
      if (when === "after") await stand()
      return answered
    }
    const store = { ...state.store, baselines: { ...state.store.baselines, answer } }
    await wish("capture")
    const sleeper = serveBaseline({ ...deps(sender), store })
    await asleep.promise
    await state.pool.query("update stepback.baseline_requests set due_at = now()")
    expect(await serveBaseline(deps(sender))).toBe(true)
    awake.resolve()
    await sleeper
    expect(posted).toHaveLength(1)
    expect(await serveBaseline(deps(sender))).toBe(false)
  })

  it("quotes no value of a redacted column when it cannot read the snapshot any more", async () => {
    const pool = targets.get(world.databaseUrl)
    await pool.query("create type mood as enum ('hush'); alter table scoring_config add column secret mood")
    await pool.query("update scoring_config set secret = 'hush'")
    await keep("baseline")
    await pool.query("alter type mood rename value 'hush' to 'loud'")
    const { posted, sender } = fakeSlack()
    await wish("diff")
    await serveBaseline(deps(sender))
    const { err } = await stepback("baseline", "diff", "staging")
    await pool.query("alter table scoring_config drop column secret; drop type mood")
    for (const said of [posted[0]?.text, err]) {
      expect(said).toContain("a value does not fit its type (22P02)")
      expect(said).not.toContain("hush")
    }
  })

  it("says why when it cannot", async () => {
    const { posted, sender } = fakeSlack()
    await wish("diff")
    await serveBaseline(deps(sender))
    expect(posted[0]?.text).toContain('there is no snapshot "baseline" of staging yet')
  })
})

describe("on the card", () => {
  const prepare = (only: string[]) =>
    prepareRun(
      {
        id: randomUUID(),
        kind: "rollback",
        environment: "staging",
        selection: { only, with: [], parameters: {} },
        skips: {},
      },
      new AbortController().signal,
      { plans: createPlanFolder(folder), targets, environment: world.env, log, store: state.store },
    )

  it("stands how old it is; too old, missing, or a table of another shape raises the risk", async () => {
    expect(await prepare(["db-config"])).toMatchObject({
      policy: { risk: "medium", riskReasons: [expect.stringContaining("no baseline")] },
    })
    await keep("baseline")
    const fresh = await prepare(["db-config"])
    expect(fresh).toMatchObject({
      policy: { risk: "low" },
      rehearsal: {
        notes: [expect.stringMatching(/^baseline: .* old, captured \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$/)],
        warnings: [],
      },
    })
    await state.pool.query("update stepback.baselines set captured_at = captured_at - interval '31 days'")
    const old = await prepare(["db-config"])
    expect(old.policy).toMatchObject({
      risk: "medium",
      riskReasons: ["the baseline is 31 days old, and the plan allows 30 days: capture it again"],
    })
    await keep("baseline")
    const pool = targets.get(world.databaseUrl)
    await pool.query("alter table scoring_config add column extra text")
    const moved = await prepare(["db-config"])
    await pool.query("alter table scoring_config drop column extra")
    expect(moved.policy).toMatchObject({
      risk: "medium",
      riskReasons: ["the schema of scoring_config has changed since the baseline: column extra is new"],
    })
  })

  it("is none for want of a snapshot that a step goes back to", async () => {
    await keep("baseline")
    await expect(prepare(["config-restore"])).rejects.toThrow(
      "`/rollback baseline staging capture --as after` makes one",
    )
  })

  it("the alignment's keys go back, what somebody changed since is a conflict, and results_version is db-config's", async () => {
    await keep("baseline")
    await world.alignConfiguration()
    await keep("after")
    await world.setConfiguration("fit_bands", { high: 68, moderate: 45, low: 0 })
    const run = await prepare(["db-config", "config-restore"])
    const seen = run.rehearsal.steps.find((step) => step.stepId === "restore-config")
    expect(seen).toMatchObject({ outcome: "looked", rows: 3 })
    expect(seen?.changes.map(({ row }) => row)).toEqual([
      "scoring_config.alignment",
      "scoring_config.prism_engine",
      "scoring_config.rounding",
    ])
    expect(seen?.warnings).toEqual([
      "1 changed again since and left as they are: scoring_config.fit_bands",
      'scoring_config.results_version is left to "Set results_version"',
    ])
    expect(run.policy.risk).toBe("low")
  })
})
