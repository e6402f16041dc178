import { parseArgs } from "node:util"
import { errorCode, errorMessage } from "../errors.ts"
import { createLogger } from "../log.ts"
import { createPool } from "../store/database.ts"
import { createStore, type Store } from "../store/store.ts"
import { readHeadsFile, readSlackHeads, type OutsideHeads } from "./audit-heads.ts"
import { createRedactor } from "./secrets.ts"
import { getDatabaseUrl } from "./state.ts"
import { CommandError, exitCodes, type Command, type CommandContext } from "./terminal.ts"

const verifyUsage = "stepback audit verify [--heads FILE]"
const exportUsage = "stepback audit export [--rollback R-7]"

/** `audit verify`: walks every audit chain, compares with the heads that were posted, names the first bad entry. */
export const auditVerify: Command = async ({ words, env, out, err }) => {
  const { heads: file } = readOptions(words, { heads: { type: "string" } }, verifyUsage)
  return withStore(env, async (store) => {
    const outside = file === undefined ? await fromSlack(env, store) : await readHeadsFile(file)
    const verdict = await store.audit.verify(outside.heads)
    if (!verdict.intact) {
      out(`broken: ${verdict.broken}`)
      return exitCodes.bad
    }
    const ended = verdict.compared + verdict.uncompared.length
    const where = file === undefined ? "its thread in Slack" : file
    out(
      `intact: ${verdict.entries} entries; the newest head of ${verdict.compared} of ${ended} rollbacks compared with ${where}`,
    )
    for (const what of outside.unread) err(`not read: ${what}`)
    if (verdict.uncompared.length > 0)
      err(
        `not compared to their newest entry (still going on, or no head was found outside): ${shortened(verdict.uncompared)}`,
      )
    return exitCodes.good
  })
}

/** `audit export`: an entry a line, as JSON, with all that somebody else needs to compute the hashes. */
export const auditExport: Command = async ({ words, env, out }) => {
  const { rollback } = readOptions(words, { rollback: { type: "string" } }, exportUsage)
  const number = rollback === undefined ? null : Number(/^R-(\d{1,9})$/i.exec(rollback)?.[1] ?? Number.NaN)
  if (Number.isNaN(number)) throw new CommandError(`"${rollback}" is no rollback. Usage: ${exportUsage}`)
  return withStore(env, async (store) => {
    let entries = 0
    for await (const entry of store.audit.export(number)) {
      out(JSON.stringify(entry))
      entries++
    }
    if (number !== null && entries === 0) throw new CommandError(`There is no R-${number} in this database.`)
    return exitCodes.good
  })
}

async function fromSlack(env: CommandContext["env"], store: Store): Promise<OutsideHeads> {
  const botToken = env["SLACK_BOT_TOKEN"]?.trim() ?? ""
  if (botToken === "")
    return { heads: [], unread: ["any head in Slack: SLACK_BOT_TOKEN is missing (or give --heads FILE)"] }
  const api = env["SLACK_API_URL"]?.trim() ?? ""
  const apiUrl = api === "" ? null : `${api.replace(/\/+$/, "")}/`
  return readSlackHeads({ botToken, apiUrl }, await store.audit.threads())
}

function shortened(names: readonly string[]): string {
  const shown = names.slice(0, 20).join(", ")
  return names.length > 20 ? `${shown} and ${names.length - 20} more` : shown
}

function readOptions<Name extends string>(
  words: string[],
  options: Record<Name, { type: "string" }>,
  usage: string,
): Partial<Record<Name, string>> {
  try {
    return parseArgs({ args: words, options, allowPositionals: false }).values
  } catch (error) {
    throw new CommandError(`${errorMessage(error).split(/[.\n]/)[0] ?? ""}. Usage: ${usage}`)
  }
}

async function withStore(env: CommandContext["env"], work: (store: Store) => Promise<number>): Promise<number> {
  const pool = createPool(getDatabaseUrl(env), { log: createLogger({ level: "silent", role: "worker" }), max: 2 })
  try {
    return await work(createStore(pool))
  } catch (error) {
    if (error instanceof CommandError) throw error
    if (["42P01", "3F000"].includes(errorCode(error)))
      throw new CommandError(
        "This database has no audit chain yet: Stepback creates its tables when it starts. Is DATABASE_URL the right one?",
      )
    throw new CommandError(`The audit chain could not be read: ${createRedactor(env)(errorMessage(error))}`)
  } finally {
    await pool.end()
  }
}
