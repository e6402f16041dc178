import pg from "pg"
import { deletions } from "./light-plan.ts"

/** What somebody would write without Stepback: the same statements, the call and the messages, one after the other. */

type Asked = { databaseUrl: string; httpUrl: string; slackUrl: string; token: string }
export type BareCommand = Asked | { channel: string }

let work: ((channel: string) => Promise<number>) | null = null

async function prepare(asked: Asked): Promise<(channel: string) => Promise<number>> {
  const client = new pg.Client({ connectionString: asked.databaseUrl })
  await client.connect()

  async function tell(channel: string, text: string): Promise<void> {
    const answer = await fetch(`${asked.slackUrl}chat.postMessage`, {
      method: "POST",
      headers: { "content-type": "application/json; charset=utf-8", authorization: `Bearer ${asked.token}` },
      body: JSON.stringify({ channel, text }),
    })
    const body = (await answer.json()) as { ok: boolean; error?: string }
    if (!body.ok) throw new Error(`chat.postMessage: ${body.error}`)
  }

  return async (channel) => {
    const started = performance.now()
    await client.query("update bench_config set value = $1 where key = 'version'", ["good"])
    await tell(channel, "set-version done")
    for (const { id, read, remove } of deletions) {
      const seen = await client.query(read)
      const gone = await client.query(remove)
      if (seen.rowCount !== 3 || gone.rowCount !== 3) throw new Error(`${id}: ${gone.rowCount} rows removed`)
      await tell(channel, `${id} done: ${gone.rowCount} rows`)
    }
    const answer = await fetch(`${asked.httpUrl}/call`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ version: "good" }),
    })
    const said = (await answer.json()) as { version: string }
    if (said.version !== "good") throw new Error("the call did not answer")
    await tell(channel, "call done")
    const { rows } = await client.query<{ value: string }>("select value from bench_config where key = 'version'")
    if (rows[0]?.value !== "good") throw new Error("the version is not good")
    await tell(channel, "version-is-good done")
    return performance.now() - started
  }
}

process.on("message", (command: BareCommand) => {
  void (async () => {
    if ("databaseUrl" in command) {
      work = await prepare(command)
      process.send?.({ ms: 0 })
    } else process.send?.({ ms: await work?.(command.channel) })
  })().catch((error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`)
    process.exit(1)
  })
})
process.on("disconnect", () => process.exit(0))
