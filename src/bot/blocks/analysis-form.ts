import type { InputBlock, KnownBlock, ModalView } from "@slack/types"
import type { Analysis, FollowUp, RollbackView } from "../../rollback/facts.ts"
import type { FollowUpProblem, WrittenFollowUp } from "../../rollback/follow-ups.ts"
import { filledIn } from "./analysis-facts.ts"
import { cut, cutShort } from "./escape.ts"
import { nameOf } from "./format.ts"
import { plain } from "./render.ts"

/** Rows that are empty when the form opens, and all that it holds: what is more is written in another saving. */
const emptyRows = 3
const mostRows = 12

type Element = InputBlock["element"]

/** The form behind the button: what only people know. */
export function analysisForm(view: RollbackView, analysis: Analysis): ModalView {
  const rows = Math.min(analysis.followUps.length + emptyRows, mostRows)
  return {
    type: "modal",
    callback_id: "analysis_form",
    private_metadata: metadataOf(view.id, analysis.revision),
    title: plain(cutShort(`Analysis ${nameOf(view) ?? ""}`.trim(), 24)),
    submit: plain("Save"),
    close: plain("Close"),
    blocks: [
      // Who knows one of them saves that one: the analysis goes on asking for the other.
      input("root_cause", "Root cause of the original failure", longText("root_cause", analysis.rootCause)),
      input("prevention", "How it is prevented next time", longText("prevention", analysis.prevention)),
      ...Array.from({ length: rows }, (_, row) => rowBlocks(row, analysis.followUps[row])).flat(),
    ],
  }
}

/** The form's memory: whose analysis, and how often it had been saved when the form was opened. */
function metadataOf(rollbackId: string, revision: number): string {
  return `${rollbackId} ${revision}`
}

export function readMetadata(metadata: string): { rollbackId: string; revision: number } {
  const [rollbackId = "", revision = ""] = metadata.split(" ")
  return { rollbackId, revision: /^\d{1,9}$/.test(revision) ? Number(revision) : -1 }
}

type Values = Record<
  string,
  Record<string, { value?: string | null; selected_user?: string | null; selected_date?: string | null }>
>

/** The rows as they came back; a field that is not there is empty. */
export function writtenRows(values: Values): WrittenFollowUp[] {
  return Array.from({ length: mostRows }, (_, row) => {
    const read = (name: keyof WrittenFollowUp) => Object.values(values[blockId(name, row)] ?? {})[0]
    return {
      text: read("text")?.value ?? "",
      owner: read("owner")?.selected_user ?? "",
      due: read("due")?.selected_date ?? "",
    }
  })
}

const words = {
  no_text: "Say what is to be done, or empty the fields of this follow-up.",
  no_owner: "A follow-up needs an owner: choose a person.",
  no_date: "A follow-up needs a date: choose one.",
  past: "This day has passed: choose a later one.",
} as const satisfies Record<FollowUpProblem["why"], string>

/** What is wrong, beside the field in which it is. */
export function formErrors(problems: readonly FollowUpProblem[]): Record<string, string> {
  return Object.fromEntries(problems.map(({ row, field: name, why }) => [blockId(name, row), words[why]]))
}

function blockId(name: keyof WrittenFollowUp, row: number): string {
  return `follow_up_${row}_${name}`
}

function rowBlocks(row: number, known: FollowUp | undefined): KnownBlock[] {
  const optional = (name: keyof WrittenFollowUp, label: string, element: Element) =>
    input(blockId(name, row), label, element)
  const text = known?.text ?? ""
  return [
    { type: "divider" },
    optional("text", `Follow-up ${row + 1}`, {
      type: "plain_text_input",
      action_id: "text",
      max_length: 300,
      ...(filledIn(text) ? { initial_value: cut(text, 300) } : {}),
    }),
    optional("owner", `Owner of follow-up ${row + 1}`, {
      type: "users_select",
      action_id: "owner",
      ...(/^[UW][A-Z0-9]{1,30}$/.test(known?.owner ?? "") ? { initial_user: String(known?.owner) } : {}),
    }),
    optional("due", `Follow-up ${row + 1} is done by`, {
      type: "datepicker",
      action_id: "due",
      ...(/^\d{4}-\d\d-\d\d$/.test(known?.due ?? "") ? { initial_date: String(known?.due) } : {}),
    }),
  ]
}

function input(id: string, label: string, element: Element): InputBlock {
  return { type: "input", block_id: id, label: plain(label), element, optional: true }
}

function longText(id: string, value: string | null): Element {
  return {
    type: "plain_text_input",
    action_id: id,
    multiline: true,
    max_length: 3000,
    ...(filledIn(value) ? { initial_value: cut(value, 3000) } : {}),
  }
}
