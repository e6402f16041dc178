import { execFile, spawnSync } from "node:child_process"
import { randomUUID } from "node:crypto"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import pg from "pg"
import { afterAll, beforeAll, describe, expect, inject, it, vi } from "vitest"
import { connectPostgres } from "../../playground/postgres.ts"
import { type StagingWorld, startStagingWorld } from "../../playground/staging-world/staging-world.ts"
import { compileCache } from "../../playground/stepback-process.ts"
import { freshState, running } from "./store-fixture.ts"

// Each command is a process of its own, and some tests start four.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 })

const root = fileURLToPath(new URL("../..", import.meta.url))
const node = join(root, "node_modules", ".bin", "node")
/** Not among the project's packages: where the machine has none, one test is left out, which CI does not allow. */
const psqlProgram = process.env["TEST_PSQL"] ?? ""
const secret = "hunter2-sekrit"

type Ended = { code: number; out: string; err: string }

/** Runs the command as a person does, with nothing in its environment but what is given. */
function stepback(words: string[], env: Record<string, string> = {}, program = "src/cli.ts"): Promise<Ended> {
  return new Promise((resolve) => {
    const child = execFile(
      node,
      [program, ...words],
      { cwd: root, env: { PATH: process.env["PATH"], HOME: tmpdir(), NODE_COMPILE_CACHE: compileCache, ...env } },
      (_error, out, err) => {
        resolve({ code: child.exitCode ?? -1, out, err })
      },
    )
  })
}

let world: StagingWorld
let database: pg.Pool
let folder: string

beforeAll(async () => {
  const name = `cli_${randomUUID().slice(0, 8)}`
  world = await startStagingWorld({ postgres: connectPostgres(inject("postgresUrl")), database: name })
  database = new pg.Pool({ connectionString: world.databaseUrl })
  folder = await mkdtemp(join(tmpdir(), "stepback-cli-"))
})

afterAll(async () => {
  await database.end()
  await world.stop()
  await rm(folder, { recursive: true, force: true })
})

describe("stepback", () => {
  it.each([[[]], [["--help"]], [["doctor", "--help"]]])("shows how it is used: %j", async (words) => {
    expect(await stepback(words)).toMatchObject({ code: 0, out: expect.stringContaining("stepback plan check FILE…") })
  })

  it("says its version, and the demo how it is used, without starting anything", async () => {
    expect(await stepback(["--version"])).toEqual({ code: 0, out: expect.stringMatching(/^\d+\.\d+\.\d+\n$/), err: "" })
    const demo = await stepback(["--help"], {}, "playground/demo.ts")
    expect(demo).toEqual({ code: 0, out: expect.stringContaining("--scenario NAME"), err: "" })
    expect(demo.out).not.toContain("Starting")
  })

  it("starts from its bin file", async () => {
    expect(await stepback(["plan", "check", "plans"], {}, "bin/stepback.js")).toMatchObject({ code: 0 })
  })

  it.each([
    [["pln", "check"], "Did you mean plan check?"],
    [["doctr"], "Did you mean doctor?"],
    [["plan"], "stepback plan check, stepback plan show"],
    [["constructor"], 'There is no command "stepback constructor".'],
    [["plan", "show"], "An environment is missing."],
    [["plan", "show", "stagin"], 'Did you mean "staging"?'],
    [["plan", "show", "staging", "--onyl", "x"], "Did you mean --only?"],
    [["plan", "show", "staging", "--only"], "Usage: stepback plan show"],
    [["plan", "show", "staging", "--only", "db-confg"], 'Did you mean "db-config"?'],
    [["plan", "show", "staging", "since=yesterday"], "expected a timestamp with time and zone"],
    [["plan", "show", "staging", "because"], '"because" is no name=value'],
  ])("refuses %j with a sentence", async (words, sentence) => {
    expect(await stepback(words)).toEqual({ code: 1, out: "", err: expect.stringContaining(sentence) })
  })

  it("names every missing variable at once", async () => {
    expect(await stepback(["audit", "verify"])).toMatchObject({
      code: 1,
      err: expect.stringContaining("DATABASE_URL"),
    })
    const { code, err } = await stepback(["plan", "rehearse", "staging"])
    expect(code).toBe(1)
    for (const name of Object.keys(world.env)) expect(err).toContain(`${name} is missing`)
  })
})

