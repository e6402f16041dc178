import { errorMessage } from "../errors.ts"
import { prepareQueue, queueSchema } from "../jobs/queue.ts"
import { createLogger } from "../log.ts"
import { createPool } from "../store/database.ts"
import { migrate } from "../store/migrate.ts"
import { runtimeRoleSql } from "../store/roles.ts"
import { createRedactor } from "./secrets.ts"
import { getDatabaseUrl } from "./state.ts"
import { CommandError, exitCodes, type Command } from "./terminal.ts"

const usage = "stepback state init [--print]"

/** `state init`: brings the state database to this version, as its owner; with `--print` the role for the processes. */
export const stateInit: Command = async ({ words, env, out }) => {
  const other = words.find((word) => word !== "--print")
  if (other !== undefined) throw new CommandError(`${other} is no option here. Usage: ${usage}`)
  if (words.length > 0) {
    out(runtimeRoleSql("stepback_runtime", queueSchema).trimEnd())
    return exitCodes.good
  }
  const url = getDatabaseUrl(env)
  const pool = createPool(url, { log: createLogger({ level: "silent", role: "worker" }), max: 2 })
  try {
    const applied = await migrate(pool)
    if ((env["REDIS_URL"]?.trim() ?? "") === "") await prepareQueue(url)
    out(applied.length === 0 ? "The state database is current." : `Applied: ${applied.join(", ")}`)
    return exitCodes.good
  } catch (error) {
    throw new CommandError(`The state database could not be prepared: ${createRedactor(env)(errorMessage(error))}`)
  } finally {
    await pool.end()
  }
}
