import { mkdir, writeFile } from "node:fs/promises"
import { userInfo } from "node:os"
import { basename, dirname, extname, join, resolve } from "node:path"
import { drawBaseline } from "../bot/blocks/baseline.ts"
import { errorCode } from "../errors.ts"
import { capture, compare } from "../jobs/serve-baselines.ts"
import { createLogger } from "../log.ts"
import type { LoadedPlan } from "../plans/plan.ts"
import type { BaselineAnswer } from "../rollback/baseline-facts.ts"
import { snapshotFile } from "../steps/baseline.ts"
import { checkName } from "../steps/baseline-compare.ts"
import { createSecrets, type Secrets } from "../steps/secrets.ts"
import { sqlFailure } from "../steps/step.ts"
import { createTargetPools, type TargetPools } from "../steps/target.ts"
import { createPool } from "../store/database.ts"
import { createStore, type Store } from "../store/store.ts"
import { getPlan } from "./plans.ts"
import { createRedactor, missingVariables } from "./secrets.ts"
import { getDatabaseUrl } from "./state.ts"
import { CommandError, exitCodes, forTerminal, type Command, type CommandContext } from "./terminal.ts"

type Work = (parts: {
  loaded: LoadedPlan
  name: string
  store: Store
  targets: TargetPools
  secrets: Secrets
}) => Promise<string>

/** `baseline capture ENV [--as NAME]`: keeps a snapshot in the state database and, for the baseline that a plan names a file for, there. */
export const baselineCapture: Command = (context) =>
  withBaseline(context, "capture", async ({ loaded, name, store, targets, secrets }) => {
    const { plan, file } = loaded
    const { answer, baseline, snapshot } = await capture(plan, name, userInfo().username, secrets, { targets })
    await store.baselines.keep(baseline)
    const path = plan.baseline?.file == null ? null : resolve(dirname(file), named(plan.baseline.file, name))
    if (path !== null) {
      await mkdir(dirname(path), { recursive: true })
      await writeFile(path, snapshotFile(snapshot, baseline.sha256, plan.redact))
    }
    return `${textOf(answer, plan.environment, "capture")}${path === null ? "" : `\nWritten to ${path}`}`
  })

/** `baseline diff ENV [--as NAME]`: what differs from the newest snapshot now. */
export const baselineDiff: Command = (context) =>
  withBaseline(context, "diff", async ({ loaded, name, store, targets, secrets }) =>
    textOf(await compare(loaded.plan, name, secrets, { targets, store }), loaded.plan.environment, "diff"),
  )

function textOf(answer: BaselineAnswer, environment: string, what: "capture" | "diff"): string {
  return forTerminal(drawBaseline(answer, { environment, what, requester_id: "" }).text)
}

/** `baselines/checkout.json`, and `baselines/checkout.after.json` beside it. */
function named(file: string, name: string): string {
  if (name === "baseline") return file
  const end = extname(file)
  return join(dirname(file), `${basename(file, end)}.${name}${end}`)
}

async function withBaseline(
  { words, env, out }: CommandContext,
  verb: "capture" | "diff",
  work: Work,
): Promise<number> {
  const { environment, name } = readWords(words, `stepback baseline ${verb} ENV [--as NAME]`)
  const loaded = await getPlan(environment, env)
  const missing = missingVariables({ target: { ...loaded.plan.target, http: null }, components: [] }, env)
  if (missing.length > 0) throw new CommandError(missing.join("\n"))
  const databaseUrl = getDatabaseUrl(env)
  const redact = createRedactor(env, loaded.plan)
  const secrets = createSecrets(env)
  const log = createLogger({ level: "silent", role: "worker" })
  const targets = createTargetPools(log)
  const pool = createPool(databaseUrl, { log, max: 2 })
  try {
    out(await work({ loaded, name, store: createStore(pool), targets, secrets }))
    return exitCodes.good
  } catch (error) {
    if (["42P01", "3F000"].includes(errorCode(error)))
      throw new CommandError(
        "The state database has no place for baselines yet: Stepback creates it when it starts. Is DATABASE_URL the right one?",
      )
    throw new CommandError(redact(sqlFailure(error, "", { secrets, redact: loaded.plan.redact }).message))
  } finally {
    await Promise.all([targets.close(), pool.end()])
  }
}

function readWords(words: readonly string[], usage: string): { environment: string; name: string } {
  const flat = words.flatMap((word) => (word.startsWith("--as=") ? ["--as", word.slice(5)] : [word]))
  const at = flat.indexOf("--as")
  const name = at < 0 ? "baseline" : flat[at + 1]
  const rest = at < 0 ? flat : flat.toSpliced(at, 2)
  const option = rest.find((word) => word.startsWith("-"))
  if (option !== undefined) throw new CommandError(`${option} is no option here. Usage: ${usage}`)
  const [environment, ...more] = rest
  if (environment === undefined) throw new CommandError(`An environment is missing. Usage: ${usage}`)
  if (more.length > 0 || name === undefined) throw new CommandError(`Usage: ${usage}`)
  return { environment: environment.toLowerCase(), name: checkName(name) }
}
