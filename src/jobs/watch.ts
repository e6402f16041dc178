import { readRun } from "../commands/view.ts"
import { stepsOf, type FrozenRun } from "../plans/frozen.ts"
import type { PlanStep } from "../plans/plan.ts"
import { componentViews } from "../plans/step-view.ts"
import { latestRuns, seenBefore } from "../rollback/analysis.ts"
import { byHand, callingOf } from "../rollback/escalation.ts"
import type { RehearsedStep } from "../rollback/facts.ts"
import { describeWatch, judgeProbe, measureOf, type Measure } from "../rollback/watch.ts"
import { rehearseStep } from "../steps/definitions.ts"
import { rehearsed } from "../steps/step.ts"
import type { Values } from "../plans/values.ts"
import { errorMessage } from "../errors.ts"
import { hideCaptured } from "../steps/hidden-captures.ts"
import { createSecrets, type Secrets } from "../steps/secrets.ts"
import type { StoredRollback } from "../store/rows.ts"
import type { DueWatch } from "../store/watches.ts"
import { openTarget } from "./open-target.ts"
import type { WorkDeps } from "./work.ts"

/** A worker that takes a watch has it for this long; when it dies, another goes on. */
const holdMs = 60_000
/** What all of its probes have, side by side: one that is still at it when another worker takes the watch is a second one. */
const probesMs = holdMs * 0.75

/** Probes one ended rollback; false when none is due. */
export async function watchOnce(deps: WorkDeps): Promise<boolean> {
  if ((await deps.store.watches.endOvertaken()) > 0) deps.wakeOutbox()
  const due = await deps.store.watches.take(holdMs)
  if (!due) return false
  const rollback = await deps.store.rollbacks.get(due.rollbackId)
  const run = readRun(rollback)
  if (!run?.watch) {
    await deps.store.watches.end(due.rollbackId, "Watch ended: the plan has none", rollback.generation)
    return true
  }
  const stepRuns = await deps.store.runs.listSteps(rollback.id)
  const latest = latestRuns({ stepRuns })
  const steps = stepsOf(run).filter((step) => run.watch?.steps.includes(step.id))
  const measures = new Map(
    steps.map((step) => [step.id, measureOf(seenBefore(run.rehearsal, step.id), latest.get(step.id)?.result ?? null)]),
  )
  if (due.over) {
    const titles = new Map(steps.map((step) => [step.id, step.title]))
    await deps.store.watches.end(
      rollback.id,
      `Watch ended: ${describeWatch(titles, due.seen, measures)}`,
      rollback.generation,
    )
    deps.wakeOutbox()
    return true
  }
  const captures = Object.assign({}, ...stepRuns.map((stepRun) => stepRun.result?.captures ?? {})) as Record<
    string,
    string
  >
  const seen = await probeAll({ rollback, run, due, steps, measures, captures }, deps)
  await deps.store.watches.record(due, seen, run.watch.everyMs)
  return true
}

type Watching = {
  rollback: StoredRollback
  run: FrozenRun
  due: DueWatch
  steps: PlanStep[]
  measures: Map<string, Measure>
  captures: Record<string, string>
}

async function probeAll(
  { rollback, run, due, steps, measures, captures }: Watching,
  deps: WorkDeps,
): Promise<DueWatch["seen"]> {
  const secrets = createSecrets(deps.environment)
  await hideCaptured(stepsOf(run), captures, { redact: run.redact, secrets })
  const rules = { failures: run.watch?.failures ?? 1, slowerThan: run.watch?.slowerThan ?? null }
  const seen = { ...due.seen }
  const signal = AbortSignal.timeout(probesMs)
  const look = async (step: PlanStep, values: Values) => {
    try {
      return await rehearseStep(
        { ...step, timeoutMs: Math.min(step.timeoutMs, probesMs) },
        {
          rollbackId: rollback.id,
          environment: run.environment,
          values,
          secrets,
          target: openTarget(run.target, secrets, deps.targets),
          redact: run.redact,
          signal,
          patient: true,
          rehearsed: countedBefore(run, step),
          log: deps.log,
        },
      )
    } catch (error) {
      // As a variable that this worker lacks: that is told, and holds up no other probe.
      return rehearsed(step.id, { outcome: "unknown", note: secrets.redact(errorMessage(error)) })
    }
  }
  const probes = await Promise.all(
    steps.map(async (step) => {
      const began = performance.now()
      const values = { ...captures, ...run.parameters, ...run.commits[step.id] }
      const probe = await look(step, values)
      const ms = probe.ms > 0 ? probe.ms : Math.round(performance.now() - began)
      return { step, held: probe.holds === true, ms, note: probe.note ?? "no answer" }
    }),
  )
  for (const { step, ...probe } of probes) {
    const measure = measures.get(step.id) ?? { heldBefore: null, ms: null }
    const judged = judgeProbe(seen[step.id], probe, measure, rules)
    seen[step.id] = judged.seen
    await tellVerdict({ step, probe, judged, measure }, { rollback, run, secrets }, deps)
  }
  return seen
}

/** What `rows: rehearsed` is held against. Without a number there is nothing that a probe could miss. */
function countedBefore({ rehearsal }: FrozenRun, { id }: PlanStep): RehearsedStep | undefined {
  const seen = rehearsal.steps.find(({ stepId }) => stepId === id)
  return seen?.rows == null ? undefined : seen
}

type Verdict = {
  step: PlanStep
  probe: { ms: number; note: string }
  judged: ReturnType<typeof judgeProbe>
  measure: Measure
}

/** Calls when a probe has become bad, and says when it is well again. */
async function tellVerdict(
  { step, probe: { ms, note }, judged: { verdict, seen }, measure }: Verdict,
  { rollback, run, secrets }: Pick<Watching, "rollback" | "run"> & { secrets: Secrets },
  deps: WorkDeps,
): Promise<void> {
  const key = `${rollback.id}/watch/${step.id}`
  const nth = `${key}/${rollback.generation}-${seen.probes}`
  if (verdict === "failing" || verdict === "slow")
    await deps.store.records.raise(rollback.id, nth, deps.newId(), {
      trigger: verdict === "slow" ? "performance_degraded" : "functions_failing",
      stepId: step.id,
      headline: `${step.title}: ${verdict === "slow" ? "slower than before" : "failing after the rollback"}`,
      evidence: [
        note,
        verdict === "slow"
          ? `${ms} ms, ${measure.heldBefore === true ? "before" : "right after"} the rollback: ${measure.ms ?? "?"} ms`
          : `${seen.failed} times in a row`,
        ...(measure.heldBefore === false && verdict === "failing"
          ? ["it was broken before the rollback too"]
          : measure.heldBefore === true
            ? ["it worked before the rollback"]
            : []),
      ],
      byHand: pasteOf(step, run, secrets),
      ...callingOf(run.escalate),
    })
  if (verdict === "recovered") {
    await deps.store.records.resolve(`${key}/`)
    const text = `${step.title}: well again, ${ms} ms`
    await deps.store.outbox.enqueue(rollback.id, `${nth}/well`, { kind: "text", text })
  }
  if (verdict !== "well") deps.wakeOutbox()
}

/** As the card has it: what was captured stays a name, or a value that nobody may see would stand in what is pasted. */
function pasteOf(step: PlanStep, run: FrozenRun, secrets: Secrets): string | null {
  const views = componentViews(run).flatMap((component) => component.steps)
  const view = views.find(({ id }) => id === step.id)
  return view === undefined ? null : secrets.redact(byHand(view))
}
