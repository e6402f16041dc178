import type { Plan } from "../../plans/plan.ts"
import type { ComponentView } from "../../rollback/facts.ts"
import { clock } from "./format.ts"
import { safe } from "./escape.ts"
import { mentions } from "./parts.ts"
import { lineText } from "./render.ts"

/** A plan in short, for `/rollback plan`: what would run, in which order, who approves. */
export function planText(plan: Plan, components: readonly ComponentView[]): string {
  const lines = [`*${safe(plan.title)}* (${safe(plan.environment)})`]
  for (const [index, component] of components.entries()) {
    const rules = plan.components[index]
    const rto = component.rtoMs === null ? "" : ` · RTO ${clock(component.rtoMs)}`
    // The id is what a request types: a title alone would leave it to be guessed.
    const chosen = rules?.optional === true ? `only with \`--with ${component.id}\`` : `\`--only ${component.id}\``
    lines.push(`*${safe(component.title)}* · ${component.risk} risk${rto} · ${chosen}`)
    for (const step of component.steps) lines.push(`  • ${safe(step.title)} (${step.kind})`)
  }
  const parameters = Object.entries(plan.params)
  if (parameters.length > 0) lines.push("*Parameters*, set with `name=value` in the request")
  for (const [name, { type, default: value, description }] of parameters)
    lines.push(
      `  • ${safe(name)} (${type})${value === null ? ", must be given" : ` = ${safe(value, 120)}`}${description === null ? "" : ` · ${safe(description, 200)}`}`,
    )
  lines.push(approvals(plan.approve))
  if (plan.notes !== null) lines.push(`Note from the plan: ${safe(plan.notes)}`)
  lines.push(`See it on the live data: \`/rollback rehearse ${plan.environment}\``)
  return lines.join("\n")
}

/** How many and who: an id in a message that one person alone reads rings nobody. */
function approvals({ low, medium, high }: Plan["approve"]): string {
  const by = [low, medium, high].map(({ from }) => (from === "anyone" ? "any full member" : lineText(mentions(from))))
  const counts = `${low.count} at low risk, ${medium.count} at medium, ${high.count} at high`
  if (by.every((who) => who === by[0])) return `Approvals: ${counts}, by ${by[0]}; never the requester.`
  return `Approvals: ${counts}; never the requester. At low risk by ${by[0]}, at medium by ${by[1]}, at high by ${by[2]}.`
}
