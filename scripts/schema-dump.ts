import { writeFile } from "node:fs/promises"
import pg from "pg"
import { startPostgres } from "../playground/postgres.ts"
import { dumpSchema } from "../src/store/dump.ts"
import { migrate } from "../src/store/migrate.ts"

/** Writes src/store/schema.sql anew, after a migration was added. */
const postgres = await startPostgres()
const pool = new pg.Pool({ connectionString: await postgres.createDatabase("dump") })
try {
  await migrate(pool)
  await writeFile(new URL("../src/store/schema.sql", import.meta.url), await dumpSchema(pool))
} finally {
  await pool.end()
  await postgres.stop()
}
