import { loadAnalysis } from "../commands/analysis.ts"
import { loadView } from "../commands/view.ts"
import type { RollbackView } from "../rollback/facts.ts"
import type { OutboxRow } from "../store/outbox.ts"
import type { StoredRollback } from "../store/rows.ts"
import { isAway } from "./away.ts"
import { postCardAnew } from "./deliver-card.ts"
import type { DeliveryDeps, Drawn, Sent } from "./deliver.ts"
import { edit, orPlain } from "./drawn-forms.ts"
import { sendOnce, type Lane } from "./send-once.ts"

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
  // What was filled in would be heard of nowhere.
  if (sent.kind === "refused" && ts !== null && row.body.kind === "analysis" && sent.error === "message_not_found")
    sent = await post(rollback)
  if (sent.kind === "refused" && ts === null && threaded && gone.has(sent.error)) {
    const anew = await postCardAnew(rollback, lane, deps)
    if (anew !== null) sent = await post(anew)
  }
  if (sent.kind === "refused" && (ts === null || inChannel === rollback.card_channel)) {
    const waits = await keepWhileAway(rollback, row, { sent, lane }, deps)
    if (waits !== null) return waits
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

/** Null where it is refused for good. */
async function keepWhileAway(
  rollback: StoredRollback,
  row: OutboxRow,
  { sent, lane }: { sent: Extract<Sent, { kind: "refused" }>; lane: Lane },
  { store }: DeliveryDeps,
): Promise<Sent | null> {
  if (!isAway(rollback, sent, row.since)) return null
  // What was in doubt before stays so.
  if (row.state === "pending") await store.outbox.markPending(rollback.id, row.seq, lane.owner)
  return { kind: "away", error: sent.error }
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
  if (sent.kind === "refused") {
    const waits = await keepWhileAway(rollback, row, { sent, lane }, deps)
    if (waits !== null) return waits
  }
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
