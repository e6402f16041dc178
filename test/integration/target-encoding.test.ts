import { randomUUID } from "node:crypto"
import pg from "pg"
import { afterAll, beforeAll, expect, inject, it } from "vitest"
import { connectPostgres } from "../../playground/postgres.ts"
import { initLedger } from "../../src/steps/ledger.ts"
import { createTargetPools } from "../../src/steps/target.ts"
import { goThrough, stepOf, textsOf, type TargetFixture, undoStepOf } from "./steps-fixture.ts"
import { log } from "./store-fixture.ts"

/** A database of another encoding than UTF-8, which has no sign for "what follows was cut". */
let target: TargetFixture
beforeAll(async () => {
  const maintenance = inject("postgresUrl")
  const name = `latin_${randomUUID().slice(0, 8)}`
  const maker = new pg.Client({ connectionString: maintenance })
  await maker.connect()
  await maker.query(`create database ${name} template template0 encoding 'latin1' lc_collate 'C' lc_ctype 'C'`)
  await maker.end()
  const url = connectPostgres(maintenance).url(name)
  const [admin, pools] = [new pg.Pool({ connectionString: url, max: 2 }), createTargetPools(log)]
  admin.on("error", () => {})
  await admin.query(`create table "Größen" (id integer primary key, w text);
    insert into "Größen" select n, 'klein' from generate_series(1, 5) n`)
  await initLedger(pools.get(url))
  target = { url, admin, pools, stop: async () => void (await Promise.all([admin.end(), pools.close()])) }
})
afterAll(() => target.stop())

it("a value that is cut for its card is written down where the target cannot spell the cut", async () => {
  const before = await textsOf(target, '"Größen"')
  const sql = `update "Größen" set w = repeat('größer ', 100) where id < 3`
  const { rollbackId, card, result } = await goThrough(
    target,
    await stepOf(`- { id: u, sql: ${JSON.stringify(sql)}, expect: { rows: 2 } }`),
  )
  expect(card.changes[0]?.after).toContain("größer")
  expect(result).toMatchObject({ outcome: "succeeded", changed: 2, changes: card.changes })
  const { rows } = await target.admin.query<{ result: { changes: { after: string }[]; kept: object } }>(
    "select result from stepback_ledger.entries where rollback_id = $1",
    [rollbackId],
  )
  expect(rows[0]?.result.changes[0]?.after).toMatch(/grö\.\.\. \(\d+ characters\)$/)
  expect(Object.keys(rows[0]?.result.kept ?? {})).toEqual(['"public"."Größen"'])
  const undone = await goThrough(target, undoStepOf(rollbackId, "u"))
  expect(undone.result).toMatchObject({ outcome: "succeeded", rows: 2, issues: [] })
  expect(await textsOf(target, '"Größen"')).toEqual(before)
})
