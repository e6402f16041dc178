import { errorMessage } from "../errors.ts"
import type { Plan, PlanComponent } from "../plans/plan.ts"
import { findNamed, readSnapshot, schemaDifference, type KeptSnapshot } from "../steps/baseline.ts"
import { splitName } from "../steps/purge-counts.ts"
import type { Secrets } from "../steps/secrets.ts"
import type { BaselineContext } from "../steps/step.ts"
import { looking, type Target } from "../steps/target.ts"
import type { Store } from "../store/store.ts"

/** What the card says of the baseline, and why it raises the risk. */
export type BaselineFacts = { notes: string[]; warnings: string[]; reasons: string[] }

type Snapshots = Pick<Store["baselines"], "newest" | "find">

const lookTimeoutMs = 10_000

/** The snapshots as steps get at them; null where the state database is not looked at. */
export function baselineContext(
  plan: Plan,
  store: { baselines: Snapshots } | undefined,
  others: BaselineContext["others"],
): BaselineContext | null {
  if (!store) return null
  const { baselines } = store
  return {
    rules: plan.baseline,
    newest: (name) => baselines.newest(plan.environment, name),
    find: (sha256) => baselines.find(sha256),
    others,
  }
}

/** Why a run with these restores cannot be asked for at all: it would stop in its middle, for want of a snapshot. */
export async function missingSnapshot(
  plan: Plan,
  components: readonly PlanComponent[],
  store: { baselines: Snapshots } | undefined,
): Promise<string | null> {
  const steps = components.flatMap((component) => component.steps).filter((step) => step.kind === "restore")
  const names = new Set(steps.flatMap((step) => (step.after === null ? ["baseline"] : ["baseline", step.after])))
  for (const name of names) {
    if (!store || (await store.baselines.newest(plan.environment, name))) continue
    const as = name === "baseline" ? "" : ` --as ${name}`
    return `${steps[0]?.title ?? "restore"} needs the snapshot "${name}", and there is none: \`/rollback baseline ${plan.environment} capture${as}\` makes one of what is there now`
  }
  return null
}

/** How old the plan's baseline is, and whether tables that this run touches have changed their shape since. */
export async function lookAtBaseline(
  {
    plan,
    components,
    target,
    secrets,
  }: { plan: Plan; components: readonly PlanComponent[]; target: Target; secrets: Secrets },
  store: { baselines: Snapshots } | undefined,
): Promise<BaselineFacts> {
  const facts: BaselineFacts = { notes: [], warnings: [], reasons: [] }
  const rules = plan.baseline
  if (!rules || !store) return facts
  const kept = await store.baselines.newest(plan.environment, "baseline")
  if (!kept) {
    facts.warnings.push(`no baseline has been captured: /rollback baseline ${plan.environment} capture`)
    if (rules.maxAgeMs !== null) facts.reasons.push("there is no baseline to compare with")
    return facts
  }
  facts.notes.push(
    `baseline: ${ageText(kept.ageMs)} old, captured ${kept.capturedAt.slice(0, 19).replace("T", " ")} UTC`,
  )
  if (rules.maxAgeMs !== null && kept.ageMs > rules.maxAgeMs)
    facts.reasons.push(
      `the baseline is ${ageText(kept.ageMs)} old, and the plan allows ${ageText(rules.maxAgeMs)}: capture it again`,
    )
  facts.reasons.push(...(await schemaMoves(kept, components, target, secrets)))
  return facts
}

async function schemaMoves(
  kept: KeptSnapshot,
  components: readonly PlanComponent[],
  target: Target,
  secrets: Secrets,
): Promise<string[]> {
  const touched = new Set(components.flatMap((component) => component.steps.flatMap(tablesOf)))
  const parts = (readSnapshot(kept)?.tables ?? []).filter(({ table }) => touched.has(splitName(table).name))
  if (!target.pool || parts.length === 0) return []
  try {
    return await looking(target.pool, lookTimeoutMs, async (client) => {
      const moved: string[] = []
      for (const part of parts) {
        const table = await findNamed(client, part.table)
        const difference = table === null ? "it is gone" : schemaDifference(part.columns, table.columns)
        if (difference !== null) moved.push(`the schema of ${part.table} has changed since the baseline: ${difference}`)
      }
      return moved
    })
  } catch (error) {
    return [
      `whether the schema has changed since the baseline could not be looked at: ${secrets.redact(errorMessage(error))}`,
    ]
  }
}

/** Names of the tables that a step writes to, without their schemas: one too many raises the risk, one too few does not. */
function tablesOf(step: PlanComponent["steps"][number]): string[] {
  if (step.kind === "sql") return step.facts.table === null ? [] : [step.facts.table.name]
  if (step.kind === "restore") return [splitName(step.table).name]
  return step.kind === "purge" ? [step.table, ...step.cascade].map((table) => splitName(table).name) : []
}

/** "3 h", "12 days": for people, in whole units. */
function ageText(ms: number): string {
  const units = [
    ["day", 86_400_000],
    ["h", 3_600_000],
    ["min", 60_000],
  ] as const
  const [unit, size] = units.find(([, length]) => ms >= length) ?? (["s", 1_000] as const)
  const count = Math.max(0, Math.floor(ms / size))
  return unit === "day" && count !== 1 ? `${count} days` : `${count} ${unit}`
}
