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
  tell(problems.length === 0 ? [good("configuration: complete")] : problems.map(describe))
  const databaseUrl = value("DATABASE_URL")
  if (databaseUrl !== null) tell(await checkState(databaseUrl, redact, log))
  const redisUrl = value("REDIS_URL")
  tell(
    redisUrl === null
      ? [good("queue: lives in the state database, since REDIS_URL is not set")]
      : await checkRedis(redisUrl, redact),
  )
  const botToken = value("SLACK_BOT_TOKEN")
  if (botToken !== null)
    tell(
      await checkSlack({ botToken, appToken: value("SLACK_APP_TOKEN"), apiUrl: value("SLACK_API_URL"), plans, redact }),
    )
  tell(
    loaded.invalid.flatMap((file) =>
      file.problems.map((problem) => bad(formatProblem(problem), "mend the plan; the others work meanwhile")),
    ),
  )
  if (plans.length === 0 && loaded.invalid.length === 0)
    tell([bad(`plans: there is none in ${plansFolder(env)}`, "write one, or set STEPBACK_PLANS")])
  await checkTargets(plans, { env, redact, log, tell, role: value("STEPBACK_ROLE") })
  out(wrong === 0 ? "Nothing is wrong." : `${wrong} ${wrong === 1 ? "thing is" : "things are"} wrong.`)
  return wrong === 0 ? exitCodes.good : exitCodes.bad
}

type TargetChecks = Pick<CommandContext, "env"> & {
  redact: (text: string) => string
  log: ReturnType<typeof createLogger>
  tell: (findings: readonly Finding[]) => void
  role: string | null
}

async function checkTargets(plans: LoadedPlan[], { role, tell, ...rest }: TargetChecks): Promise<void> {
  if (role === "bot")
    return tell([
      worthKnowing(
        "targets: not looked at, since the bot role has none of their variables; run doctor where the workers run",
      ),
    ])
  for (const loaded of plans) {
    tell([good(`${loaded.plan.environment}: ${loaded.file} is valid`)])
    tell(await checkPlanTarget(loaded, rest))
  }
}

/** Every variable that is all right on its own can be tried, whatever is wrong with the others. */
function readSettings(env: CommandContext["env"]): {
  problems: ConfigProblem[]
  value: (name: string) => string | null
} {
  const read = readConfig(env)
  const problems = read.ok ? [] : read.problems
  const value = (name: string) => (problems.some((problem) => problem.name === name) ? null : env[name]?.trim() || null)
  return { problems, value }
}

function describe({ name, problem, purpose }: ConfigProblem): Finding {
  return bad(`configuration: ${name} ${problem} (${purpose})`, "set it in the environment")
}
