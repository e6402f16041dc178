import { errorCode, errorMessage } from "../errors.ts"
import { createLogger } from "../log.ts"
import { createPool } from "../store/database.ts"
import { createStore } from "../store/store.ts"
import { readWords } from "./arguments.ts"
import { createRedactor } from "./secrets.ts"
import { getDatabaseUrl } from "./state.ts"
import { CommandError, exitCodes, type Command } from "./terminal.ts"

/** `audit verify`: walks every audit chain and names the first entry that is not as it was written. */
export const auditVerify: Command = async ({ words, env, out }) => {
  readWords(words, "stepback audit verify", { min: 0, max: 0 })
  const pool = createPool(getDatabaseUrl(env), { log: createLogger({ level: "silent", role: "worker" }), max: 2 })
  try {
    const verdict = await createStore(pool).audit.verify()
    out(verdict.intact ? `intact: ${verdict.entries} entries` : `broken: ${verdict.broken}`)
    return verdict.intact ? exitCodes.good : exitCodes.bad
  } catch (error) {
    if (["42P01", "3F000"].includes(errorCode(error)))
      throw new CommandError(
        "This database has no audit chain yet: Stepback creates its tables when it starts. Is DATABASE_URL the right one?",
      )
    throw new CommandError(`The audit chain could not be read: ${createRedactor(env)(errorMessage(error))}`)
  } finally {
    await pool.end()
  }
}