describe("plan check", () => {
  it("takes files and folders, with an empty environment", async () => {
    expect(await stepback(["plan", "check", "plans/staging.yaml", "plans"])).toMatchObject({ code: 0, out: "" })
  })

  it("says file, line and column of what is wrong", async () => {
    const file = join(folder, "broken.yaml")
    await writeFile(file, "version: 1\nenvironment: broken\ncolour: red\n")
    const { code, out } = await stepback(["plan", "check", file])
    expect(code).toBe(1)
    expect(out.split("\n")[0]).toMatch(new RegExp(`^${file}:\\d+:\\d+: .+`))
    expect(await stepback(["plan", "check", join(folder, "nowhere.yaml")])).toMatchObject({ code: 1 })
    const shown = await stepback(["plan", "show", "broken"], { STEPBACK_PLANS: folder })
    expect(shown).toMatchObject({ code: 1, err: expect.stringContaining("broken.yaml:") })
  })
})

describe("plan show", () => {
  it("has the same digest for the same plan and values only", async () => {
    const digest = async (...words: string[]) =>
      /sha256 ([0-9a-f]{64})/.exec((await stepback(["plan", "show", "staging", ...words])).out)?.[1]
    const first = await digest()
    expect(first).toBeDefined()
    expect(await digest()).toBe(first)
    expect(await digest("good=v1.1.0")).not.toBe(first)
  })

  it("never resolves a secret", async () => {
    const env = { ...world.env, STAGING_DATABASE_URL: `postgres://u:${secret}@127.0.0.1/x` }
    for (const words of [[], ["--sql"]]) {
      const { out } = await stepback(["plan", "show", "staging", ...words], env)
      expect(out).toContain("${STAGING_DATABASE_URL}")
      expect(out).not.toContain(secret)
    }
  })

  it("prints statements that can be pasted, again and again, and keep the rows as they were", async () => {
    const { out } = await stepback(["plan", "show", "staging", "--sql", "--only", "db-config", "good=it's v9"])
    const sql = out.replace(/^\\.*$/gm, "")
    await database.query(sql)
    await database.query(sql)
    const { rows } = await database.query(
      "select value #>> '{}' as value from scoring_config where key = 'results_version'",
    )
    expect(rows).toEqual([{ value: "it's v9" }])
    const kept = await database.query(
      `select value #>> '{}' as value from stepback_by_hand."staging_results-version" order by stepback_kept_at`,
    )
    expect(kept.rows).toEqual([{ value: "v1.2.1" }, { value: "it's v9" }])
  })

  /** A plan of one step, whose title would be SQL if it got out of its comment. */
  const planOf = (environment: string, step: string) => `version: 1
environment: ${environment}
title: "Guarded\\n; drop table scoring_config;"
target: { postgres: "\${GUARDED}" }
approve: { low: { count: 1, from: anyone }, medium: { count: 1, from: anyone }, high: { count: 1, from: anyone } }
components:
  data:
    title: Data
    risk: low
    steps:
      - { id: step, ${step} }
`

  it("changes nothing when other rows match than expected, or when rows would go along unkept", async () => {
    const before = await world.state()
    const file = join(folder, "guarded.yaml")
    for (const [statement, complaint] of [
      [
        "update scoring_config set value = '1' where key in ('rounding', 'languages')",
        /2 rows of scoring_config match, 3 to 100 expected/,
      ],
      ["delete from profiles where results_version = 'v1.2.1'", /74 rows of profile_answers refer to them/],
    ] as const) {
      await writeFile(file, planOf("guarded", `sql: "${statement}", expect: { rows: 3..100 }`))
      const { code, out } = await stepback(["plan", "show", "guarded", "--sql"], { STEPBACK_PLANS: folder })
      expect(code).toBe(0)
      const client = await database.connect()
      await expect(client.query(out.replace(/^\\.*$/gm, ""))).rejects.toThrow(complaint)
      await client.query("rollback")
      client.release()
    }
    expect(await world.state()).toEqual(before)
  })

  it("deletes the rows that it kept, also where their condition reads what goes before them", async () => {
    await database.query(`create table parents (id integer primary key, n integer default 0);
      create table kids (id integer primary key, parent_id integer references parents, sku text);
      insert into parents select generate_series(1, 20);
      insert into kids select n, n, case when n <= 10 then 'bad' else 'good' end from generate_series(1, 20) n`)
    const file = join(folder, "removing.yaml")
    const condition = "id in (select parent_id from kids where sku = 'bad')"
    const purge = `purge: { table: parents, where: "${condition}", cascade: [kids], at_most: 50, max_share: 90% }`
    await writeFile(file, planOf("removing", `${purge}, expect: { rows: 10 }`))
    const { out } = await stepback(["plan", "show", "removing", "--sql"], { STEPBACK_PLANS: folder })
    const sql = out.replace(/^\\.*$/gm, "")
    const spared = await database.connect()
    await spared.query(`create function spares() returns trigger language plpgsql as $$ begin return null; end $$;
      create trigger spares before delete on parents for each row when (old.id = 4) execute function spares()`)
    await expect(spared.query(sql)).rejects.toThrow("9 of 10 rows of parents could be deleted: nothing is changed")
    await spared.query("rollback; drop trigger spares on parents; drop function spares")
    spared.release()
    await database.query(sql)
    const { rows } =
      await database.query(`select (select count(*)::int from parents) as parents, (select count(*)::int from kids) as kids,
      (select count(*)::int from stepback_by_hand.removing_step) as kept, (select count(*)::int from stepback_by_hand.removing_step_kids) as children`)
    expect(rows).toEqual([{ parents: 10, kids: 10, kept: 10, children: 10 }])
    await database.query("drop table kids, parents")
  })

  it("deletes rows of its own that refer to them, with what refers to those, and keeps all", async () => {
    await database.query(`create table threads (id integer primary key, parent integer references threads, kind text);
      create table hearts (id integer primary key, thread integer references threads on delete cascade);
      insert into threads select n, case when n >= 10 then n - 10 end, case when n = 1 then 'bad' else 'good' end from generate_series(0, 99) n;
      insert into hearts select n, n from generate_series(0, 99) n`)
    const purge = `purge: { table: threads, where: "kind = 'bad'", cascade: [threads, hearts], at_most: 10, max_share: 50% }`
    await writeFile(join(folder, "linked.yaml"), planOf("linked", `${purge}, expect: { rows: 10 }`))
    const { out } = await stepback(["plan", "show", "linked", "--sql"], { STEPBACK_PLANS: folder })
    await database.query(out.replace(/^\\.*$/gm, ""))
    const { rows } =
      await database.query(`select (select count(*)::int from threads) as threads, (select count(*)::int from hearts) as hearts,
      (select count(*)::int from stepback_by_hand.linked_step) as kept, (select count(*)::int from stepback_by_hand.linked_step_hearts) as children`)
    expect(rows).toEqual([{ threads: 90, hearts: 90, kept: 10, children: 10 }])
    await database.query("drop table hearts, threads")
  })

  it("means the moments that the bot means, whatever the database's zone is", async () => {
    await database.query(`create table moments (id integer primary key, at timestamptz, done boolean default false);
      insert into moments values (1, '2026-03-02T01:00:00Z'), (2, '2026-03-02T07:00:00Z'), (3, '2026-02-03T12:00:00Z')`)
    const { rows: names } = await database.query<{ name: string }>("select quote_ident(current_database()) as name")
    await database.query(`alter database ${names[0]?.name} set timezone = 'America/New_York'`)
    const fresh = new pg.Client({ connectionString: world.databaseUrl })
    await fresh.connect()
    try {
      const file = join(folder, "zoned.yaml")
      const statement = "update moments set done = true where at >= '2026-03-02 00:00'"
      await writeFile(file, planOf("zoned", `sql: "${statement}", expect: { rows: 2 }`))
      const { out } = await stepback(["plan", "show", "zoned", "--sql"], { STEPBACK_PLANS: folder })
      await fresh.query(out.replace(/^\\.*$/gm, ""))
      expect((await database.query("select id from moments where done order by id")).rows).toEqual([
        { id: 1 },
        { id: 2 },
      ])
    } finally {
      await fresh.end()
      await database.query(`alter database ${names[0]?.name} reset all; drop table moments`)
    }
  })

  it.each([
    [
      "a partition has by itself",
      "create table days (id integer primary key) partition by range (id); create table days_1 partition of days for values from (0) to (100); create table notes (day_id integer references days_1 on delete cascade)",
      /1 rows of notes refer to them/,
    ],
    [
      "the table has of which it is a partition",
      "create table all_days (id integer primary key) partition by range (id); create table days partition of all_days for values from (0) to (100) partition by range (id); create table days_1 partition of days for values from (0) to (50); create table notes (day_id integer references all_days on delete cascade)",
      /1 rows of notes refer to them/,
    ],
    [
      "an heir has",
      "create table days (id integer primary key); create table days_1 (extra text) inherits (days); create table notes (day_id integer)",
      /days_1 inherits from days/,
    ],
  ])("takes nothing along that %s", async (_name, tables, complaint) => {
    await database.query(`${tables}; insert into days_1 values (1), (2); insert into notes values (1)`)
    const client = await database.connect()
    try {
      const file = join(folder, "besides.yaml")
      for (const step of [
        `sql: "delete from days where id < 9", expect: { rows: 2 }`,
        `purge: { table: days, where: "id < 9", at_most: 5, max_share: 100% }`,
      ]) {
        await writeFile(file, planOf("besides", step))
        const { out } = await stepback(["plan", "show", "besides", "--sql"], { STEPBACK_PLANS: folder })
        await expect(client.query(out.replace(/^\\.*$/gm, ""))).rejects.toThrow(complaint)
        await client.query("rollback")
      }
      expect((await client.query("select from notes")).rowCount).toBe(1)
      expect((await client.query("select from days")).rowCount).toBe(2)
    } finally {
      client.release()
      await database.query("drop table notes, days_1, days cascade; drop table if exists all_days")
    }
  })

  it("tells a role that may not create the schema of what is kept who may, before anything else", async () => {
    const { out } = await stepback(["plan", "show", "staging", "--sql", "--only", "db-config"])
    const narrow = `narrow_${randomUUID().slice(0, 8)}`
    await database.query(`create role ${narrow}`)
    const client = await database.connect()
    await client.query(`set role ${narrow}`)
    const told = `${narrow} may not create the schema in which the rows are kept: run this as an owner`
    await expect(client.query(out.replace(/^\\.*$/gm, ""))).rejects.toThrow(told)
    await client.query("reset role")
    client.release()
  })

  it.skipIf(psqlProgram === "")("prints a script that psql runs as it is, and lines that a shell runs", async () => {
    const { out } = await stepback(["plan", "show", "staging", "--sql", "--with", "data-cleanup"])
    const psql = spawnSync(psqlProgram, [world.databaseUrl, "-X", "-q", "-f", "-"], { input: out, encoding: "utf8" })
    expect(psql).toMatchObject({ status: 0, stderr: expect.not.stringContaining("ERROR") })
    const lines = out.split("\n").flatMap((line) => (line.startsWith("-- $ ") ? [line.slice(5)] : []))
    expect(lines).toHaveLength(7)
    // Not synchronously: the functions are served by this very process.
    const env = { PATH: process.env["PATH"], ...world.env, session: randomUUID() }
    await promisify(execFile)("bash", ["-eu", "-c", lines.join("\n")], { env })
    const state = await world.state()
    expect(state.resultsVersion).toBe("v1.2.0")
    expect(state.functions.score_fc_session.ref).toBe("v1.1")
    expect(state.rows).toMatchObject({ badProfiles: 0, badAnswers: 0 })
    const kept = await database.query(
      `select (select count(*)::int from stepback_by_hand."staging_remove-bad-profiles") as profiles,
         (select count(*)::int from stepback_by_hand."staging_remove-bad-profiles_profile_answers") as answers`,
    )
    expect(kept.rows).toEqual([{ profiles: 37, answers: 74 }])
  })
})

