import type { InputBlock, ModalView } from "@slack/types"

import type { Analysis, CriterionResult, RollbackView } from "../../rollback/facts.ts"
import { cut, cutShort } from "./escape.ts"
import { draw, type Drawn } from "./fit.ts"
import {
  affectedText,
  componentText,
  criterionMarks,
  filledIn,
  issuesOf,
  missingOf,
  timesText,
} from "./analysis-facts.ts"
import { nameOf, number } from "./format.ts"
import { buttons, footer, headline, joined, list, mention, type Line, type Part } from "./parts.ts"
import { plain } from "./render.ts"

export { analysisMarkdown } from "./analysis-markdown.ts"

/** What has to be known after a rollback; filled in except for what only people know. */
export function drawAnalysis(view: RollbackView, analysis: Analysis): Drawn {
  const missing = missingOf(analysis)
  const waiting = missing.length === 0 ? null : [`waiting for: ${missing.join(", ")}`]
  const filled = analysis.filledBy === null ? null : ["filled in by ", mention(analysis.filledBy)]
  return draw([
    headline(title(view), waiting, filled),
    list([{ bold: "1 Timestamp and duration" }, `: ${timesText(view, analysis)}`], componentLines(analysis)),
    several(
      "2 Issues encountered",
      issuesOf(view, analysis).map((issue): Line => [issue]),
      "none",
    ),
    list([{ bold: "3 Data affected" }, `: ${affectedText(analysis)}`], []),
    given("4 Root cause", analysis.rootCause),
    given("5 Prevention", analysis.prevention),
    ...(filledIn(analysis.followUps) ? [given("Follow-ups", analysis.followUps)] : []),
    list(
      "Success criteria",
      analysis.criteria.length === 0 ? [["The plan names none."]] : analysis.criteria.map(criterionLine),
    ),
    ...(analysis.watch === null ? [] : [list([{ bold: "Watch" }, `: ${analysis.watch}`], [])]),
    ...buttons({ id: "fill_analysis", label: missing.length === 0 ? "Change" : "Fill in", value: view.id }),
    ...footer(audit(analysis)),
  ])
}

/** The form behind the button: what only people know. */
export function analysisForm(view: RollbackView, analysis: Analysis): ModalView {
  return {
    type: "modal",
    callback_id: "analysis_form",
    private_metadata: view.id.slice(0, 3000),
    title: plain(cutShort(`Analysis ${nameOf(view) ?? ""}`.trim(), 24)),
    submit: plain("Save"),
    close: plain("Close"),
    blocks: [
      input("root_cause", "Root cause of the original failure", analysis.rootCause),
      input("prevention", "How it is prevented next time", analysis.prevention),
      { ...input("follow_ups", "Follow-ups", analysis.followUps), optional: true },
    ],
  }
}

function title(view: RollbackView): string {
  const [environment, name] = [view.environment, nameOf(view)]
  return `Post-rollback analysis · ${name === null ? environment : `${name} · ${environment}`}`
}

function componentLines({ components }: Analysis): Line[] {
  return components.map((component): Line => ["• ", componentText(component)])
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

function input(id: string, label: string, value: string | null): InputBlock {
  return {
    type: "input",
    block_id: id,
    label: plain(label),
    element: {
      type: "plain_text_input",
      action_id: id,
      multiline: true,
      max_length: 3000,
      ...(filledIn(value) ? { initial_value: cut(value, 3000) } : {}),
    },
  }
}
