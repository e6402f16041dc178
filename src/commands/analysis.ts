import type { Analysis, FollowUp, RollbackView } from "../rollback/facts.ts"
import { refuse, type Refused } from "../rollback/refusals.ts"
import type { Store } from "../store/store.ts"
import type { StoredRollback } from "../store/rows.ts"
import { analysisFacts, latestRuns, seenBefore } from "../rollback/analysis.ts"
import { describeWatch, measureOf, watchIssues } from "../rollback/watch.ts"
import { mayAct, tidy, type Actor, type Deps } from "./ports.ts"
import { loadView, readRun } from "./view.ts"

/** The analysis of an ended rollback: facts as of now, with what people filled in. Null while there is none. */
export async function loadAnalysis(
  store: Store,
  rollback: StoredRollback,
  view?: RollbackView,
): Promise<Analysis | null> {
  const stored = await store.analyses.find(rollback.id)
  if (!stored) return null
  const seen = view ?? (await loadView(store, rollback))
  const facts = analysisFacts(seen)
  const watch = await watchOf(store, rollback, seen)
  return {
    ...facts,
    issues: [...facts.issues, ...watch.issues],
    auditHead: rollback.audit_head,
    auditEntries: rollback.audit_entries,
    rootCause: stored.rootCause,
    prevention: stored.prevention,
    followUps: stored.followUps,
    revision: stored.revision,
    filledBy: stored.filledBy,
    timeline: (await store.audit.list(rollback.id))
      .filter(({ kind }) => !untold.has(kind))
      .map(({ at, kind, actor }) => ({ at, kind, actor })),
    keptUntil: keptUntil(rollback, facts.affected.length),
    watch: watch.line,
  }
}

/** Told elsewhere in the analysis, or about the analysis itself. */
const untold = new Set(["step", "analysis_filled", "noted"])

function keptUntil(rollback: StoredRollback, affected: number): string | null {
  const run = readRun(rollback)
  if (affected === 0 || run === null || rollback.ended_at === null) return null
  return new Date(Date.parse(rollback.ended_at) + run.keepMs).toISOString()
}

type Watched = { line: string | null; issues: string[] }

async function watchOf(store: Store, rollback: StoredRollback, view: RollbackView): Promise<Watched> {
  const watch = await store.watches.find(rollback.id)
  if (!watch) return { line: null, issues: [] }
  if (!watch.ended) return { line: "going on", issues: [] }
  const titles = new Map(
    view.components.flatMap((component) => component.steps.map((step) => [step.id, step.title] as const)),
  )
  const latest = latestRuns(view)
  const measures = new Map(
    Object.keys(watch.seen).map((id) => [
      id,
      measureOf(view.rehearsal === null ? undefined : seenBefore(view.rehearsal, id), latest.get(id)?.result ?? null),
    ]),
  )
  return { line: describeWatch(titles, watch.seen, measures), issues: watchIssues(titles, watch.seen) }
}

/** Keeps what a form brought. `followUps` were read by `readFollowUps`; `revision` is that of the form. */
export async function fillAnalysis(
  rollbackId: string,
  filled: { rootCause: string; prevention: string; followUps: FollowUp[]; revision: number },
  actor: Actor,
  deps: Deps,
): Promise<{ kind: "filled" } | Refused> {
  const rollback = await deps.store.rollbacks.find(rollbackId)
  if (!rollback) return refuse("fill", { reason: "old_card", number: null })
  const notAllowed = await mayAct(deps.people, actor.userId, "anyone")
  if (notAllowed) return refuse("fill", notAllowed)
  const text = (value: string) => (value.trim() === "" ? null : tidy(value, 3_000))
  const rootCause = text(filled.rootCause)
  const prevention = text(filled.prevention)
  const saved = await deps.store.analyses.fill(rollbackId, actor.userId, filled.revision, {
    rootCause,
    prevention,
    followUps: filled.followUps.map((followUp) => ({ ...followUp, text: tidy(followUp.text, 300) })),
  })
  if (saved.kind === "none") return refuse("fill", { reason: "old_card", number: rollback.number })
  if (saved.kind === "meanwhile") {
    const wrote = [rootCause, prevention, ...filled.followUps.map((followUp) => followUp.text)]
    return refuse("fill", {
      reason: "filled_meanwhile",
      by: saved.by,
      number: rollback.number,
      wrote: wrote.filter((words) => words !== null),
    })
  }
  deps.wakeOutbox()
  return { kind: "filled" }
}
