import { readConfig, type ConfigProblem } from "../config.ts"
import { createLogger } from "../log.ts"
import { formatProblem } from "../plans/format-problem.ts"
import { loadPlans } from "../plans/load.ts"
import type { LoadedPlan } from "../plans/plan.ts"
import { readWords } from "./arguments.ts"
import { checkPlanTarget } from "./doctor-plan.ts"
import { checkRedis } from "./doctor-redis.ts"
import { checkSlack } from "./doctor-slack.ts"
import { checkState } from "./doctor-state.ts"
import { bad, good, worthKnowing, type Finding } from "./finding.ts"
import { plansFolder } from "./plans.ts"
import { createRedactor } from "./secrets.ts"
import { exitCodes, type Command, type CommandContext } from "./terminal.ts"

/** `doctor`: tries what Stepback needs, one line a check, each with the way out. Changes nothing. */
export const doctor: Command = async ({ words, env, out }) => {
  readWords(words, "stepback doctor", { min: 0, max: 0 })
  const loaded = await loadPlans(plansFolder(env))
  const plans = [...loaded.plans.values()]
  const redact = createRedactor(env, ...plans.map(({ plan }) => plan))
  const log = createLogger({ level: "silent", role: "worker" })
  let wrong = 0
  const tell = (findings: readonly Finding[]) => {
    for (const { mark, text } of findings) out(`${mark} ${text.replaceAll(/\s*\n\s*/g, " ")}`)
    wrong += findings.filter((finding) => finding.mark === "✗").length
  }

  const { problems, value } = readSettings(env)
  const around = { env, redact, log }
  tell(problems.length === 0 ? [good("configuration: complete")] : problems.map(describe))
  // All at once, told in order: what hangs holds up nothing else.
  for (const findings of [
    bounded("state database", checkStateOf(value("DATABASE_URL"), around)),
    bounded("queue", checkQueue(value("REDIS_URL"), redact)),
    bounded("Slack", checkSlackOf(value, plans, redact)),
    Promise.resolve(checkFiles(loaded, plansFolder(env))),
    ...checkTargets(plans, value("STEPBACK_ROLE"), around),
  ])
    tell(await findings)
  out(wrong === 0 ? "Nothing is wrong." : `${wrong} ${wrong === 1 ? "thing is" : "things are"} wrong.`)
  return wrong === 0 ? exitCodes.good : exitCodes.bad
}

/** Longer than the time limits inside a check; the last line against a server that is there and silent. */
const patienceMs = 25_000

/** What a check found, or that it did not end. */
async function bounded(what: string, check: Promise<Finding[]>): Promise<Finding[]> {
  let timer: NodeJS.Timeout | undefined
  const silence = new Promise<Finding[]>((resolve) => {
    const late = () =>
      resolve([
        bad(
          `${what}: no answer in ${patienceMs / 1000} s`,
          "see whether the server hangs, or a firewall drops what is sent to it",
        ),
      ])
    timer = setTimeout(late, patienceMs)
  })
  return Promise.race([check, silence]).finally(() => clearTimeout(timer))
}

type Around = Pick<CommandContext, "env"> & { redact: (text: string) => string; log: ReturnType<typeof createLogger> }
type Value = (name: string) => string | null

async function checkStateOf(url: string | null, { redact, log }: Around): Promise<Finding[]> {
  return url === null ? [] : checkState(url, redact, log)
}

async function checkQueue(url: string | null, redact: Around["redact"]): Promise<Finding[]> {
  return url === null
    ? [good("queue: lives in the state database, since REDIS_URL is not set")]
    : checkRedis(url, redact)
}

async function checkSlackOf(value: Value, plans: LoadedPlan[], redact: Around["redact"]): Promise<Finding[]> {
  const botToken = value("SLACK_BOT_TOKEN")
  if (botToken === null) return []
  return checkSlack({ botToken, appToken: value("SLACK_APP_TOKEN"), apiUrl: value("SLACK_API_URL"), plans, redact })
}

function checkFiles({ plans, invalid }: Awaited<ReturnType<typeof loadPlans>>, folder: string): Finding[] {
  if (plans.size === 0 && invalid.length === 0)
    return [bad(`plans: there is none in ${folder}`, "write one, or set STEPBACK_PLANS")]
  return invalid.flatMap(({ file, problems }) =>
    problems.map((problem) =>
      bad(
        formatProblem(problem),
        file === folder ? "check STEPBACK_PLANS, and who may read there" : "mend the plan; the others work meanwhile",
      ),
    ),
  )
}

function checkTargets(plans: LoadedPlan[], role: string | null, around: Around): Promise<Finding[]>[] {
  if (role === "bot")
    return [
      Promise.resolve([
        worthKnowing(
          "targets: not looked at, since the bot role has none of their variables; run doctor where the workers run",
        ),
      ]),
    ]
  return plans.map(async (loaded) => {
    const { environment } = loaded.plan
    const found = await bounded(environment, checkPlanTarget(loaded, around))
    return [good(`${environment}: ${loaded.file} is valid`), ...found]
  })
}

/** Every variable that is all right on its own can be tried, whatever is wrong with the others. */
function readSettings(env: CommandContext["env"]): {
  problems: ConfigProblem[]
  value: Value
} {
  const read = readConfig(env)
  const problems = read.ok ? [] : read.problems
  const value = (name: string) => (problems.some((problem) => problem.name === name) ? null : env[name]?.trim() || null)
  return { problems, value }
}

function describe({ name, problem, purpose }: ConfigProblem): Finding {
  return bad(`configuration: ${name} ${problem} (${purpose})`, "set it in the environment")
}
