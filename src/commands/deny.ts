import { refuse, type Refused } from "../rollback/refusals.ts"
import type { StoredRollback } from "../store/rows.ts"
import { notOpen } from "./approve.ts"
import { mayAct, tidy, type Actor, type Deps } from "./ports.ts"
import { readRun } from "./view.ts"

/** Whether this person may deny this card now; asked when the button is pressed and again when the form comes back. */
export async function mayDeny(
  click: { token: string; actor: Actor },
  deps: Deps,
): Promise<{ kind: "may"; rollback: StoredRollback } | Refused> {
  const card = await deps.store.rollbacks.findCard(click.token)
  if (!card) return refuse("deny", { reason: "old_card", number: null })
  const closed = notOpen(card.rollback, card.current)
  if (closed) return { ...closed, verb: "deny" }
  if (card.rollback.requester_id === click.actor.userId) return refuse("deny", { reason: "requester_cannot_approve" })
  const run = readRun(card.rollback)
  if (!run) return refuse("deny", { reason: "not_ready" })
  const notAllowed = await mayAct(deps.people, click.actor.userId, run.policy.from)
  return notAllowed ? refuse("deny", notAllowed) : { kind: "may", rollback: card.rollback }
}

export async function deny(
  click: { token: string; actor: Actor; reason: string },
  deps: Deps,
): Promise<{ kind: "denied" } | Refused> {
  const may = await mayDeny(click, deps)
  if (may.kind === "refuse") return may
  const moved = await deps.store.rollbacks.move(may.rollback.id, "denied", {
    actor: click.actor.userId,
    reason: tidy(click.reason),
    round: may.rollback.round,
  })
  if (moved.kind === "not_moved") {
    const now = await deps.store.rollbacks.get(may.rollback.id)
    const closed = notOpen(now, now.token === click.token)
    return closed ? { ...closed, verb: "deny" } : refuse("deny", { reason: "old_card", number: now.number })
  }
  deps.wakeOutbox()
  return { kind: "denied" }
}
