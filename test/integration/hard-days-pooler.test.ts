import { randomUUID } from "node:crypto"
import pg, { type Pool, type PoolClient } from "pg"
import { afterAll, beforeAll, expect, it } from "vitest"
import { rehearseStep, runStep } from "../../src/steps/definitions.ts"
import { contextOf, freshTarget, stepsOf, type TargetFixture, undoStepOf } from "./steps-fixture.ts"

let target: TargetFixture
let pooler: Awaited<ReturnType<typeof startPooler>>

beforeAll(async () => {
  target = await freshTarget(`
    create table settings (name text primary key, value text);
    create table quotes (id integer primary key, kind text, at timestamptz);
    create table lines (id integer primary key, quote_id integer references quotes on delete cascade);
    insert into settings values ('engine', '2'), ('other', '2');
    insert into quotes select n, case when n % 10 = 0 then 'bad' else 'good' end, '2026-10-01Z' from generate_series(1, 1000) n;
    insert into lines select n, n from generate_series(1, 1000) n`)
  pooler = await startPooler(target.url)
})
afterAll(async () => {
  await pooler.stop()
  await target.stop()
})

/**
 * A pooler in transaction mode: each transaction, and each statement outside of one, goes to another of a few server
 * connections, which everybody shares.
 */
async function startPooler(connectionString: string) {
  const servers = [0, 1, 2].map(() => new pg.Client({ connectionString, application_name: "pooler", pipeline: true }))
  for (const server of servers) {
    server.on("error", () => undefined)
    await server.connect()
  }
  const free = [...servers]
  const waiting: ((server: pg.Client) => void)[] = []
  const used = new Map<pg.Client, number>()
  const take = () =>
    new Promise<pg.Client>((resolve) => {
      // The one that has rested longest: hardly ever the same twice in a row.
      const server = free.shift()
      if (server) resolve(server)
      else waiting.push(resolve)
    })
  const giveBack = (server: pg.Client) => {
    used.set(server, (used.get(server) ?? 0) + 1)
    const next = waiting.shift()
    if (next) next(server)
    else free.push(server)
  }
  function client(): PoolClient {
    let held: Promise<pg.Client> | null = null
    let asked = 0
    const query = async (...args: [unknown, unknown?]) => {
      asked++
      const server = await (held ??= take())
      try {
        return await (server.query as (...all: unknown[]) => Promise<unknown>)(...args)
      } finally {
        // What the server says of itself, as a pooler does it: no transaction is open, and nothing is on its way.
        if (--asked === 0 && server.getTransactionStatus() === "I") {
          held = null
          giveBack(server)
        }
      }
    }
    return { query, release: () => undefined } as unknown as PoolClient
  }
  const pool = {
    connect: async () => client(),
    query: (...args: [unknown, unknown?]) => (client().query as (...all: unknown[]) => Promise<unknown>)(...args),
  } as unknown as Pool
  return { pool, servers, used, stop: () => Promise.all(servers.map((server) => server.end())) }
}

it("behind a pooler in transaction mode two rollbacks side by side do what they do elsewhere, and leave nothing on its sessions", async () => {
  const before = (await pooler.servers[0]?.query("show timezone"))?.rows
  const rollback = async (half: number, name: string) => {
    const steps = await stepsOf(`
- { id: u, sql: "update settings set value = '1' where name = '${name}'", expect: { rows: 1 } }
- { id: p, purge: { table: quotes, where: "kind = 'bad' and id % 20 = ${half}", cascade: [lines], at_most: 1000, batch: 20 }, expect: { rows: rehearsed } }
- { id: c, check: "select value from settings where name = '${name}'", expect: { rows: 1, values: { value: "1" } } }`)
    const context = await contextOf({ pool: pooler.pool, rollbackId: randomUUID() })
    for (const step of steps) {
      const rehearsed = await rehearseStep(step, context)
      expect(await runStep(step, { ...context, rehearsed })).toMatchObject({ outcome: "succeeded", failure: null })
    }
    const undone = await contextOf({ pool: pooler.pool })
    for (const id of ["p", "u"])
      expect(await runStep(undoStepOf(context.rollbackId, id), undone)).toMatchObject({
        outcome: "succeeded",
        issues: [],
      })
  }
  await Promise.all([rollback(0, "engine"), rollback(10, "other")])
  const { rows } = await target.admin.query(
    "select (select count(*)::int from quotes) as quotes, (select count(*)::int from lines) as lines, (select array_agg(value) from settings) as settings",
  )
  expect(rows).toEqual([{ quotes: 1000, lines: 1000, settings: ["2", "2"] }])
  expect(pooler.used.size).toBe(pooler.servers.length)
  for (const server of pooler.servers) {
    const left = await server.query(
      `select (select count(*)::int from pg_prepared_statements) as prepared, (select count(*)::int from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as locks,
         (select count(*)::int from pg_listening_channels()) as listens, (select count(*)::int from pg_class where relpersistence = 't') as temporary,
         current_setting('row_security') as row_security, current_setting('lock_timeout') as lock_timeout, current_setting('statement_timeout') as statement_timeout`,
    )
    expect(left.rows).toEqual([
      {
        prepared: 0,
        locks: 0,
        listens: 0,
        temporary: 0,
        row_security: "on",
        lock_timeout: "0",
        statement_timeout: "0",
      },
    ])
    expect((await server.query("show timezone")).rows).toEqual(before)
  }
})
