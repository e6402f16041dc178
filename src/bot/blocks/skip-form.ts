import type { ModalView } from "@slack/types"
import type { ShownFailure } from "../../commands/reopen.ts"
import type { RollbackView } from "../../rollback/facts.ts"
import { cut, cutShort, oneLine } from "./escape.ts"
import { plain } from "./render.ts"

/** Asks why a failed step should be left out; the approvers read it. */
export function skipForm(
  view: RollbackView,
  stepTitle: string,
  form: { callback: "skip_form" | "failure_skip_form"; metadata: string },
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

/** The form's memory: the failure that it was opened for. By the time it comes back, another step may have failed. */
export function skipMetadata({ rollbackId, generation, stepId }: ShownFailure): string {
  return `${rollbackId} ${generation} ${stepId}`
}

export function readSkipMetadata(metadata: string): ShownFailure {
  const [rollbackId = "", generation = "", stepId = ""] = metadata.split(" ")
  return { rollbackId, generation: /^\d{1,9}$/.test(generation) ? Number(generation) : -1, stepId }
}
