import type { Analysis, CriterionResult, RollbackView } from "../../rollback/facts.ts"
import {
  affectedText,
  approvalText,
  componentText,
  criterionMarks,
  eventOf,
  filledIn,
  issuesOf,
  noCriteria,
  timesText,
} from "./analysis-facts.ts"
import { clean, oneLine } from "./escape.ts"
import { nameOf, number } from "./format.ts"

/** The analysis as a Markdown document, to be kept where a team keeps such documents. */
export function analysisMarkdown(view: RollbackView, analysis: Analysis): string {
  const name = nameOf(view)
  return [
    `# Post-rollback analysis: ${[name, view.environment]
      .filter((word) => word !== null)
      .map(inline)
      .join(", ")}`,
    [view.title, view.reason === "" ? "" : `Reason: ${view.reason}`]
      .filter((line) => line !== "")
      .map(inline)
      .join("\n\n"),
    `## 1. Timestamp and duration\n\n${inline(timesText(view, analysis))}`,
    bullets(analysis.components.map(componentText)),
    bullets(analysis.approvals.map(({ userId, afterMs }) => `approved by ${userId}${approvalText(afterMs)}`)),
    `## 2. Issues encountered\n\n${bullets(issuesOf(view, analysis)) || "None."}`,
    `## 3. Data affected\n\n${inline(affectedText(view, analysis))}`,
    `## 4. Root cause\n\n${block(analysis.rootCause)}`,
    `## 5. Prevention\n\n${block(analysis.prevention)}`,
    analysis.followUps.length === 0 ? "" : `## Follow-ups\n\n${followUps(analysis)}`,
    `## Success criteria\n\n${analysis.criteria.map(criterion).join("\n") || noCriteria(view)}`,
    analysis.watch === null ? "" : `## Watch\n\n${inline(analysis.watch)}`,
    analysis.timeline.length === 0 ? "" : `## Timeline\n\n${timeline(analysis)}`,
    `Audit head \`${analysis.auditHead.replace(/[^\w:-]/g, "")}\`, entry ${number(analysis.auditEntries)}.`,
  ]
    .filter((part) => part !== "")
    .join("\n\n")
    .concat("\n")
}

/** Only what holds is ticked. */
function criterion({ text, outcome, evidence }: CriterionResult): string {
  const { word } = criterionMarks[outcome]
  const facts = [word === "" ? "" : `**${word}**`, inline(evidence)].filter((fact) => fact !== "").join(", ")
  return `- [${outcome === "holds" ? "x" : " "}] ${inline(text)}${facts === "" ? "" : `: ${facts}`}`
}

function followUps(analysis: Analysis): string {
  const rows = analysis.followUps.map(
    ({ text, owner, due }) =>
      `| ${inline(text)} | ${inline(owner ?? "nobody yet")} | ${inline(due ?? "no date yet")} |`,
  )
  return ["| What | Owner | Until |", "|---|---|---|", ...rows].join("\n")
}

function timeline(analysis: Analysis): string {
  return bullets(
    analysis.timeline.map((event) => {
      const { at, did, by } = eventOf(event)
      return `${at} ${did}${by === null ? "" : ` by ${by}`}`
    }),
  )
}

function bullets(lines: string[]): string {
  return lines.map((line) => `- ${inline(line)}`).join("\n")
}

function inline(text: string): string {
  return oneLine(text).replace(/[\\`*_{}[\]<>#|~!&]/g, "\\$&")
}

function block(text: string | null): string {
  if (!filledIn(text)) return "Not given yet."
  return clean(text)
    .split("\n")
    .map(inline)
    .join("\n\n")
    .replace(/\n{3,}/g, "\n\n")
    .trim()
}