describe("plan rehearse", () => {
  it("shows what the card would, without a state database", async () => {
    const { code, out } = await stepback(["plan", "rehearse", "staging"], world.env)
    expect(code).toBe(0)
    expect(out).toMatch(/^Rehearsal of staging/)
    expect(out).toContain("Set results_version: 1 row")
    expect(out).toContain("Only a look: nothing was changed")
    expect(out).not.toContain("asks, without a reason")
  })

  it("says what to do about a state database that Stepback has not been started on", async () => {
    const env = { ...world.env, DATABASE_URL: world.databaseUrl }
    expect(await stepback(["plan", "rehearse", "staging"], env)).toMatchObject({
      code: 1,
      err: expect.stringMatching(/state database has no place for baselines yet.*start/) as string,
    })
  })

  it("says that the target is away, and no password", async () => {
    const env = { ...world.env, STAGING_DATABASE_URL: `postgres://u:${secret}@127.0.0.1:1/x` }
    const { code, out, err } = await stepback(["plan", "rehearse", "staging"], env)
    expect(code).toBe(1)
    expect(out).toContain("could not be looked at")
    expect(out + err).not.toContain(secret)
  })
})

describe("target init", () => {
  it("prints SQL whose role can do what the plan does, and creates the ledger", async () => {
    const printed = await stepback(["target", "init", "staging", "--print"])
    expect(printed.code).toBe(0)
    await database.query(printed.out)
    const role = `stepback_${randomUUID().slice(0, 8)}`
    const grants = printed.out.split("\n").flatMap((line) => /^-- ((?:create role|grant) .*)/.exec(line)?.[1] ?? [])
    await database.query(
      grants
        .map((grant) => grant.replace(/(role|to) stepback\b/, `$1 ${role}`))
        .join("\n")
        .replace("choose one", secret),
    )
    const url = Object.assign(new URL(world.databaseUrl), { username: role, password: secret }).href
    const env = { ...world.env, STAGING_DATABASE_URL: url }
    const { out } = await stepback(["doctor"], env)
    expect(out).toContain("✓ staging: ledger and archive are there")
    expect(out).not.toMatch(/✗ staging/)
    expect((await stepback(["plan", "rehearse", "staging"], env)).out).not.toContain("42501")
  })

  it("creates the ledger, or says who can", async () => {
    expect(await stepback(["target", "init", "staging"], world.env)).toMatchObject({
      code: 0,
      out: expect.stringContaining("stepback_ledger"),
    })
    const role = `poor_${randomUUID().slice(0, 8)}`
    await database.query(`create role ${role} login password '${secret}'; drop schema stepback_ledger cascade`)
    const env = {
      STAGING_DATABASE_URL: Object.assign(new URL(world.databaseUrl), { username: role, password: secret }).href,
    }
    const { code, err } = await stepback(["target", "init", "staging"], env)
    expect({ code, err }).toEqual({ code: 1, err: expect.stringContaining("target init staging --print") })
  })
})

describe("audit verify", () => {
  it("is 0 for what is intact, 1 for what is not, and names the first bad entry", async () => {
    const { url, pool, store } = await freshState()
    const { id } = await running(store)
    expect(await stepback(["audit", "verify"], { DATABASE_URL: url })).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^intact: \d+ entries/),
    })
    await pool.query("alter table stepback.audit disable trigger user")
    await pool.query("update stepback.audit set actor = 'somebody else' where rollback_id = $1 and entry = 2", [id])
    await pool.end()
    expect(await stepback(["audit", "verify"], { DATABASE_URL: url })).toMatchObject({
      code: 1,
      out: expect.stringContaining("R-1 entry 2"),
    })
  })

  it("knows a database without tables, and one that is away", async () => {
    const { url, pool } = await freshState({ migrated: false })
    await pool.end()
    expect(await stepback(["audit", "verify"], { DATABASE_URL: url })).toMatchObject({
      code: 1,
      err: expect.stringContaining("no audit chain yet"),
    })
    const away = await stepback(["audit", "verify"], { DATABASE_URL: `postgres://u:${secret}@127.0.0.1:1/x` })
    expect(away).toMatchObject({ code: 1, err: expect.not.stringContaining(secret) })
  })
})
