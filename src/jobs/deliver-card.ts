import { loadView } from "../commands/view.ts"
import { isLive } from "../rollback/states.ts"
import type { StoredRollback } from "../store/rows.ts"
import { isAway } from "./away.ts"
import type { DeliveryDeps, Sent } from "./deliver.ts"
import { edit, orPlain } from "./drawn-forms.ts"
import { sendOnce, type Lane } from "./send-once.ts"

/** Posts the card, or edits the one that is there. */
export async function sendCard(rollback: StoredRollback, lane: Lane, deps: DeliveryDeps): Promise<Sent> {
  const { store, sender } = deps
  const log = deps.log.child({ rollbackId: rollback.id })
  const view = await loadView(store, rollback)
  const drawn = deps.draw({ kind: "card" }, view, {})
  const channel = rollback.channel_id
  const key = `${rollback.id}/card`
  const { card_ts: ts, card_channel: inChannel } = rollback
  const sent =
    ts !== null && inChannel !== null
      ? await edit(lane, (form) => sender.update({ channel: inChannel, ts, key, drawn: form }), drawn, log)
      : await sendOnce(
          {
            channel,
            inDoubt: rollback.card_state === "sending",
            look: () => sender.find({ channel, threadTs: null, key, since: rollback.created_at }),
            mark: () => store.outbox.markCardSending(rollback.id, lane.owner),
            unmark: () => store.outbox.markCardUnsent(rollback.id, lane.owner),
            planLook: (afterMs) =>
              store.outbox.planLook(rollback.id, { seq: 0, channel, threadTs: null, fileName: null }, afterMs),
            post: () => orPlain(drawn, (form) => sender.post({ channel, threadTs: null, key, drawn: form }), log),
          },
          lane,
          sender,
        )
  if (sent.kind === "refused" && isAway(rollback, sent, rollback.ended_at)) return { kind: "away", error: sent.error }
  if (sent.kind === "refused") await giveUpCard(rollback, sent, deps)
  if (sent.kind === "sent" && sent.stale === true)
    await store.outbox.markCardSent(rollback.id, { version: 0, channel: sent.channel, ts: sent.ts, permalink: null })
  else if (sent.kind === "sent") {
    const permalink = rollback.permalink ?? (await sender.permalink(sent.channel, sent.ts))
    await store.outbox.markCardSent(rollback.id, {
      version: rollback.card_version,
      channel: sent.channel,
      ts: sent.ts,
      permalink,
    })
  }
  // An old drawing may just have covered the newest one of another process.
  if (!lane.isOurs()) await store.outbox.redrawCard(rollback.id)
  return sent
}

/** Asks by an edit whether the card is gone. Then it is posted anew, and this is the rollback with it; null when it is not. */
export async function postCardAnew(
  rollback: StoredRollback,
  lane: Lane,
  deps: DeliveryDeps,
): Promise<StoredRollback | null> {
  const { rollbacks } = deps.store
  await sendCard(rollback, lane, deps)
  const without = await rollbacks.get(rollback.id)
  if (without.card_state !== "none") return null
  await sendCard(without, lane, deps)
  const anew = await rollbacks.get(rollback.id)
  return anew.card_ts === null ? null : anew
}

/** What Slack says of a message that stands and will not be edited. */
const fixed = new Set(["cant_update_message", "edit_window_closed"])

/** Whether somebody needs the card's buttons: to decide, or to go on with what broke off. No command does the same. */
function isDecidable({ state, left_at: leftAt }: StoredRollback): boolean {
  if (state === "failed" || state === "stopped") return leftAt === null
  return state === "preparing" || state === "awaiting_approval"
}

/**
 * Somebody must be able to decide, and what is still to be said has its place in the card's thread: a card that went is
 * posted anew. What nobody can see does not wait for anybody.
 */
async function giveUpCard(
  rollback: StoredRollback,
  { error }: Extract<Sent, { kind: "refused" }>,
  { store, sender, log }: DeliveryDeps,
): Promise<void> {
  const { id, card_ts: ts, card_channel: channel, card_version: version, state } = rollback
  const undecided = state === "preparing" || state === "awaiting_approval"
  log.error({ rollbackId: id, slackError: error }, "Slack did not take the card")
  const decidable = isDecidable(rollback)
  const needed = isLive(state) || decidable || (await store.outbox.listUnsent(id)).length > 0
  if (ts !== null && error === "message_not_found" && needed) return store.outbox.markCardGone(id)
  // Its buttons would come by an edit. Other edits are progress, which the thread tells too.
  if (ts !== null && fixed.has(error) && decidable) return store.outbox.markCardGone(id)
  // One drawing that Slack did not take: the next may do, also in a channel that the bot was taken out of for a while.
  if (ts !== null && channel !== null) return store.outbox.markCardSent(id, { version, channel, ts, permalink: null })
  await store.outbox.markCardLost(id)
  if (!undecided) return
  const reason = `Slack did not take the card in this channel: ${error}`
  await store.rollbacks.move(id, "cancelled", { actor: "stepback", reason })
  // Nobody else can tell the person; that this may not arrive either is on record.
  const name = rollback.number === null ? "the rehearsal" : `R-${rollback.number}`
  const text = `I could not post the card of ${name} (${rollback.environment}) where you asked for it, so it was cancelled: ${error}. Add me to that channel, or ask in another one.`
  await sender.post({ channel: rollback.requester_id, threadTs: null, key: `${id}/no-card`, drawn: { text } })
}
