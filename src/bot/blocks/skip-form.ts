import type { ModalView } from "@slack/types"
import type { RollbackView } from "../../rollback/facts.ts"
import { cut, cutShort, oneLine } from "./escape.ts"
import { plain } from "./render.ts"

/** Asks why a failed step should be left out; the approvers read it. */
export function skipForm(
  view: RollbackView,
  stepTitle: string,
  form = { callback: "skip_form", metadata: view.id },
): ModalView {
  return {
    type: "modal",
    callback_id: form.callback,
    private_metadata: form.metadata,
    title: plain(cutShort(view.number === null ? "Skip" : `Skip in R-${view.number}`, 24)),
    submit: plain("Ask"),
    close: plain("Back"),
    blocks: [
      {
        type: "input",
        block_id: "reason",
        label: plain(cut(`Why leave out “${oneLine(stepTitle)}”?`, 200)),
        hint: plain("It changes what was approved: another person must approve again."),
        element: { type: "plain_text_input", action_id: "reason", multiline: true, max_length: 500 },
      },
    ],
  }
}
