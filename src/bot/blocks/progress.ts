import { beganAt, componentTime, firstTrouble, latestRuns, wasStopped } from "../../rollback/analysis.ts"
import type { ComponentView, RollbackView, StepRun, StepView } from "../../rollback/facts.ts"
import { between } from "./format.ts"

export type Mark = "✓" | "✗" | "?" | "–" | "▸" | "·"

/** A symbol and the word for it: never one without the other. */
export type StepStanding = {
  mark: Mark
  word: "done" | "failed" | "stopped" | "not known" | "skipped" | "running" | "not run"
}

const standings = {
  succeeded: { mark: "✓", word: "done" },
  failed: { mark: "✗", word: "failed" },
  unknown: { mark: "?", word: "not known" },
  skipped: { mark: "–", word: "skipped" },
} as const satisfies Record<string, StepStanding>

/** Neither done nor left out: a component ends there, and Retry or Skip is about it. */
const broken: ReadonlySet<StepStanding["word"]> = new Set(["failed", "stopped", "not known"])

export function standingOf(run: StepRun | null): StepStanding {
  if (run === null) return { mark: "·", word: "not run" }
  if (run.skippedBy !== null) return standings.skipped
  if (run.result === null) return { mark: "▸", word: "running" }
  return wasStopped(run.result) ? { mark: "✗", word: "stopped" } : standings[run.result.outcome]
}

/** The newest attempt at a step. */
export function latestRun(view: RollbackView, stepId: string): StepRun | null {
  return latestRuns(view).get(stepId) ?? null
}

export function stepsOf(view: RollbackView): StepView[] {
  return view.components.flatMap((component) => component.steps)
}

export function stepOf(view: RollbackView, stepId: string): StepView | null {
  return stepsOf(view).find((step) => step.id === stepId) ?? null
}

/** What people call a step; its id where the plan's step is not at hand. */
export function titleOf(view: RollbackView, stepId: string): string {
  return stepOf(view, stepId)?.title ?? stepId
}

export type ComponentProgress = {
  component: ComponentView
  mark: Mark
  /** Steps that succeeded or were skipped by a person. */
  settled: number
  /** The step that is running, or that ended this component. */
  current: StepView | null
  ms: number | null
}

export function progressOf(view: RollbackView, component: ComponentView, now: Date): ComponentProgress {
  const runs = component.steps.map((step) => ({ step, run: latestRun(view, step.id) }))
  const words = runs.map(({ run }) => standingOf(run).word)
  const settled = words.filter((word) => word === "done" || word === "skipped").length
  const troubled = words.findIndex((word) => broken.has(word))
  const running = words.indexOf("running")
  return {
    component,
    mark: markOf({ words, settled, troubled, running, live: view.state === "running" }),
    settled,
    current: runs[troubled >= 0 ? troubled : running]?.step ?? null,
    ms: componentTime(
      runs.map(({ run }) => run ?? undefined),
      now.toISOString(),
    ),
  }
}

function markOf(at: { words: string[]; settled: number; troubled: number; running: number; live: boolean }): Mark {
  if (at.troubled >= 0) return at.words[at.troubled] === "not known" ? "?" : "✗"
  if (at.words.length > 0 && at.settled === at.words.length) return at.words.includes("done") ? "✓" : "–"
  const begun = at.running >= 0 || at.settled > 0
  return begun && at.live ? "▸" : "·"
}

/** The step that stopped the run, or whose outcome nobody knows: what Retry and Skip are about. */
export function troubleOf(view: RollbackView): { step: StepView; run: StepRun; others: number } | null {
  const runs = latestRuns(view)
  const troubled = stepsOf(view).flatMap((step) => {
    const run = runs.get(step.id) ?? null
    const { word } = standingOf(run)
    return run !== null && (broken.has(word) || word === "running") ? [{ step, run, goesOn: step.goesOn === true }] : []
  })
  const first = firstTrouble(troubled)
  return first && { step: first.step, run: first.run, others: troubled.length - 1 }
}

/** From the approval on: that is when the clock of the RTO starts. What people take in the middle of a run counts. */
export function elapsedOf(view: RollbackView, now: Date): number | null {
  return between(beganAt(view), view.endedAt ?? now.toISOString())
}
