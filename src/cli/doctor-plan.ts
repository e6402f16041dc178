import { randomUUID } from "node:crypto"
import { errorMessage } from "../errors.ts"
import { hookUrl } from "../jobs/call-hook.ts"
import { hashFiles, resolveCommits } from "../jobs/freeze-run.ts"
import type { Logger } from "../log.ts"
import type { LoadedPlan, Plan } from "../plans/plan.ts"
import { namesIn, type Values } from "../plans/values.ts"
import { createSecrets } from "../steps/secrets.ts"
import { createTargetPools, httpBase, identify, looking, type TargetPools } from "../steps/target.ts"
import { workflowStep } from "../steps/workflow.ts"
import { checkLedger, checkTable } from "./doctor-tables.ts"
import { bad, good, worthKnowing, type Finding } from "./finding.ts"
import { missingVariables } from "./secrets.ts"
import { tablesOf } from "./tables.ts"
import type { CommandContext } from "./terminal.ts"

type Pool = ReturnType<TargetPools["get"]>
type Around = Pick<CommandContext, "env"> & { redact: (text: string) => string; log: Logger }

/** What a worker needs for one plan: variables, database, privileges, host, programs. */
export async function checkPlanTarget({ plan }: LoadedPlan, around: Around): Promise<Finding[]> {
  const missing = missingVariables(plan, around.env)
  const findings = missing.map((text) => bad(`${plan.environment}: ${text}`, "set it in the workers' environment"))
  if (missing.length === 0) findings.push(good(`${plan.environment}: every variable is set`))
  const has = (text: string | null): text is string =>
    text !== null && [...text.matchAll(/\$\{(\w+)\}/g)].every((match) => around.env[match[1] as string])
  if (has(plan.target.postgres)) findings.push(...(await checkDatabase(plan, plan.target.postgres, around)))
  if (has(plan.target.http)) findings.push(await checkHttp(plan, plan.target.http, around))
  if (missing.length > 0) return findings
  const values = defaultsOf(plan)
  return [
    ...findings,
    ...(await checkCommands(plan, values, around)),
    ...(await checkWorkflows(plan, values, around)),
    ...checkHook(plan, around),
  ]
}

/** What a request gets that sets no parameter. */
function defaultsOf({ params }: Plan): Values {
  return Object.fromEntries(
    Object.entries(params).flatMap(([name, param]) => (param.default === null ? [] : [[name, param.default]])),
  )
}

async function checkDatabase(plan: Plan, address: string, { env, redact, log }: Around): Promise<Finding[]> {
  const name = plan.environment
  const pools = createTargetPools(log)
  try {
    const pool = pools.get(createSecrets(env).resolve(address))
    const { fingerprint, closed } = await identify(pool, null)
    const expected = plan.target.expect.database
    const findings = [
      expected === null || expected === fingerprint.database
        ? good(`${name}: target database "${fingerprint.database}" answers`)
        : bad(
            `${name}: the target is database "${fingerprint.database}", the plan expects "${expected}"`,
            "check the variable in target.postgres",
          ),
    ]
    if (closed) findings.push(bad(`${name}: the target ${closed.why}`, closed.mend))
    findings.push(...(await checkBeginning(pool, name, redact)), ...(await checkLedger(pool, plan)))
    for (const table of await tablesOf(plan.components)) findings.push(...(await checkTable(pool, name, table)))
    return findings
  } catch (error) {
    return [
      bad(
        `${name}: target database: ${redact(errorMessage(error))}`,
        "check the variable in target.postgres, and that the server takes connections from here",
      ),
    ]
  } finally {
    await pools.close()
  }
}

/** Each step's transaction begins by setting what rows and keys depend on. */
async function checkBeginning(pool: Pool, name: string, redact: (text: string) => string): Promise<Finding[]> {
  try {
    await looking(pool, patienceMs, () => Promise.resolve())
    return []
  } catch (error) {
    return [
      bad(
        `${name}: no step can begin: ${redact(errorMessage(error))}`,
        "take that setting from the role or the database: alter role … reset …",
      ),
    ]
  }
}

