import { readFile } from "node:fs/promises"
import { expect, inject, it } from "vitest"
import { connectPostgres } from "../../playground/postgres.ts"
import pg from "pg"
import { dumpSchema } from "../../src/store/dump.ts"
import { migrate } from "../../src/store/migrate.ts"

it("the committed schema is that of the migrations: `node scripts/schema-dump.ts` writes it anew", async () => {
  const postgres = connectPostgres(inject("postgresUrl"))
  const pool = new pg.Pool({ connectionString: await postgres.createDatabase(`schema_${process.pid}`) })
  try {
    await migrate(pool)
    const committed = await readFile(new URL("../../src/store/schema.sql", import.meta.url), "utf8")
    expect(await dumpSchema(pool)).toBe(committed)
  } finally {
    await pool.end()
  }
})
