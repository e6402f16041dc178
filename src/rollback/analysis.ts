import type { Analysis, CriterionResult, Rehearsal, RollbackView, SeenBefore, StepResult, StepRun } from "./facts.ts"

type Facts = Omit<
  Analysis,
  | "auditHead"
  | "auditEntries"
  | "rootCause"
  | "prevention"
  | "followUps"
  | "revision"
  | "filledBy"
  | "watch"
  | "timeline"
  | "keptUntil"
>

const between = (from: string | null, to: string | null) =>
  from === null || to === null ? null : Math.max(0, Date.parse(to) - Date.parse(from))

/** What was seen of a step before anything was done: what is broken since is told apart from what was broken already. */
export function seenBefore({ before, steps }: Rehearsal, stepId: string): SeenBefore | undefined {
  return (before ?? steps).find((seen) => seen.stepId === stepId)
}

/** The newest run of each step. */
export function latestRuns(view: Pick<RollbackView, "stepRuns">): Map<string, StepRun> {
  const latest = new Map<string, StepRun>()
  for (const run of view.stepRuns) {
    const known = latest.get(run.stepId)
    if (!known || run.attempt >= known.attempt) latest.set(run.stepId, run)
  }
  return latest
}

type Began = Pick<RollbackView, "approvedAt" | "startedAt" | "stepRuns">

/** The clock of the RTO: from the approval, or from the first step of a run that asked again in its middle. */
export function beganAt({ approvedAt, startedAt, stepRuns }: Began): string | null {
  const first = Math.min(...stepRuns.map((run) => Date.parse(run.startedAt)))
  const asked = approvedAt ?? startedAt
  return asked !== null && first < Date.parse(asked) ? new Date(first).toISOString() : asked
}

/** What the analysis can say by itself: items 1 to 3 and the criteria, from what was recorded. */
export function analysisFacts(view: RollbackView): Facts {
  const runs = latestRuns(view)
  return {
    requestedAt: view.createdAt,
    // What was done by hand began nobody knows when; its record has one moment.
    startedAt: view.kind === "record" ? view.createdAt : view.startedAt,
    endedAt: view.endedAt,
    waitedMs: view.approvedAt === null ? null : between(view.createdAt, beganAt(view)),
    ranMs: between(beganAt(view), view.endedAt),
    approvals: view.approvals.map(({ userId, decidedAt }) => ({
      userId,
      afterMs: between(view.rehearsedAt ?? view.createdAt, decidedAt),
    })),
    issues: [...issues(view), ...overTime(view, runs)],
    affected: affected(view),
    criteria: criteria(view, runs),
    components: view.components.map((component) => ({
      title: component.title,
      rtoMs: component.rtoMs,
      ranMs: componentTime(component.steps.map((step) => runs.get(step.id))),
    })),
  }
}

/** What took longer than its RTO allows, the whole or a component: worth asking why. */
function overTime(view: RollbackView, runs: Map<string, StepRun>): string[] {
  const wholeMs = between(beganAt(view), view.endedAt)
  const isOver = view.rtoMs !== null && wholeMs !== null && wholeMs > view.rtoMs
  const parts = view.components.flatMap(({ title, rtoMs, steps }) => {
    const ranMs = componentTime(steps.map((step) => runs.get(step.id)))
    return rtoMs !== null && ranMs !== null && ranMs > rtoMs ? [`${title} took longer than its RTO`] : []
  })
  return [...parts, ...(isOver ? ["the whole took longer than its RTO"] : [])]
}

/**
 * From the component's first start to its last end, of each approval and Retry for itself: what people took in between is
 * not its time. `now`: the end of what still runs. Null when none of it ran.
 */
export function componentTime(runs: readonly (StepRun | undefined)[], now: string | null = null): number | null {
  const ran = runs.filter((run) => run !== undefined)
  const times = [...Map.groupBy(ran, ({ generation }) => generation).values()].flatMap((some) => {
    const ends = some.map(({ endedAt }) => endedAt ?? now).filter((at) => at !== null)
    const start = Math.min(...some.map(({ startedAt }) => Date.parse(startedAt)))
    return ends.length === 0 ? [] : [Math.max(...ends.map((at) => Date.parse(at))) - start]
  })
  return times.length === 0 ? null : times.reduce((sum, ms) => sum + ms, 0)
}