const patienceMs = 5_000

/** Any answer will do: what the functions say is for the rehearsal. */
async function checkHttp(plan: Plan, address: string, { env, redact }: Around): Promise<Finding> {
  try {
    const url = httpBase(createSecrets(env).resolveOpen(address))
    const response = await fetch(url, { redirect: "manual", signal: AbortSignal.timeout(patienceMs) })
    await response.body?.cancel()
    return good(`${plan.environment}: ${redact(url.origin)} answers (${response.status})`)
  } catch (error) {
    const cause = error instanceof Error && error.cause !== undefined ? errorMessage(error.cause) : errorMessage(error)
    return bad(
      `${plan.environment}: target.http: ${redact(cause)}`,
      "check the variable in target.http, and that the host is reachable from here",
    )
  }
}

/** Files that commands name can be read, and versions that the plan names by default are there. */
async function checkCommands(plan: Plan, values: Values, { env, redact }: Around): Promise<Finding[]> {
  const components = plan.components.map((component) => ({
    ...component,
    // A folder that depends on what is asked for is not known yet.
    steps: component.steps.filter(
      (step) => step.kind === "command" && namesIn(step.cwd ?? "").every((name) => name in values),
    ),
  }))
  const commands = components.flatMap(({ steps }) => steps)
  if (commands.length === 0) return []
  const secrets = createSecrets(env)
  try {
    const files = await hashFiles(components, secrets, () => values)
    if (Object.entries(plan.params).every(([name, param]) => param.type !== "git_ref" || name in values))
      await resolveCommits(plan, components, values, secrets)
    const count = Object.values(files).flatMap((found) => Object.keys(found)).length
    return [
      good(
        `${plan.environment}: ${count} files of ${commands.length} commands can be read, and the versions that they name are there`,
      ),
    ]
  } catch (error) {
    return [
      bad(
        `${plan.environment}: ${redact(errorMessage(error))}`,
        "check the folder in cwd, and that the repository is up to date on this machine",
      ),
    ]
  }
}

/** Token, repository, workflow and branch, and whether its runs could be found again; none is started. */
async function checkWorkflows(plan: Plan, values: Values, { env, redact, log }: Around): Promise<Finding[]> {
  const steps = plan.components.flatMap((component) => component.steps.filter((step) => step.kind === "workflow"))
  const secrets = createSecrets(env)
  const { environment } = plan
  const context = {
    rollbackId: randomUUID(),
    environment,
    values,
    secrets,
    target: { pool: null, httpBase: null },
    redact: plan.redact,
    signal: new AbortController().signal,
    log,
  }
  const looked = steps.map(async (step): Promise<Finding[]> => {
    const { outcome, note, warnings } = await workflowStep.rehearse(step, context)
    const text = redact(`${environment}: ${step.id}: ${note ?? outcome}`)
    if (outcome === "not_tried") return [worthKnowing(text)]
    if (outcome === "unknown") return [bad(text, `check repo, file, ref and token of ${step.id}`)]
    return [
      good(`${text} (not started)`),
      ...warnings.map((warning) => bad(`${environment}: ${redact(warning)}`, "change the workflow's file")),
    ]
  })
  return (await Promise.all(looked)).flat()
}

/** What it would take to call the pager; it is not called, since that wakes people. */
function checkHook({ environment, escalate: { hook } }: Plan, { env, redact }: Around): Finding[] {
  if (hook === null) return []
  try {
    const secrets = createSecrets(env)
    const { origin } = new URL(hookUrl(hook, secrets))
    const fits = hook.kind === "webhook" || /^[A-Za-z0-9]{32}$/.test(secrets.resolve(hook.key).trim())
    return fits
      ? [good(`${environment}: ${hook.kind} would be called at ${origin} (not tried)`)]
      : [bad(`${environment}: the key of escalate.hook is none of PagerDuty's`, "it has 32 letters and digits")]
  } catch (error) {
    return [bad(`${environment}: ${redact(errorMessage(error))}`, "check the variables in escalate.hook")]
  }
}
