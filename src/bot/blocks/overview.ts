import type { RollbackView } from "../../rollback/facts.ts"
import { cut, oneLine, safe } from "./escape.ts"
import { clock, dateAndTime, duration, nameOf, number, timeOfDay } from "./format.ts"
import { mention } from "./parts.ts"
import { elapsedOf, latestRun, standingOf, stepsOf, troubleOf } from "./progress.ts"
import { lineText } from "./render.ts"
import { stateWords } from "./state-words.ts"

const mostRows = 20
/** An ephemeral answer longer than this is not read. */
const longestAnswer = 3_900

const commands: [usage: string, does: string][] = [
  ["/rollback ENVIRONMENT [--only a,b] [--with c] [name=value] [reason]", "asks to go back; a second person approves"],
  ["/rollback rehearse ENVIRONMENT", "only looks at what would change"],
  ["/rollback plan ENVIRONMENT", "shows the plan, its components and parameters"],
  ["/rollback status [ENVIRONMENT or R-7]", "what is going on now"],
  ["/rollback history [ENVIRONMENT]", "what was done before"],
  ["/rollback cancel R-7", "takes back a request that nobody has approved yet"],
  ["/rollback stop R-7", "ends a run: no further step begins"],
  ["/rollback note R-7 TEXT", "notes an issue for the analysis"],
  ["/rollback analysis R-7", "shows the post-rollback analysis"],
  ["/rollback undo R-7 [REASON]", "asks to take back what R-7 did; a second person approves"],
  [
    "/rollback baseline ENVIRONMENT [capture|diff] [--as NAME]",
    "the snapshot that a restore goes back to, and others by name",
  ],
  ["/rollback record ENVIRONMENT TEXT", "writes down what was done by hand"],
  ["/rollback help", "this"],
]

/** What can be typed. */
export function helpText(environments: string[]): string {
  const shown = environments.slice(0, mostRows).map((name) => safe(name, 80))
  const more = environments.length > shown.length ? ` and ${number(environments.length - shown.length)} more` : ""
  const known =
    shown.length === 0
      ? "No environment has a valid plan yet: `stepback plan check` says why."
      : `Environments: ${shown.join(", ")}${more}`
  return [
    "Takes an environment back to a known-good state when two people agree.",
    ...commands.map(([usage, does]) => `\`${usage}\` ${does}`),
    "`--only` narrows it to these components, `--with` adds optional ones, `name=value` sets a parameter for this run; all other words are the reason.",
    known,
  ].join("\n")
}

/** What goes on in an environment, or what was last; `environment` null: in any. */
export function statusText(views: readonly RollbackView[], environment: string | null): string {
  if (views.length === 0) {
    const where = environment === null ? "No environment" : safe(environment, 80)
    return environment === null ? `${where} has a rollback going on.` : `${where}: no rollback going on.`
  }
  return asMany(
    views.map((view) =>
      [rowText(view), ...progressText(view), ...(view.permalink === null ? [] : [linkText(view.permalink)])].join("\n"),
    ),
  )
}

/** Earlier rollbacks, as they were given: one a line. */
export function historyText(views: readonly RollbackView[]): string {
  return views.length === 0 ? "There was no rollback yet." : asMany(views.map(rowText))
}

function asMany(all: readonly string[]): string {
  const rows: string[] = []
  for (const row of all.slice(0, mostRows)) {
    if (rows.join("\n").length + row.length > longestAnswer) break
    rows.push(row)
  }
  return [...rows, ...(all.length > rows.length ? [`… and ${number(all.length - rows.length)} more`] : [])].join("\n")
}

function rowText(view: RollbackView): string {
  const name = nameOf(view) ?? "Rehearsal"
  const kind =
    view.kind === "rollback" || view.kind === "rehearsal" ? "" : view.kind === "undo" ? " (undo)" : " (by hand)"
  const ran = view.endedAt === null ? null : elapsedOf(view, new Date(view.endedAt))
  const took = view.approvedAt === null || ran === null ? "" : ` after ${duration(ran)}`
  const trouble = view.state === "failed" ? troubleOf(view) : null
  const at = trouble === null ? "" : ` at "${safe(trouble.step.title, 80)}"`
  const undone = view.takenBack ? `, taken back by R-${view.takenBack.number ?? "?"}` : ""
  const reason = view.reason.trim() === "" ? "" : `: "${safe(view.reason, 120)}"`
  const place = safe(view.environment, 80)
  return `${name} · ${place}${kind} · ${stateWords[view.state]}${at}${took}${undone} · ${dateAndTime(view.createdAt)} · ${person(view.requesterId)}${reason}`
}

function progressText(view: RollbackView): string[] {
  const steps = stepsOf(view)
  const running = steps.find((step) => standingOf(latestRun(view, step.id)).word === "running")
  const done = steps.filter((step) => standingOf(latestRun(view, step.id)).word === "done").length
  if (view.state === "awaiting_approval") {
    const until = view.expiresAt === null ? "" : `, expires ${timeOfDay(view.expiresAt)}`
    return [`${number(view.approvals.length)} of ${number(view.approvalsNeeded)} approvals${until}`]
  }
  if (view.state !== "running") return []
  const rto = view.rtoMs === null ? "" : ` · RTO ${clock(view.rtoMs)}`
  const now = running === undefined ? "" : ` · now: ${safe(running.title, 120)}`
  return [`${number(done)} of ${number(steps.length)} steps done${now}${rto}`]
}

/** Named, not called: a list of old rollbacks must not ring anybody. Ephemeral answers do not. */
function person(id: string): string {
  return lineText([mention(cut(oneLine(id), 60))])
}

function linkText(permalink: string): string {
  return lineText([{ link: permalink, label: "its card" }])
}
