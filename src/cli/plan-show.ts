import { duration } from "../bot/blocks/format.ts"
import { canonicalJson, sha256 } from "../plans/frozen.ts"
import type { Audience, LoadedPlan, Plan, PlanComponent } from "../plans/plan.ts"
import { planViews } from "../plans/step-view.ts"
import type { Values } from "../plans/values.ts"
import type { StepView } from "../rollback/facts.ts"
import type { Hook } from "../rollback/hook.ts"
import { readPlanArguments } from "./arguments.ts"
import { byHand } from "./by-hand.ts"
import { expectation } from "./expectation.ts"
import { getPlan, resolvePlan } from "./plans.ts"
import { exitCodes, type Command } from "./terminal.ts"

const usage = "stepback plan show ENV [--sql] [--only a,b] [--with c] [name=value…]"

/** `plan show ENV`: what would run, in full; with `--sql` as statements to paste. Reads the plan file and nothing else. */
export const planShow: Command = async ({ words, env, out }) => {
  const { environment, selection, flags } = readPlanArguments(words, usage, ["sql"])
  const loaded = await getPlan(environment, env)
  const { components, parameters } = resolvePlan(loaded, selection)
  const digest = planDigest(loaded.plan, parameters)
  out(
    flags.has("sql")
      ? byHand({ plan: loaded.plan, components, parameters, digest })
      : describePlan(loaded, components, parameters, digest),
  )
  return exitCodes.good
}

/** Names a plan with its values. What a card's digest covers beyond this is only known by looking at the target. */
export function planDigest(plan: Plan, parameters: Values): string {
  return sha256(canonicalJson({ plan, parameters }))
}

function describePlan(
  { plan, file }: LoadedPlan,
  components: PlanComponent[],
  parameters: Values,
  digest: string,
): string {
  const left = plan.components.filter((component) => !components.some((chosen) => chosen.id === component.id))
  return [
    `${plan.title} (${plan.environment})`,
    "",
    ...table([
      ["file", file],
      ["digest", `sha256 ${digest}`],
      ["", "of the whole plan and the parameters below. The digest on a card covers the commits, the files, the"],
      ["", "target and the rehearsal's numbers as well: those are known when the target is looked at."],
      ["target", [plan.target.postgres, plan.target.http].filter((part) => part !== null).join(", ")],
      ...(plan.target.expect.database === null ? [] : [["", `must be database ${plan.target.expect.database}`]]),
      ["channel", plan.channel ?? "any that the bot is in"],
      ["RTO", plan.rtoMs === null ? "none" : duration(plan.rtoMs)],
      ...(plan.notes === null ? [] : [["notes", plan.notes]]),
    ]),
    ...section(
      "Parameters",
      Object.entries(plan.params).map(([name, param]) => [
        name,
        parameters[name] ?? "",
        param.type,
        param.description ?? "",
      ]),
    ),
    ...section("Who decides", [
      ["request", audience(plan.request)],
      ...(["low", "medium", "high"] as const).map((risk) => [
        `${risk} risk`,
        `${plan.approve[risk].count} of ${audience(plan.approve[risk].from)}, never the requester`,
      ]),
      ["expires", `after ${duration(plan.approve.expiresMs)}`],
      [
        "escalation",
        `${plan.escalate.channel ?? "the card's channel"}, to ${plan.escalate.mention.join(", ") || "nobody by name"}; acknowledged within ${duration(plan.escalate.acknowledgeWithinMs)}`,
      ],
      ...(plan.escalate.hook === null ? [] : [["beside Slack", hookText(plan.escalate.hook)]]),
    ]),
    ...planViews({ components, target: plan.target }, parameters).flatMap((view, index) =>
      describeComponent(components[index] as PlanComponent, view.steps, parameters),
    ),
    ...section(
      "Success criteria",
      plan.success.map((criterion) => [criterion.text, `from ${criterion.from.join(", ")}`]),
    ),
    ...(left.length === 0
      ? []
      : [
          "",
          `Not in this run: ${left.map((component) => component.id + (component.optional ? ` (--with ${component.id})` : "")).join(", ")}`,
        ]),
  ].join("\n")
}

function hookText(hook: Hook): string {
  return hook.kind === "pagerduty"
    ? `PagerDuty${hook.url === null ? "" : ` at ${hook.url}`}, with ${hook.key}`
    : `a webhook at ${hook.url}, signed with ${hook.secret}`
}

function describeComponent(component: PlanComponent, steps: StepView[], parameters: Values): string[] {
  const facts = [
    `${component.risk} risk`,
    component.rtoMs === null ? null : `RTO ${duration(component.rtoMs)}`,
    component.optional ? "optional" : null,
    component.parallel ? "steps side by side" : null,
    component.needs.length === 0 ? null : `after ${component.needs.join(", ")}`,
    component.request === null ? null : `requested by ${audience(component.request)}`,
  ].filter((fact) => fact !== null)
  return [
    "",
    `${component.title} (${component.id}): ${facts.join(", ")}`,
    ...steps.flatMap((view, index) => {
      const step = component.steps[index] as PlanComponent["steps"][number]
      const expected = expectation(step, parameters)
      return [
        `  ${view.id}: ${view.title}`,
        `    ${view.kind}, effect ${view.effect}${view.irreversible === null ? "" : `, no way back: ${view.irreversible}`}`,
        ...view.script.split("\n").map((line) => `    | ${line}`),
        ...view.bindings.map((binding) => `    ${binding}`),
        ...(expected === null ? [] : [`    expects ${expected}`]),
        ...(step.onFailure === "stop" ? [] : [`    on failure: ${step.onFailure}`]),
      ]
    }),
  ]
}

function audience(from: Audience): string {
  return from === "anyone" ? "any full member" : from.join(" or ")
}

function section(title: string, rows: string[][]): string[] {
  return rows.length === 0 ? [] : ["", title, ...table(rows).map((line) => `  ${line}`)]
}

/** Rows in columns; the last one is not filled up. */
function table(rows: string[][]): string[] {
  const widths = (rows[0] ?? []).map((_cell, column) => Math.max(...rows.map((row) => (row[column] ?? "").length)))
  return rows.map((row) =>
    row
      .map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)))
      .join("  ")
      .trimEnd(),
  )
}