function issues(view: RollbackView): string[] {
  const titles = new Map(
    view.components.flatMap((component) => component.steps.map((step) => [step.id, step.title] as const)),
  )
  const found: string[] = []
  for (const run of view.stepRuns) {
    const title = titles.get(run.stepId) ?? run.stepId
    const result = run.result
    if (run.skippedBy !== null) found.push(`${title}: skipped (${run.skipReason ?? "no reason given"})`)
    else if (result?.failure) found.push(`${title}: ${namedCode(result.failure.code)}${result.failure.message}`)
    else if (result?.outcome === "unknown") found.push(`${title}: its outcome is not known`)
    else if (result && result.attempts > 1) found.push(`${title} needed ${result.attempts} attempts`)
    for (const issue of result?.issues ?? []) found.push(`${title}: ${issue}`)
  }
  if (view.stopRequestedBy !== null && view.state === "stopped") found.push("the rollback was stopped before its end")
  if (view.kind === "record") found.push(`done by hand: ${view.reason}`)
  return [...found, ...view.notes.map((note) => note.text)]
}

/** What a step did is gone with the target as it was: the target was restored or replaced meanwhile. */
export const effectLost = "effect_lost"

/** An SQLSTATE is worth naming; our own codes only say again what the sentence says. */
export function namedCode(code: string): string {
  return /^[0-9A-Z]{5}$/.test(code) ? `${code} ` : ""
}

function affected(view: RollbackView): Analysis["affected"] {
  const sums = new Map<string, Analysis["affected"][number]>()
  const purges = new Set(
    view.components.flatMap(({ steps }) => steps.filter((step) => step.kind === "purge").map((step) => step.id)),
  )
  const lost = view.stepRuns.filter(({ result }) => result?.failure?.code === effectLost)
  const isLost = (run: StepRun) => lost.some((of) => of.stepId === run.stepId && of.attempt > run.attempt)
  for (const run of view.stepRuns.filter((each) => !isLost(each)))
    for (const item of run.result?.affected ?? []) {
      const key = `${item.table} ${item.did}`
      const sum = sums.get(key) ?? { ...item, rows: 0 }
      sum.rows += item.rows
      if (item.did === "removed" && purges.has(run.stepId)) sum.archived = (sum.archived ?? 0) + item.rows
      sums.set(key, sum)
    }
  return [...sums.values()]
}

/** Of what failed, in the plan's order: what ended the run, or the first after which the others went on. */
export function firstTrouble<Of extends { goesOn: boolean }>(failed: readonly Of[]): Of | null {
  return failed.find(({ goesOn }) => !goesOn) ?? failed[0] ?? null
}

/** Where nobody can be mentioned: a bare id is no name, and the thread says whose word it is. */
export function evidenceText({ evidence, confirmedBy }: StepResult): string[] {
  return confirmedBy === undefined ? evidence : evidence.map((line) => line.replaceAll(confirmedBy, "a person"))
}

/** Not done, for all that is known. */
export function isBroken({ outcome }: StepResult): boolean {
  return outcome === "failed" || outcome === "unknown"
}

/** Ended by Stop, or by the end of its run: it did not come to say anything. */
export function wasStopped({ outcome, failure }: StepResult): boolean {
  return outcome === "failed" && failure?.code === "stopped"
}

/** A criterion holds when all of its steps succeeded, fails when one failed, and is otherwise not checked. */
export function criteria(view: RollbackView, runs: Map<string, StepRun>): CriterionResult[] {
  const titles = new Map(
    view.components.flatMap((component) => component.steps.map((step) => [step.id, step.title] as const)),
  )
  return view.criteria.map(({ text, from }) => {
    const seen = from.map((id) => runs.get(id))
    const failed = seen.find((run) => run?.result?.outcome === "failed" && !wasStopped(run.result))
    const named = (run: StepRun | undefined, words: string) =>
      seen.length > 1 ? `${titles.get(run?.stepId ?? "") ?? run?.stepId ?? ""}: ${words}` : words
    if (failed) return { text, outcome: "fails", evidence: named(failed, failed.result?.failure?.message ?? "failed") }
    // An undo is held to more than its end: a row that it had to leave is not given back.
    const left = view.kind === "undo" ? seen.flatMap((run) => run?.result?.issues ?? []) : []
    if (left.length > 0) return { text, outcome: "fails", evidence: left.join("; ") }
    const all = seen.length > 0 && seen.every((run) => run?.result?.outcome === "succeeded")
    if (!all) return { text, outcome: "not_checked", evidence: "" }
    const evidence = seen.flatMap((run) => {
      const [first] = run?.result ? evidenceText(run.result) : []
      if (first === undefined) return []
      return [named(run, first)]
    })
    const at = seen.at(-1)?.endedAt?.slice(11, 19)
    return { text, outcome: "holds", evidence: [...evidence, ...(at === undefined ? [] : [`at ${at}`])].join(" · ") }
  })
}
