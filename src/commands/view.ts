import type { FrozenRun } from "../plans/frozen.ts"
import { componentViews } from "../plans/step-view.ts"
import type { RollbackView, StepRun } from "../rollback/facts.ts"
import { forecastOf, type Forecast } from "../rollback/forecast.ts"
import { isLive } from "../rollback/states.ts"
import type { Store } from "../store/store.ts"
import type { StoredRollback } from "../store/rows.ts"
import { askersOf } from "./ports.ts"

/** States in which people are shown how long it will take. */
const forecastStates = new Set(["preparing", "awaiting_approval"])

/** Everything that people are shown about a rollback, from the state database alone. A forecast reads earlier runs: not for nothing. */
export async function loadView(
  store: Store,
  rollback: StoredRollback,
  options = { forecast: true },
): Promise<RollbackView> {
  const [approvals, stepRuns, notes, undo] = await Promise.all([
    store.approvals.list(rollback.id, rollback.round),
    store.runs.listSteps(rollback.id),
    store.records.listNotes(rollback.id),
    isLive(rollback.state) ? null : store.rollbacks.findTakenBackBy(rollback.id),
  ])
  const run = readRun(rollback)
  const isForecast = options.forecast && (forecastStates.has(rollback.state) || rollback.kind === "rehearsal")
  const forecast = run === null || !isForecast ? null : await findForecast(store, rollback.environment, run)
  return {
    id: rollback.id,
    generation: rollback.generation,
    number: rollback.number,
    kind: rollback.kind,
    environment: rollback.environment,
    title: rollback.title,
    state: rollback.state,
    requesterId: rollback.requester_id,
    ...skipping(rollback),
    channelId: rollback.channel_id,
    reason: rollback.reason,
    selection: rollback.selection,
    planNotes: run?.notes ?? null,
    createdAt: rollback.created_at,
    rehearsedAt: rollback.rehearsed_at,
    approvedAt: rollback.approved_at,
    startedAt: rollback.started_at,
    endedAt: rollback.ended_at,
    expiresAt: rollback.expires_at,
    endedBy: rollback.ended_by,
    endReason: rollback.end_reason,
    stopRequestedBy: rollback.stop_requested_by,
    left: leaving(rollback),
    takenBack: undo === null ? null : { number: undo.number, at: undo.ended_at ?? undo.created_at },
    risk: rollback.risk,
    riskReasons: run?.policy.riskReasons ?? [],
    rtoMs: run?.rtoMs ?? null,
    digest: rollback.digest,
    token: rollback.token,
    round: rollback.round,
    approvalsNeeded: rollback.approvals_needed,
    approveFrom: run?.policy.from ?? "anyone",
    approvals,
    components: run === null ? [] : componentViews(run),
    rehearsal: run?.rehearsal ?? null,
    stepRuns: rollback.state === "running" ? [...stepRuns, ...underway(rollback, stepRuns)] : stepRuns,
    forecast,
    notes,
    criteria: run?.success ?? [],
    moved: rollback.moved,
    cardTs: rollback.card_ts,
    cardChannel: rollback.card_channel,
    permalink: rollback.permalink,
  }
}

function skipping(rollback: StoredRollback): Pick<RollbackView, "askedToo" | "leftOut"> {
  return { askedToo: askersOf(rollback).slice(1), leftOut: Object.keys(rollback.skips) }
}

function leaving({ left_by: by, left_at: at }: StoredRollback): RollbackView["left"] {
  return by === null || at === null ? null : { by, at }
}

/** Steps that are going on and of which nothing is on record yet: those of one transaction leave nothing before it ends. */
function underway({ steps_now: now, generation }: StoredRollback, stepRuns: readonly StepRun[]): StepRun[] {
  return Object.entries(now).flatMap(([stepId, startedAt]) => {
    const known = stepRuns.filter((run) => run.stepId === stepId)
    // It has ended since, or says so itself.
    if (known.some((run) => run.result === null || (run.endedAt ?? "") > startedAt)) return []
    const attempt = Math.max(0, ...known.map((run) => run.attempt)) + 1
    return [{ stepId, attempt, generation, result: null, startedAt, endedAt: null, skippedBy: null, skipReason: null }]
  })
}

/** The run as it was frozen; null before the first rehearsal. Its bytes are checked where they are acted upon. */
export function readRun(rollback: Pick<StoredRollback, "frozen">): FrozenRun | null {
  return rollback.frozen === null ? null : (JSON.parse(rollback.frozen) as FrozenRun)
}

/** Earlier runs that a forecast is made of. */
const forecastRuns = 20

async function findForecast(store: Store, environment: string, run: FrozenRun): Promise<Forecast | null> {
  const ids = run.components.map((component) => component.id)
  const [totals, components] = await Promise.all([
    store.rollbacks.runTimes(environment, ids, forecastRuns),
    store.rollbacks.componentTimes(environment, ids, forecastRuns),
  ])
  return forecastOf(totals, components)
}
