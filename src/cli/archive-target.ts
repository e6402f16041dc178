import { errorCode, errorMessage, StepbackError } from "../errors.ts"
import { createLogger } from "../log.ts"
import { createSecrets } from "../steps/secrets.ts"
import { createTargetPools, identify, inSentence } from "../steps/target.ts"
import { createPool } from "../store/database.ts"
import { createStore, type Store } from "../store/store.ts"
import { getPlan } from "./plans.ts"
import { createRedactor, missingVariables } from "./secrets.ts"
import { getDatabaseUrl } from "./state.ts"
import { CommandError, type CommandContext } from "./terminal.ts"

export type Both = {
  environment: string
  /** How the plan writes the target's address. */
  reference: string
  target: ReturnType<ReturnType<typeof createTargetPools>["get"]>
  store: Store
}

/** Opens an environment's target and the state database for `work`, and says in a sentence what is in the way. */
export async function withBoth(
  environment: string,
  env: CommandContext["env"],
  work: (both: Both) => Promise<number>,
): Promise<number> {
  const { plan } = await getPlan(environment, env)
  const reference = plan.target.postgres
  if (reference === null)
    throw new CommandError(`The plan of ${environment} has no target.postgres, so nothing is kept in one.`)
  const missing = missingVariables({ target: { ...plan.target, http: null }, components: [] }, env)
  if (missing.length > 0) throw new CommandError(missing.join("\n"))
  const databaseUrl = getDatabaseUrl(env)
  const redact = createRedactor(env, plan)
  const log = createLogger({ level: "silent", role: "worker" })
  const targets = createTargetPools(log)
  const state = createPool(databaseUrl, { log, max: 2 })
  const inWords = (what: string) => (error: unknown) => {
    throw new CommandError(`${what} does not answer: ${redact(errorMessage(error))}`)
  }
  try {
    const store = createStore(state)
    await store.ping().catch(inWords("DATABASE_URL: the state database"))
    const target = targets.get(createSecrets(env).resolve(reference))
    const { fingerprint, closed } = await identify(target, null).catch(inWords("The target database"))
    const expected = plan.target.expect.database
    if (closed) throw new CommandError(`${inSentence("The target", closed)}.`)
    if (expected !== null && expected !== fingerprint.database)
      throw new CommandError(`The target is database "${fingerprint.database}", and the plan expects "${expected}".`)
    return await work({ environment, reference, target, store })
  } catch (error) {
    if (error instanceof CommandError) throw error
    if (error instanceof StepbackError) throw new CommandError(sentence(error.message))
    if (["42P01", "3F000"].includes(errorCode(error)))
      throw new CommandError(
        `The ledger, or Stepback's own tables, are not there: nothing was kept yet. \`stepback doctor\` says which. (${errorMessage(error)})`,
      )
    if (errorCode(error) === "42501")
      throw new CommandError(`${redact(errorMessage(error))}: \`stepback doctor\` says what the role lacks`)
    throw new CommandError(redact(errorMessage(error)))
  } finally {
    await Promise.all([targets.close(), state.end()])
  }
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`
}

export function bytesInWords(bytes: number): string {
  const units = ["bytes", "kB", "MB", "GB", "TB"]
  const at = Math.min(bytes < 1 ? 0 : Math.floor(Math.log(bytes) / Math.log(1024)), units.length - 1)
  const number = bytes / 1024 ** at
  return `${number >= 10 || at === 0 ? Math.round(number) : number.toFixed(1)} ${units[at]}`
}

export function rowsInWords(rows: number): string {
  return rows === 1 ? "1 row" : `${rows} rows`
}
