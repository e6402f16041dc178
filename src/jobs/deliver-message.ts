import { loadAnalysis } from "../commands/analysis.ts"
import { loadView } from "../commands/view.ts"
import type { Logger } from "../log.ts"
import type { RollbackView } from "../rollback/facts.ts"
import type { OutboxRow } from "../store/outbox.ts"
import type { StoredRollback } from "../store/rows.ts"
import type { DeliveryDeps, Drawn, Sent } from "./deliver.ts"
import { isLive } from "../rollback/states.ts"
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

/** Edits a message in the lane's time only: whoever is late would draw over what is newer. */
async function edit(lane: Lane, send: (form: Drawn) => Promise<Sent>, drawn: Drawn, log: Logger): Promise<Sent> {
  if (!lane.isOurs()) return { kind: "unknown", error: "another process sends for this rollback" }
  return orPlain(drawn, send, log)
}

/** Posts a message of the outbox, or edits it when it was posted before. */
export async function sendRow(rollback: StoredRollback, row: OutboxRow, lane: Lane, deps: DeliveryDeps): Promise<Sent> {
  const { store, sender } = deps
  const log = deps.log.child({ rollbackId: rollback.id })
  if (row.body.kind === "audit" && (row.ts !== null || (await store.outbox.hasNewerHead(rollback.id, row.seq))))
    return passOver(rollback, row, deps)
  if (row.body.kind === "nudge" && rollback.state !== "awaiting_approval") return passOver(rollback, row, deps)
  const view = await loadView(store, rollback)
  const escalation = row.body.kind === "escalation" ? await store.records.findEscalation(row.body.escalationId) : null
  const analysis =
    row.body.kind === "analysis" || row.body.kind === "reminder" ? await loadAnalysis(store, rollback, view) : null
  const confirmation = row.body.kind === "manual" ? await store.confirmations.find(row.body.confirmationId) : null
  if (row.body.kind === "file") return sendFile(rollback, row, { view, lane }, deps)
  const drawn = deps.draw(row.body, view, {
    ...(confirmation ? { confirmation } : {}),
    ...(escalation ? { escalation } : {}),
    ...(analysis ? { analysis } : {}),
  })
  const threaded = row.body.kind !== "escalation" && row.body.kind !== "analysis"
  const { ts, channel: inChannel } = row
  const post = (of: StoredRollback) => {
    const channel = escalation?.channelId ?? of.card_channel ?? of.channel_id
    const threadTs = threaded ? of.card_ts : null
    return postRow(of, row, { channel, threadTs, drawn, broadcast: isForAll(row, view) }, lane, deps)
  }
  let sent =
    ts !== null && inChannel !== null
      ? await edit(lane, (form) => sender.update({ channel: inChannel, ts, key: row.key, drawn: form }), drawn, log)
      : await post(rollback)
  if (sent.kind === "refused" && ts === null && threaded && gone.has(sent.error)) {
    const anew = await postCardAnew(rollback, lane, deps)
    if (anew !== null) sent = await post(anew)
  }
  if (sent.kind === "sent")
    await store.outbox.markSent(rollback.id, row.seq, {
      channel: sent.channel,
      ts: sent.ts,
      revision: sent.stale === true ? row.revision - 1 : row.revision,
    })
  if (sent.kind === "refused")
    await store.outbox.markSent(rollback.id, row.seq, {
      channel: row.channel,
      ts: row.ts,
      revision: row.revision,
      refused: true,
    })
  return sent
}

/** What Slack says of a thread whose first message, the card, is not there any more. */
const gone = new Set(["thread_not_found", "message_not_found"])

/** Asks by an edit whether the card is gone. Then it is posted anew, and this is the rollback with it; null when it is not. */
async function postCardAnew(rollback: StoredRollback, lane: Lane, deps: DeliveryDeps): Promise<StoredRollback | null> {
  const { rollbacks } = deps.store
  await sendCard(rollback, lane, deps)
  const without = await rollbacks.get(rollback.id)
  if (without.card_state !== "none") return null
  await sendCard(without, lane, deps)
  const anew = await rollbacks.get(rollback.id)
  return anew.card_ts === null ? null : anew
}

/** Where anyone may approve, a call in the thread would ring nobody: the channel sees it too. */
function isForAll({ body }: OutboxRow, { approveFrom }: RollbackView): boolean {
  return body.kind === "nudge" && approveFrom === "anyone"
}

/**
 * A head that stands in the thread is never edited, and one that a newer one follows at once is not posted; nor is a call
 * to approvers that waited, while Slack was away, until there was nothing left to approve.
 */
async function passOver(rollback: StoredRollback, row: OutboxRow, { store }: DeliveryDeps): Promise<Sent> {
  const { channel, ts, revision } = row
  await store.outbox.markSent(rollback.id, row.seq, { channel, ts, revision })
  return { kind: "sent", channel: channel ?? rollback.channel_id, ts: ts ?? "" }
}

