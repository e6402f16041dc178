import { execFile, spawn } from "node:child_process"
import { once } from "node:events"
import { text } from "node:stream/consumers"
import { fileURLToPath } from "node:url"
import pg from "pg"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { playScenario, scenarios, writePlans } from "../../playground/scenarios.ts"
import { startStage, type Stage } from "../../playground/stage.ts"
import { compileCache } from "../../playground/stepback-process.ts"
import { forgetRun } from "../../src/steps/forget.ts"
import { runtimeRights } from "../../src/store/roles.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))
const password = "only-what-it-needs"

let stage: Stage
let plans: Awaited<ReturnType<typeof writePlans>>
let runtimeUrl: string
let targetUrl: string

function as(url: string, username: string): string {
  return Object.assign(new URL(url), { username, password }).href
}

function cli(words: string[], env: Record<string, string>): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(
      process.execPath,
      ["src/cli.ts", ...words],
      { cwd: root, env: { PATH: process.env["PATH"], NODE_COMPILE_CACHE: compileCache, ...env } },
      (error, out, err) => {
        if (error) reject(new Error(`${words.join(" ")}: ${out}${err}`))
        else resolve(out)
      },
    )
  })
}

async function query(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const { rows } = (await client.query(sql)) as { rows: Record<string, unknown>[] }
    return rows
  } finally {
    await client.end()
  }
}

/** Both roles as the printed SQL makes them, given to the process as its own. */
beforeAll(async () => {
  plans = await writePlans(scenarios["full"] as (typeof scenarios)[string])
  stage = await startStage({ mode: "http", queue: "postgres", ...(plans ? { plans: plans.folder } : {}) })
  const owner = stage.environment["DATABASE_URL"] ?? ""
  await cli(["state", "init"], stage.environment)
  await query(
    owner,
    `${await cli(["state", "init", "--print"], {})}; alter role stepback_runtime password '${password}'`,
  )
  runtimeUrl = as(owner, "stepback_runtime")

  const printed = await cli(["target", "init", "staging", "--print"], stage.environment)
  const [ledger = "", role = ""] = printed.split(/^(?=-- A role with)/m)
  const made = role
    .split("\n")
    .filter((line) => /^-- (create role|grant) /.test(line))
    .map((line) => line.slice(3).replace("'choose one'", `'${password}'`))
  await query(stage.world.databaseUrl, `${ledger};${made.join("\n")}`)
  await query(stage.world.databaseUrl, "create table salaries (who text); insert into salaries values ('alice')")
  targetUrl = as(stage.world.databaseUrl, "stepback")
})
afterAll(async () => {
  await stage.stop()
  await plans?.remove()
})

