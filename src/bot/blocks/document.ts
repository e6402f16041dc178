import type { Analysis, Message, RollbackView } from "../../rollback/facts.ts"
import { analysisMarkdown } from "./analysis-markdown.ts"

/** What goes into the thread as a file: long output, and the analysis for whoever keeps such documents elsewhere. */
export function documentOf(
  message: Message,
  view: RollbackView,
  analysis: Analysis | null,
): { name: string; content: string } | null {
  if (message.kind !== "file") return null
  const place = view.number === null ? view.environment : `R-${view.number}`
  // A name of its own for each file of a rollback, by which one is found again whose upload was not heard of: no step's
  // id has a dot.
  const nth = (n: number) => (n > 1 ? `.${n}` : "")
  if (message.what === "analysis")
    return analysis === null
      ? null
      : { name: `${place}-analysis${nth(message.edition ?? 1)}.md`, content: analysisMarkdown(view, analysis) }
  const run = view.stepRuns.find(({ stepId, attempt }) => stepId === message.stepId && attempt === message.attempt)
  const output = run?.result?.output ?? null
  return output === null ? null : { name: `${place}-${message.stepId}${nth(message.attempt)}.txt`, content: output }
}
