import { normaliseStep } from "./normalise-step.ts"
import { orderComponents } from "./order.ts"
import type {
  BaselineRules,
  EscalationRules,
  Expected,
  HttpStep,
  Plan,
  PlanComponent,
  PlanParam,
  PlanStep,
  StatementFacts,
  WatchRules,
} from "./plan.ts"
import type { WrittenPlan } from "./schema.ts"
import { toTitle } from "./title.ts"

const MINUTE = 60_000
const DAY = 1440 * MINUTE

/** The plan with its defaults filled in and its components in the order in which they run. */
export function normalisePlan(written: WrittenPlan, facts: ReadonlyMap<string, StatementFacts>): Plan {
  const { expires, ...rules } = written.approve
  return {
    version: 1,
    environment: written.environment,
    title: written.title,
    notes: written.notes ?? null,
    channel: written.channel ?? null,
    target: {
      postgres: written.target.postgres ?? null,
      expect: { database: written.target.expect?.database ?? null },
      http: written.target.http ?? null,
    },
    params: normaliseParams(written.params),
    request: written.request ?? "anyone",
    approve: { ...rules, expiresMs: expires ?? 60 * MINUTE },
    rtoMs: written.rto ?? null,
    redact: written.redact ?? [],
    baseline: normaliseBaseline(written.baseline),
    components: orderComponents(written).flatMap((id) => normaliseComponent(written, id, facts)),
    watch: normaliseWatch(written.watch),
    escalate: normaliseEscalation(written.escalate),
    success: written.success ?? [],
    analysis: { remindMs: written.analysis?.remind ?? DAY },
    archive: { keepMs: written.archive?.keep ?? 30 * DAY },
  }
}

function normaliseParams(params: WrittenPlan["params"]): Record<string, PlanParam> {
  const entries = Object.entries(params ?? {}).map(([name, param]): [string, PlanParam] => {
    const value = param.default === undefined ? null : String(param.default)
    return [name, { type: param.type, default: value, description: param.description ?? null }]
  })
  return Object.fromEntries(entries)
}

function normaliseComponent(
  written: WrittenPlan,
  id: string,
  facts: ReadonlyMap<string, StatementFacts>,
): PlanComponent[] {
  const component = written.components[id]
  if (!component) return []
  const { title, risk, rto, optional = false, parallel = false, needs = [], request = null, steps } = component
  return [
    {
      id,
      title: title ?? toTitle(id),
      // Nobody has said how bad it can be: the strictest rule holds.
      risk: risk ?? "high",
      rtoMs: rto ?? null,
      optional,
      parallel,
      needs,
      request,
      steps: steps.map((step) => withTypes(normaliseStep(step, facts), written.params)),
    },
  ]
}

/** In JSON a number is none in quotes, and 7.30 of a column is the parameter 7.3. */
function withTypes(step: PlanStep, params: WrittenPlan["params"]): PlanStep {
  if (step.kind === "check")
    return { ...step, expect: { ...step.expect, values: withNumbers(step.expect.values, params) } }
  if (step.kind !== "http") return step
  return withJsonTypes({ ...step, expect: { ...step.expect, json: withNumbers(step.expect.json, params) } }, params)
}

function withNumbers(expected: Record<string, Expected>, params: WrittenPlan["params"]): Record<string, Expected> {
  const isNumber = (name: string) => params?.[name]?.type === "integer" || params?.[name]?.type === "number"
  return Object.fromEntries(
    Object.entries(expected).map(([key, item]) => [
      key,
      item.kind === "ref" && isNumber(item.name) ? { ...item, number: true } : item,
    ]),
  )
}

function withJsonTypes(step: HttpStep, params: WrittenPlan["params"]): PlanStep {
  const used = JSON.stringify([step.json, step.undo?.json ?? null])
  const types = Object.entries(params ?? {}).flatMap(([name, { type }]) =>
    (type === "integer" || type === "number" || type === "boolean") && used.includes(`"$${name}"`)
      ? [[name, type] as const]
      : [],
  )
  return types.length === 0 ? step : { ...step, types: Object.fromEntries(types) }
}

function normaliseBaseline(baseline: WrittenPlan["baseline"]): BaselineRules | null {
  if (!baseline) return null
  const tables = baseline.tables.map(({ table, key, ignore = [] }) => ({ table, key, ignore }))
  return { file: baseline.file ?? null, maxAgeMs: baseline.max_age ?? null, tables }
}

function normaliseWatch(watch: WrittenPlan["watch"]): WatchRules | null {
  if (!watch) return null
  const {
    for: forMs,
    every: everyMs = Math.min(MINUTE / 2, forMs),
    steps,
    slower_than: slowerThan = null,
    failures = 2,
  } = watch
  return { forMs, everyMs, steps, slowerThan, failures }
}

function normaliseEscalation(escalate: WrittenPlan["escalate"] = {}): EscalationRules {
  const { channel = null, mention = [], acknowledge_within: acknowledgeWithinMs = 5 * MINUTE, hook } = escalate
  return {
    channel,
    mention,
    acknowledgeWithinMs,
    hook: normaliseHook(hook),
  }
}

/** Which of the keys goes with which kind has been checked by now. */
function normaliseHook(hook: NonNullable<WrittenPlan["escalate"]>["hook"]): EscalationRules["hook"] {
  if (!hook) return null
  return hook.kind === "pagerduty"
    ? { kind: hook.kind, url: hook.url ?? null, key: hook.key ?? "" }
    : { kind: hook.kind, url: hook.url ?? "", secret: hook.secret ?? "" }
}
