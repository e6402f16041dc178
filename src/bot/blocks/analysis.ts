import type { Analysis, CriterionResult, Event, FollowUp, RollbackView } from "../../rollback/facts.ts"
import { draw, type Drawn } from "./fit.ts"
import {
  affectedText,
  approvalText,
  componentText,
  eventOf,
  criterionMarks,
  filledIn,
  issuesOf,
  missingOf,
  noCriteria,
  timesText,
} from "./analysis-facts.ts"
import { nameOf, number } from "./format.ts"
import { standingNow, takenBackFact } from "./naming.ts"
import { buttons, footer, headline, joined, list, listOf, mention, type Line, type Part } from "./parts.ts"

export { analysisMarkdown } from "./analysis-markdown.ts"

/** The same for one person: the analysis itself is known by its first words, and there is one. */
export function drawAnalysisAgain(view: RollbackView, analysis: Analysis): Drawn {
  const { text, blocks } = drawAnalysis(view, analysis)
  return { text: `Shown again: ${text}`, blocks }
}

/** What has to be known after a rollback; filled in except for what only people know. */
export function drawAnalysis(view: RollbackView, analysis: Analysis): Drawn {
  const missing = missingOf(analysis)
  const waiting = missing.length === 0 ? null : [`waiting for: ${missing.join(", ")}`]
  const filled = analysis.filledBy === null ? null : ["filled in by ", mention(analysis.filledBy)]
  return draw([
    // This message is what the channel hears of it.
    headline(title(view), [{ bold: standingNow(view) }], takenBackFact(view), waiting, filled),
    list(
      [{ bold: "1 Timestamp and duration" }, `: ${timesText(view, analysis)}`],
      [...componentLines(analysis), ...approvalLines(analysis)],
    ),
    several(
      "2 Issues encountered",
      issuesOf(view, analysis).map((issue): Line => [issue]),
      "none",
    ),
    list([{ bold: "3 Data affected" }, `: ${affectedText(view, analysis)}`], []),
    given("4 Root cause", analysis.rootCause),
    given("5 Prevention", analysis.prevention),
    ...listOf("Follow-ups", analysis.followUps.map(followUpLine)),
    list(
      "Success criteria",
      analysis.criteria.length === 0 ? [[noCriteria(view)]] : analysis.criteria.map(criterionLine),
    ),
    ...(analysis.watch === null ? [] : [list([{ bold: "Watch" }, `: ${analysis.watch}`], [])]),
    ...listOf("Timeline", analysis.timeline.map(eventLine)),
    ...buttons({ id: "fill_analysis", label: missing.length === 0 ? "Change" : "Fill in", value: view.id }),
    ...footer(audit(analysis)),
  ])
}

function title(view: RollbackView): string {
  const [environment, name] = [view.environment, nameOf(view)]
  return `Post-rollback analysis · ${name === null ? environment : `${name} · ${environment}`}`
}

function componentLines({ components }: Analysis): Line[] {
  return components.map((component): Line => ["• ", componentText(component)])
}

function approvalLines({ approvals }: Analysis): Line[] {
  return approvals.map(({ userId, afterMs }): Line => ["• approved by ", mention(userId), approvalText(afterMs)])
}

function followUpLine({ text, owner, due }: FollowUp): Line {
  return [
    "• ",
    ...joined([[text], owner === null ? ["nobody yet"] : [mention(owner)], [`until ${due ?? "no date yet"}`]]),
  ]
}

function eventLine(event: Event): Line {
  const { at, did, by } = eventOf(event)
  return [`${at} ${did}`, ...(by === null ? [] : [" by ", mention(by)])]
}

function criterionLine({ text, outcome, evidence }: CriterionResult): Line {
  const { mark, word } = criterionMarks[outcome]
  return [
    `${mark} `,
    ...joined([[text], word === "" ? null : [{ bold: word }], evidence.trim() === "" ? null : [evidence]]),
  ]
}

function several(heading: string, lines: Line[], none: string): Part {
  const [only] = lines
  if (only === undefined) return list([{ bold: heading }, `: ${none}`], [])
  if (lines.length === 1) return list([{ bold: heading }, ": ", ...only], [])
  return list(
    heading,
    lines.map((line): Line => ["• ", ...line]),
  )
}

/** Given by people: several lines are kept as several. */
function given(heading: string, text: string | null): Part {
  if (!filledIn(text)) return list([{ bold: heading }, ": –"], [])
  return several(
    heading,
    text
      .split("\n")
      .filter((line) => line.trim() !== "")
      .map((line): Line => [line]),
    "–",
  )
}

function audit({ auditHead, auditEntries }: Analysis): Line | null {
  if (auditHead === "") return null
  const head = auditHead.length > 12 ? `${auditHead.slice(0, 6)}…${auditHead.slice(-2)}` : auditHead
  return [`audit head ${head}, entry ${number(auditEntries)}`]
}
