import { withoutSecrets } from "../log.ts"
import type { Plan, PlanComponent, PlanStep } from "../plans/plan.ts"
import { createSecrets } from "../steps/secrets.ts"
import type { CommandContext } from "./terminal.ts"

type Environment = CommandContext["env"]
type Uses = { target: Plan["target"]; components: readonly PlanComponent[]; escalate?: Plan["escalate"] }

/** A line for each variable that the steps need and the environment has not. */
export function missingVariables(uses: Uses, env: Environment): string[] {
  return [...variablesOf(uses)]
    .filter(([name]) => !env[name])
    .map(([name, places]) => `${name} is missing: ${places.join(", ")} needs it`)
}

/** Takes every secret of this environment out of texts that others wrote: errors of drivers, answers of servers. */
export function createRedactor(env: Environment, ...plans: Uses[]): (text: string) => string {
  const secrets = createSecrets(env)
  for (const { name, open } of plans.flatMap(referencesOf)) {
    if (!env[name]) continue
    if (open) secrets.resolveOpen(`\${${name}}`)
    else secrets.resolve(`\${${name}}`)
  }
  return (text) => withoutSecrets(secrets.redact(text))
}

type Reference = { name: string; place: string; open: boolean }

function variablesOf(uses: Uses): Map<string, string[]> {
  const places = new Map<string, string[]>()
  for (const { name, place } of referencesOf(uses)) {
    const known = places.get(name) ?? []
    if (!known.includes(place)) places.set(name, [...known, place])
  }
  return places
}

/** `open`: a folder or a host, which may be shown. */
function referencesOf({ target, components, escalate }: Uses): Reference[] {
  return [
    ...inText(target.postgres, "target.postgres", false),
    ...inText(target.http, "target.http", true),
    ...components.flatMap((component) => component.steps.flatMap(inStep)),
    ...inText(JSON.stringify(escalate?.hook ?? null), "escalate.hook", false),
  ]
}

function inStep(step: PlanStep): Reference[] {
  const place = `step ${step.id}`
  if (step.kind === "http") return inText(JSON.stringify([step.headers, step.undo?.headers]), place, false)
  if (step.kind === "workflow") return inText(step.token, place, false)
  if (step.kind !== "command") return []
  return [
    ...inText(step.cwd, place, true),
    ...inText(JSON.stringify([step.command, step.deployed, step.undo]), place, false),
    ...step.env.map((name) => ({ name, place, open: false })),
  ]
}

function inText(text: string | null, place: string, open: boolean): Reference[] {
  return [...(text ?? "").matchAll(/\$\{([A-Za-z_]\w*)\}/g)].map((match) => ({ name: match[1] as string, place, open }))
}