describe("roles with no more than is needed", () => {
  it("run the whole plan: purge, restore and undo", async () => {
    const started = await stage.start({ DATABASE_URL: runtimeUrl, STAGING_DATABASE_URL: targetUrl })
    const facts = await playScenario(scenarios["full"] as (typeof scenarios)[string], stage, () => undefined)
    expect(facts.filter((fact) => !fact.holds).map((fact) => fact.what)).toEqual([])
    expect(facts.length).toBeGreaterThan(5)
    expect(started.lines.filter((line) => JSON.stringify(line).includes("permission denied"))).toEqual([])
    const ready = await fetch(`http://127.0.0.1:${started.port}/readyz`)
    expect(await ready.json()).toEqual({ ready: true, degraded: false, reasons: [] })
    expect(await cli(["audit", "verify"], { ...stage.environment, DATABASE_URL: runtimeUrl })).toMatch(/^intact/)
  })

  it("erase one person's data, and remove what was kept when its time is over", async () => {
    const env = { ...stage.environment, DATABASE_URL: runtimeUrl, STAGING_DATABASE_URL: targetUrl }
    await query(
      runtimeUrl,
      "insert into stepback.notes (rollback_id, user_id, text) select id, 'U1', 'it was lotte-7f3a' from stepback.rollbacks limit 1",
    )
    const erased = await cli(["archive", "erase", "staging", "profiles", "results_version=lotte-7f3a", "--yes"], env)
    expect(erased).toContain("1 record of what steps did and people wrote: the value was taken out")
    const owner = stage.world.databaseUrl
    await query(owner, "revoke delete on stepback_ledger.archives from stepback")
    await expect(cli(["doctor"], env)).rejects.toThrow("the role may not remove what was kept")
    await query(owner, "grant delete on stepback_ledger.archives to stepback")
    const [kept] = await query(targetUrl, "select rollback_id as id from stepback_ledger.archives limit 1")
    const pool = new pg.Pool({ connectionString: targetUrl })
    try {
      expect(await forgetRun(pool, String(kept?.["id"]))).toBeGreaterThan(0)
    } finally {
      await pool.end()
    }
  })

  it("are asked for at the start: what an upgrade needs and was not given is said at once", async () => {
    const owner = stage.environment["DATABASE_URL"] ?? ""
    await query(owner, "revoke delete on stepback.second_looks from stepback_runtime")
    await expect(stage.start({ DATABASE_URL: runtimeUrl })).rejects.toThrow(
      /lacks delete on second_looks: .*`stepback state init --print`/,
    )
    await query(owner, "grant delete on stepback.second_looks to stepback_runtime")
  })

  it.each([
    "update stepback.audit set actor = 'x'",
    "delete from stepback.audit",
    "truncate stepback.audit",
    "alter table stepback.audit disable trigger user",
    "set session_replication_role = replica",
    "drop table stepback.approvals",
    "delete from stepback.approvals",
    "delete from stepback.rollbacks",
    "create table stepback.mine (x int)",
    "create schema mine",
    "create or replace function stepback.refuse_change() returns trigger language plpgsql as 'begin return new; end'",
    "insert into stepback.migrations (name) values ('x')",
  ])("the state's refuses: %s", async (sql) => {
    await expect(query(runtimeUrl, sql)).rejects.toMatchObject({ code: "42501" })
  })

  it.each([
    "select * from salaries",
    "delete from salaries",
    "truncate profiles",
    "alter table scoring_config add x int",
    "drop table profiles",
    "delete from function_logs",
    "delete from stepback_ledger.entries",
    "update stepback_ledger.entries set digest = 'x'",
    "delete from stepback_ledger.fence",
    "drop table stepback_ledger.entries",
    "create schema mine",
  ])("the target's refuses: %s", async (sql) => {
    await expect(query(targetUrl, sql)).rejects.toMatchObject({ code: "42501" })
  })

  it("every table of the state is thought of", async () => {
    const rows = await query(
      runtimeUrl,
      "select relname from pg_class where relnamespace = 'stepback'::regnamespace and relkind = 'r'",
    )
    expect(rows.map(({ relname }) => String(relname)).toSorted()).toEqual(Object.keys(runtimeRights).toSorted())
  })

  it("a process whose role may not bring an older schema up to date says what to do, and ends", async () => {
    const owner = stage.environment["DATABASE_URL"] ?? ""
    const [last] = await query(
      owner,
      "delete from stepback.migrations where name = (select max(name) from stepback.migrations) returning name",
    )
    const child = spawn(process.execPath, ["src/main.ts"], {
      cwd: root,
      env: {
        PATH: process.env["PATH"],
        NODE_COMPILE_CACHE: compileCache,
        ...stage.environment,
        DATABASE_URL: runtimeUrl,
        PORT: "0",
      },
      stdio: ["ignore", "ignore", "pipe"],
    })
    const [said, [code]] = await Promise.all([text(child.stderr), once(child, "exit")])
    expect({ code, said }).toEqual({ code: 1, said: expect.stringContaining("`stepback state init`") })
    expect(said).toContain(String(last?.["name"]))
    expect(said).not.toContain(password)
  })
})
