import { refusalWords } from "../bot/blocks/words.ts"
import { formatProblem } from "../plans/format-problem.ts"
import { loadPlans, type LoadedPlans } from "../plans/load.ts"
import type { LoadedPlan, PlanComponent } from "../plans/plan.ts"
import { nearest, resolveParameters, selectComponents, type Selection } from "../plans/select.ts"
import { refuse, type Refusal } from "../rollback/refusals.ts"
import { CommandError, forTerminal, type CommandContext } from "./terminal.ts"

/** The folder of the plans, as the bot finds it. */
export function plansFolder(env: CommandContext["env"]): string {
  return env["STEPBACK_PLANS"]?.trim() || "plans"
}

/** The plan of an environment; an end with its problems, or with the nearest name, when there is none. */
export async function getPlan(environment: string, env: CommandContext["env"]): Promise<LoadedPlan> {
  const folder = plansFolder(env)
  const loaded = await loadPlans(folder)
  const plan = loaded.plans.get(environment)
  if (plan) return plan
  const broken = loaded.invalid.filter((file) => file.environment === environment || file.file === folder)
  if (broken.length > 0) throw new CommandError(broken.flatMap((file) => file.problems.map(formatProblem)).join("\n"))
  const known = environmentsOf(loaded)
  const hint = loaded.invalid.map(
    (file) => `\n${file.file} is not valid: \`stepback plan check ${file.file}\` says why.`,
  )
  throw refused(
    { reason: "unknown_environment", given: environment, nearest: nearest(environment, known), known },
    hint.join(""),
  )
}

/** What would run, and with which values. */
export function resolvePlan(
  { plan }: LoadedPlan,
  selection: Selection,
): { components: PlanComponent[]; parameters: Record<string, string> } {
  const selected = selectComponents(plan, selection)
  if ("refusal" in selected) throw refused(selected.refusal)
  const resolved = resolveParameters(plan, selection.parameters)
  if ("refusal" in resolved) throw refused(resolved.refusal)
  return { ...selected, ...resolved }
}

function environmentsOf(loaded: LoadedPlans): string[] {
  return [...loaded.plans.keys(), ...loaded.invalid.flatMap((file) => file.environment ?? [])]
}

/** The same words as in Slack. */
function refused(refusal: Refusal, more = ""): CommandError {
  return new CommandError(`${forTerminal(refusalWords(refuse("request", refusal))).replaceAll("`", "")}${more}`)
}
