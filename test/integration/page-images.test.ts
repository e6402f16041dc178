import { afterAll, beforeAll, expect, it } from "vitest"
import { rehearseStep, runStep } from "../../src/steps/definitions.ts"
import { mayCompress } from "../../src/steps/page-images.ts"
import { contextOf, freshTarget, hasLz4, stepOf, type TargetFixture } from "./steps-fixture.ts"

let target: TargetFixture
beforeAll(async () => {
  target = await freshTarget("")
})
afterAll(() => target.stop())

/** Pages that are full, each of which has a row that goes. */
const full = `drop table if exists wide; create table wide (id integer primary key, kind text not null, pad text);
  insert into wide select n, case when n % 10 = 0 then 'bad' else 'good' end, repeat('x', 200) from generate_series(1, 20000) n;
  grant select, insert, update, delete on wide to purger;`

/** A purge by that role: how many pages the table had, and how many bytes were logged after a checkpoint. */
async function purge(user?: string): Promise<{ table: number; logged: number }> {
  const url = Object.assign(new URL(target.url), user === undefined ? {} : { username: user, password: "p" })
  await target.admin.query(full)
  const step = await stepOf(
    `- { id: p, purge: { table: wide, where: "kind = 'bad'", at_most: 5000 }, expect: { rows: 2000 } }`,
  )
  const context = await contextOf({ pool: target.pools.get(url.href) })
  const rehearsed = await rehearseStep(step, context)
  await target.admin.query("checkpoint")
  const at = async () =>
    (await target.admin.query<{ at: string }>("select pg_current_wal_insert_lsn()::text as at")).rows[0]?.at
  const before = await at()
  expect(await runStep(step, { ...context, rehearsed })).toMatchObject({ outcome: "succeeded", rows: 2000 })
  const { rows } = await target.admin.query<{ table: number; logged: number }>(
    "select pg_relation_size('wide')::int as table, ($1::pg_lsn - $2::pg_lsn)::int as logged",
    [await at(), before],
  )
  return rows[0] as { table: number; logged: number }
}

it("a purge compresses what it logs where server and role allow it, and is as good where they do not", async () => {
  const { admin } = target
  const has = await hasLz4(target)
  await admin.query(`do $$ begin if not exists (select from pg_roles where rolname = 'purger') then create role purger login password 'p'; end if; end $$;
    grant all on schema stepback_ledger to purger; grant all on all tables in schema stepback_ledger to purger`)
  const small = ({ table, logged }: { table: number; logged: number }) => logged < table / 2
  const granted = async (sql: string) => void (has && (await admin.query(sql)))
  const asRole = await purge("purger")
  await granted("grant set on parameter wal_compression to purger")
  const asGranted = await purge("purger")
  await granted("revoke set on parameter wal_compression from purger")
  const asOwner = await purge()
  expect([asRole, asGranted, asOwner].map(small)).toEqual([false, has, has])
})

it("what its owner has chosen stays", async () => {
  const client = await target.pools.get(target.url).connect()
  await client.query("begin; set local wal_compression = pglz")
  expect(await mayCompress(client)).toBe(false)
  await client.query("rollback")
  client.release()
})
