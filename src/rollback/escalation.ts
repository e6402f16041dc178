import { effectLost, evidenceText, isBroken, latestRuns, namedCode, seenBefore, wasStopped } from "./analysis.ts"
import type { EscalationTrigger, RollbackView, StepResult, StepView } from "./facts.ts"
import type { Hook } from "./hook.ts"

type Rules = { channel: string | null; mention: string[]; acknowledgeWithinMs: number; hook: Hook | null }
/** Whom an escalation calls, and how. */
type Calling = { mention: string[]; channelId: string | null; acknowledgeWithinMs: number; hook: Hook | null }
type Raised = {
  /** Names the trouble within the rollback: raised once. */
  key: string
  facts: {
    trigger: EscalationTrigger
    stepId: string | null
    headline: string
    evidence: string[]
    byHand: string | null
  } & Calling
}

export function callingOf({ mention, channel, acknowledgeWithinMs, hook }: Rules): Calling {
  return { mention, channelId: channel, acknowledgeWithinMs, hook }
}

/** What an ended run must tell the people on call. */
export function escalationsOf(
  view: RollbackView,
  run: { escalate: Rules },
  options: { trouble: { trigger: EscalationTrigger; headline: string } | null },
): Raised[] {
  const common = callingOf(run.escalate)
  const raised: Raised[] = []
  if (options.trouble !== null)
    raised.push({ key: "trouble", facts: { ...common, ...options.trouble, stepId: null, ...wholeStanding(view) } })
  const runs = latestRuns(view)
  for (const step of view.components.flatMap((component) => component.steps)) {
    const stepRun = runs.get(step.id)
    const result = stepRun?.result
    if (!stepRun || !result || !isBroken(result)) continue
    // The trouble as a whole names them.
    if (options.trouble !== null && result.failure?.code === effectLost) continue
    // What a person ended is nothing to call anybody for, also where another step has failed beside it.
    if (wasStopped(result) && (view.state === "stopped" || view.stopRequestedBy !== null)) continue
    raised.push({
      key: `step/${step.id}/${stepRun.attempt}`,
      facts: {
        ...common,
        trigger: triggerOf(step, result),
        stepId: step.id,
        headline: headline(step, result),
        evidence: evidenceOf(view, step, result),
        // Rows that nobody approved are for looking at: the card asks about them.
        byHand: isAboutRows(result) ? (step.count ?? byHand(step)) : byHand(step),
      },
    })
  }
  return raised
}

function triggerOf(step: StepView, { failure }: StepResult): EscalationTrigger {
  // The statement itself went well: what it met is not what was approved.
  if (countsDiffer.has(failure?.code ?? "")) return "data_inconsistent"
  // Nothing was asked of the target.
  if (failure?.code === "no_value") return "step_failed"
  switch (step.kind) {
    case "sql":
    case "restore":
    case "purge":
      return "sql_failed"
    case "http":
      return "functions_failing"
    case "check":
      return "data_inconsistent"
    default:
      return "step_failed"
  }
}

/** Rows of the target, and what was archived of them, are not as many as each other or as were approved. */
const countsDiffer = new Set(["row_count", "archived_differs"])
const notCounted = "not_rehearsed"
/** What the bot would not do to these rows, nobody should be handed to paste. */
const aboutRows = new Set([
  ...countsDiffer,
  notCounted,
  "refused",
  "children",
  "cannot_keep",
  "schema_changed",
  "too_many",
])

function isAboutRows({ failure }: StepResult): boolean {
  return failure != null && aboutRows.has(failure.code)
}

const said: Record<string, string> = {
  sql_failed: "SQL failed, nothing of it stayed",
  functions_failing: "functions still failing",
  data_inconsistent: "a verification does not hold",
  step_failed: "a step failed",
}

function headline(step: StepView, result: StepResult): string {
  const what =
    result.outcome === "unknown"
      ? "nobody knows whether it took effect"
      : countsDiffer.has(result.failure?.code ?? "")
        ? "the counts do not add up"
        : result.failure?.code === notCounted
          ? "nobody has seen how many rows it would meet, so nothing was done"
          : said[triggerOf(step, result)]
  return `${step.title}: ${what}`
}

function evidenceOf(view: RollbackView, step: StepView, result: StepResult): string[] {
  const { failure } = result
  const before = view.rehearsal === null ? undefined : seenBefore(view.rehearsal, step.id)
  const lines = failure ? [`${namedCode(failure.code)}${failure.message}`] : []
  if (failure?.position != null) lines.push(`at position ${failure.position}`)
  if (failure?.detail) lines.push(failure.detail)
  if (failure?.hint) lines.push(failure.hint)
  lines.push(...evidenceText(result))
  const deployed = result.changes.find(({ column }) => column === "deployed")
  if (deployed) lines.push(`deployed before ${deployed.before}, now ${deployed.after ?? "not known"}`)
  const unseen = step.effect === "none" && before?.outcome === "unknown"
  if (before?.holds === false || unseen) lines.push(`before the rollback: ${before?.note ?? "failing too"}`)
  if (before?.holds === true) lines.push("before the rollback it worked")
  return lines
}

/** Steps that are settled: done, or left out by a person. */
export function doneSteps(view: RollbackView): StepView[] {
  const runs = latestRuns(view)
  return view.components
    .flatMap((component) => component.steps)
    .filter(({ id }) => ["succeeded", "skipped"].includes(runs.get(id)?.result?.outcome ?? ""))
}

/** Where a rollback as a whole stands, and what of it is still to be done: for calls that are about no single step. */
export function wholeStanding(view: RollbackView): { evidence: string[]; byHand: string | null } {
  const steps = view.components.flatMap((component) => component.steps)
  const done = doneSteps(view)
  const asked = `asked for at ${view.createdAt.slice(0, 16).replace("T", " ")} UTC`
  const approved = `${view.approvals.length} of ${view.approvalsNeeded} approvals`
  const how = view.approvedAt !== null || done.length > 0 ? `${done.length} of ${steps.length} steps done` : approved
  const last = done.at(-1)
  const left = steps.filter((step) => !done.includes(step) && step.paste != null && step.effect !== "none")
  return {
    evidence: [
      view.reason.trim() === "" ? asked : `${asked}: "${view.reason.trim()}"`,
      last === undefined ? how : `${how}, the last of them: ${last.title}`,
    ],
    byHand:
      left.length === 0
        ? null
        : left.map((step) => `${mark(step)} ${step.title.replaceAll(/\s+/g, " ")}\n${step.paste}`).join("\n\n"),
  }
}

/** What begins a comment where it is pasted: SQL, or a shell. */
function mark({ kind }: StepView): string {
  return ["http", "command", "workflow"].includes(kind) ? "#" : "--"
}

/** The statement as it stands, with its parameters named: for a person, not for a program. */
export function byHand(step: StepView): string {
  if (step.paste != null) return step.paste
  return step.bindings.length === 0 ? step.script : `${step.script}\n-- ${step.bindings.join(", ")}`
}