async function sendFile(
  rollback: StoredRollback,
  row: OutboxRow,
  { view, lane }: { view: RollbackView; lane: Lane },
  deps: DeliveryDeps,
): Promise<Sent> {
  const { store, sender } = deps
  const file = deps.document(row.body, view, await loadAnalysis(store, rollback, view))
  const to = { channel: rollback.card_channel ?? rollback.channel_id, threadTs: rollback.card_ts }
  let sent: Sent =
    file === null
      ? { kind: "refused", error: "nothing to send", hopeless: true }
      : await sendOnce(
          {
            channel: to.channel,
            inDoubt: row.state === "sending",
            look: () => sender.findFile({ ...to, name: file.name, since: row.since }),
            mark: () => store.outbox.markSending(rollback.id, row.seq, lane.owner),
            unmark: () => store.outbox.markPending(rollback.id, row.seq, lane.owner),
            planLook: (afterMs) =>
              store.outbox.planLook(rollback.id, { ...to, seq: row.seq, fileName: file.name }, afterMs),
            post: () => sender.upload({ ...to, ...file }),
          },
          lane,
          sender,
        )
  if (sent.kind === "unknown" && (await areFilesAway(rollback, deps)))
    sent = { kind: "refused", error: sent.error, hopeless: true }
  const at = sent.kind === "sent" ? { channel: sent.channel, ts: sent.ts } : { channel: null, ts: null }
  if (sent.kind === "sent" || sent.kind === "refused")
    await store.outbox.markSent(rollback.id, row.seq, {
      ...at,
      revision: row.revision,
      refused: sent.kind === "refused",
    })
  if (sent.kind === "refused" && file !== null) {
    deps.log.warn({ rollbackId: rollback.id, slackError: sent.error }, "Slack took no file")
    const text = `${file.name} could not be put here: ${sent.error}`
    await store.outbox.enqueue(rollback.id, `${row.key}/not-sent`, { kind: "text", text })
  }
  return sent
}

/** With the pauses between them, half a minute. */
const fileAttempts = 8

/** Files go to another host than messages, which must not wait for them for good. */
async function areFilesAway({ id, card_channel: channel, card_ts: ts }: StoredRollback, deps: DeliveryDeps) {
  if ((await deps.store.outbox.deliveryAttempts(id)) < fileAttempts || channel === null || ts === null) return false
  return (await deps.sender.permalink(channel, ts)) !== null
}

async function postRow(
  rollback: StoredRollback,
  row: OutboxRow,
  to: { channel: string; threadTs: string | null; drawn: Drawn; broadcast: boolean },
  lane: Lane,
  deps: DeliveryDeps,
): Promise<Sent> {
  const { store, sender } = deps
  const log = deps.log.child({ rollbackId: rollback.id })
  const { threadTs, drawn, broadcast } = to
  const { key, seq } = row
  const postTo = (channel: string) =>
    sendOnce(
      {
        channel,
        inDoubt: row.state === "sending",
        look: () => sender.find({ channel, threadTs, key, since: row.since }),
        mark: () => store.outbox.markSending(rollback.id, seq, lane.owner),
        unmark: () => store.outbox.markPending(rollback.id, seq, lane.owner),
        planLook: (afterMs) => store.outbox.planLook(rollback.id, { seq, channel, threadTs, fileName: null }, afterMs),
        post: () => orPlain(drawn, (form) => sender.post({ channel, threadTs, key, drawn: form, broadcast }), log),
      },
      lane,
      sender,
    )
  const sent = await postTo(to.channel)
  // An escalation channel that does not take it, for whatever reason: the rollback's own channel hears of it instead.
  if (sent.kind === "refused" && to.channel !== rollback.channel_id) return postTo(rollback.channel_id)
  return sent
}

/** Longer than this is not read in a log; what is wrong with a block stands at its beginning, or is its length. */
const loggedBlock = 1_000

/** Those that Slack points at; all of them where it points at none. */
function refusedBlocks(blocks: readonly unknown[], error: string): string[] {
  const named = new Set([...error.matchAll(/\/blocks\/(\d+)/g)].map(([, at]) => Number(at)))
  const those = blocks.filter((_, at) => named.size === 0 || named.has(at))
  return those.map((block) => {
    const text = JSON.stringify(block)
    return text.length > loggedBlock ? `${text.slice(0, loggedBlock)}… ${text.length} characters` : text
  })
}

/** A message whose blocks Slack refuses goes out as plain text: people still hear of it. */
async function orPlain(drawn: Drawn, send: (form: Drawn) => Promise<Sent>, log: Logger): Promise<Sent> {
  const sent = await send(drawn)
  if (sent.kind !== "refused" || sent.hopeless || drawn.blocks === undefined) return sent
  const blocks = refusedBlocks(drawn.blocks, sent.error)
  log.error({ slackError: sent.error, blocks }, "Slack refused a message's blocks, plain text follows")
  const lost = drawn.blocks.some((block) => (block as { type?: unknown }).type === "actions")
  const note = lost
    ? "\n(Slack did not take the buttons of this message: it can only be read. What must not wait is cancelled with `/rollback cancel`.)"
    : ""
  return send({ text: `${drawn.text.slice(0, 3_700)}${note}` })
}
