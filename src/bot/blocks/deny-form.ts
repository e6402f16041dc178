import type { ModalView } from "@slack/types"

import type { RollbackView } from "../../rollback/facts.ts"
import { cut, cutShort, oneLine } from "./escape.ts"
import { placeOf } from "./format.ts"
import { plain } from "./render.ts"

/** Asks whoever denies for the reason; the requester reads it on the card. */
export function denyForm(view: RollbackView): ModalView {
  return {
    type: "modal",
    callback_id: "deny_form",
    private_metadata: (view.token ?? "").slice(0, 3000),
    title: plain(cutShort(view.number === null ? "Deny" : `Deny R-${view.number}`, 24)),
    submit: plain("Deny"),
    close: plain("Back"),
    blocks: [
      {
        type: "input",
        block_id: "reason",
        label: plain(cut(`Why should ${oneLine(placeOf(view))} not run?`, 200)),
        hint: plain("Everybody in the channel sees it."),
        element: { type: "plain_text_input", action_id: "reason", multiline: true, max_length: 500 },
      },
    ],
  }
}
