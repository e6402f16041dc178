import pg from "pg"
import { expect, it } from "vitest"
import { until } from "../../playground/faults/until.ts"
import { startPostgres } from "../../playground/postgres.ts"

/** Whether the server takes nobody new, as it does from the first moment of a shutdown. */
async function refuses(connectionString: string): Promise<true | undefined> {
  const client = new pg.Client({ connectionString })
  client.on("error", () => {})
  const code = await client.connect().then(
    () => "",
    (error: unknown) => (error instanceof pg.DatabaseError ? error.code : ""),
  )
  await client.end()
  return code === "57P03" ? true : undefined
}

it("stop lets a connection that is being closed leave in peace", { timeout: 60_000 }, async () => {
  const postgres = await startPostgres()
  const pool = new pg.Pool({ connectionString: postgres.url(), max: 1 })
  const told: string[] = []
  pool.on("error", ({ message }) => told.push(message))
  const { rows } = await pool.query<{ pid: number }>("select pg_backend_pid() as pid")
  const backend = rows[0]?.pid ?? -1
  const client = await pool.connect()
  const gone = new Promise((resolve) => client.once("end", resolve))
  client.release()

  // The server's side of it has not read yet that the connection is closed.
  process.kill(backend, "SIGSTOP")
  await pool.end()
  const stopped = postgres.stop()
  await until("the shutdown", () => refuses(postgres.url()))
  process.kill(backend, "SIGCONT")
  await Promise.all([stopped, gone])

  expect(told).toEqual([])
})
