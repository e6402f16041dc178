import type { Pool, PoolClient } from "pg"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import type { Store } from "../../src/store/store.ts"
import { awaiting, created, freshState, running } from "./store-fixture.ts"

let pool: Pool
let store: Store
let ids: string[]

beforeAll(async () => {
  ;({ pool, store } = await freshState())
  const first = await running(store)
  const second = await awaiting(store)
  const third = await created(store, { reason: "line\nfeeds and „quotes“ \\ and 😀" })
  ids = [first.id, second.id, third.id]
})
afterAll(() => pool.end())

/** Does as a superuser what the trigger refuses, asks for the verdict, and takes it back. */
async function tamper(sql: string, values: unknown[] = []): Promise<string | null> {
  const backup = await pool.query<Record<string, unknown>>("select * from stepback.audit")
  const heads = await pool.query<{ id: string; audit_head: string; audit_entries: number }>(
    "select id, audit_head, audit_entries from stepback.rollbacks",
  )
  await pool.query("alter table stepback.audit disable trigger user")
  try {
    const { rowCount } = await pool.query(sql, values)
    expect(rowCount).not.toBe(0)
    const verdict = await store.audit.verify()
    return verdict.intact ? null : verdict.broken
  } finally {
    const client = await pool.connect()
    await putBack(client, backup.rows, heads.rows)
    client.release()
  }
}

async function putBack(
  client: PoolClient,
  entries: Record<string, unknown>[],
  heads: { id: string; audit_head: string; audit_entries: number }[],
): Promise<void> {
  await client.query("begin")
  await client.query("delete from stepback.audit")
  await client.query("insert into stepback.audit select * from jsonb_populate_recordset(null::stepback.audit, $1)", [
    JSON.stringify(entries),
  ])
  for (const head of heads)
    await client.query("update stepback.rollbacks set audit_head = $2, audit_entries = $3 where id = $1", [
      head.id,
      head.audit_head,
      head.audit_entries,
    ])
  await client.query("alter table stepback.audit enable trigger user")
  await client.query("commit")
}

describe("the audit", () => {
  it("is intact, and takes nothing but additions", async () => {
    expect(await store.audit.verify()).toMatchObject({ intact: true })
    for (const sql of [
      "update stepback.audit set actor = 'x'",
      "delete from stepback.audit",
      "truncate stepback.audit",
    ])
      await expect(pool.query(sql)).rejects.toMatchObject({ code: "SB003" })
  })

  it.each(["at", "kind", "actor", "facts"])("shows an edit of %s", async (column) => {
    expect(
      await tamper(`update stepback.audit set ${column} = ${column} || ' ' where rollback_id = $1 and entry = 2`, [
        ids[0],
      ]),
    ).toBe("R-1 entry 2: its content was changed")
  })

  it("shows a dropped entry, also the first and the last", async () => {
    expect(await tamper("delete from stepback.audit where rollback_id = $1 and entry = 2", [ids[0]])).toBe(
      "R-1: entry 2 is missing",
    )
    expect(await tamper("delete from stepback.audit where rollback_id = $1 and entry = 1", [ids[0]])).toBe(
      "R-1: entry 1 is missing",
    )
    const last =
      "delete from stepback.audit where rollback_id = $1 and entry = (select max(entry) from stepback.audit where rollback_id = $1)"
    expect(await tamper(last, [ids[0]])).toMatch(/^R-1: \d entries written, \d found$/)
    expect(await tamper("delete from stepback.audit where rollback_id = $1", [ids[2]])).toMatch(
      /^R-3: 1 entries written, 0 found$/,
    )
  })

  it("shows entries that changed places", async () => {
    const swap =
      "update stepback.audit set entry = case entry when 2 then 3 else 2 end where rollback_id = $1 and entry in (2, 3)"
    await pool.query("alter table stepback.audit drop constraint audit_pkey")
    try {
      expect(await tamper(swap, [ids[0]])).toBe("R-1 entry 2: it does not follow the entry before it")
    } finally {
      await pool.query("alter table stepback.audit add primary key (rollback_id, entry)")
    }
  })

  it("shows an entry that was moved to another rollback", async () => {
    const move = "update stepback.audit set rollback_id = $2, entry = 2 where rollback_id = $1 and entry = 2"
    expect(await tamper(move, [ids[0], ids[2]])).toBe("R-1: entry 2 is missing")
  })

  it("shows a cut end whose count was corrected", async () => {
    const cut = `with cut as (delete from stepback.audit where rollback_id = $1 and entry = 3 returning 1)
      update stepback.rollbacks set audit_entries = 2 where id = $1 and exists (select 1 from cut)`
    await pool.query("alter table stepback.audit disable trigger user")
    await pool.query("delete from stepback.audit where rollback_id = $1 and entry > 3", [ids[1]])
    await pool.query("alter table stepback.audit enable trigger user")
    expect(await tamper(cut, [ids[0]])).not.toBeNull()
  })

  it("shows a chain that was restamped, when a later one names its head", async () => {
    const restamp = `with chain as (
        select rollback_id, entry, at, kind, 'somebody else' as actor, facts, previous from stepback.audit where rollback_id = $1 and entry = 1)
      update stepback.audit a set actor = c.actor, hash = encode(sha256(convert_to(
        concat_ws(e'\\n', c.previous, c.entry::text, c.at, c.kind, c.actor, c.facts), 'UTF8')), 'hex')
      from chain c where a.rollback_id = c.rollback_id and a.entry = c.entry`
    expect(await tamper(restamp, [ids[0]])).toBe("R-1 entry 2: it does not follow the entry before it")
  })
})
