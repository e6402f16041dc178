import { loadAnalysis } from "../commands/analysis.ts"
import { loadView } from "../commands/view.ts"
import type { Logger } from "../log.ts"
import type { RollbackView } from "../rollback/facts.ts"
import type { OutboxRow } from "../store/outbox.ts"
import type { StoredRollback } from "../store/rows.ts"
import type { DeliveryDeps, Drawn, Sent } from "./deliver.ts"

/** Posts the card, or edits the one that is there. */
export async function sendCard(rollback: StoredRollback, deps: DeliveryDeps): Promise<Sent> {
  const { store, sender } = deps
  const log = deps.log.child({ rollbackId: rollback.id })
  const view = await loadView(store, rollback)
  const drawn = deps.draw({ kind: "card" }, view, {})
  const channel = rollback.channel_id
  const key = `${rollback.id}/card`
  let sent: Sent
  if (rollback.card_ts !== null && rollback.card_channel !== null)
    sent = await orPlain(
      drawn,
      (form) =>
        sender.update({ channel: rollback.card_channel as string, ts: rollback.card_ts as string, drawn: form }),
      log,
    )
  else {
    const known =
      rollback.card_state === "sending"
        ? await sender.find({ channel, threadTs: null, key, since: rollback.created_at })
        : { kind: "none" as const }
    if (known.kind === "unknown") return { kind: "unknown", error: "could not look for the card" }
    if (known.kind === "found") {
      await store.outbox.markCardSent(rollback.id, { version: 0, channel, ts: known.ts, permalink: null })
      return { kind: "sent", channel, ts: known.ts }
    }
    await store.outbox.markCardSending(rollback.id)
    sent = await orPlain(drawn, (form) => sender.post({ channel, threadTs: null, key, drawn: form }), log)
  }
  if (sent.kind === "refused") await store.outbox.markCardLost(rollback.id)
  if (sent.kind === "sent") {
    const permalink = rollback.permalink ?? (await sender.permalink(sent.channel, sent.ts))
    await store.outbox.markCardSent(rollback.id, {
      version: rollback.card_version,
      channel: sent.channel,
      ts: sent.ts,
      permalink,
    })
  }
  return sent
}

/** Posts a message of the outbox, or edits it when it was posted before. */
export async function sendRow(rollback: StoredRollback, row: OutboxRow, deps: DeliveryDeps): Promise<Sent> {
  const { store, sender } = deps
  const log = deps.log.child({ rollbackId: rollback.id })
  if (row.body.kind === "audit" && (row.ts !== null || (await store.outbox.hasNewerHead(rollback.id, row.seq))))
    return passOver(rollback, row, deps)
  const view = await loadView(store, rollback)
  const escalation = row.body.kind === "escalation" ? await store.records.findEscalation(row.body.escalationId) : null
  const analysis =
    row.body.kind === "analysis" || row.body.kind === "reminder" ? await loadAnalysis(store, rollback, view) : null
  const confirmation = row.body.kind === "manual" ? await store.confirmations.find(row.body.confirmationId) : null
  if (row.body.kind === "file") return sendFile(rollback, row, view, deps)
  const drawn = deps.draw(row.body, view, {
    ...(confirmation ? { confirmation } : {}),
    ...(escalation ? { escalation } : {}),
    ...(analysis ? { analysis } : {}),
  })
  const threaded = row.body.kind !== "escalation" && row.body.kind !== "analysis"
  const channel = escalation?.channelId ?? rollback.card_channel ?? rollback.channel_id
  const threadTs = threaded ? rollback.card_ts : null
  const sent =
    row.ts !== null && row.channel !== null
      ? await orPlain(
          drawn,
          (form) => sender.update({ channel: row.channel as string, ts: row.ts as string, drawn: form }),
          log,
        )
      : await postRow(rollback, row, { channel, threadTs, drawn }, deps)
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

/** A head that stands in the thread is never edited, and one that a newer one follows at once is not posted. */
async function passOver(rollback: StoredRollback, row: OutboxRow, { store }: DeliveryDeps): Promise<Sent> {
  const { channel, ts, revision } = row
  await store.outbox.markSent(rollback.id, row.seq, { channel, ts, revision })
  return { kind: "sent", channel: channel ?? rollback.channel_id, ts: ts ?? "" }
}

async function sendFile(
  rollback: StoredRollback,
  row: OutboxRow,
  view: RollbackView,
  deps: DeliveryDeps,
): Promise<Sent> {
  const { store, sender } = deps
  const file = deps.document(row.body, view, await loadAnalysis(store, rollback, view))
  const sent: Sent =
    file === null
      ? { kind: "refused", error: "nothing to send", hopeless: true }
      : await sender.upload({
          channel: rollback.card_channel ?? rollback.channel_id,
          threadTs: rollback.card_ts,
          ...file,
        })
  const to = sent.kind === "sent" ? sent : { channel: null, ts: null }
  if (sent.kind === "sent" || sent.kind === "refused")
    await store.outbox.markSent(rollback.id, row.seq, {
      ...to,
      revision: row.revision,
      refused: sent.kind === "refused",
    })
  if (sent.kind === "refused") deps.log.warn({ rollbackId: rollback.id, slackError: sent.error }, "Slack took no file")
  return sent
}

async function postRow(
  rollback: StoredRollback,
  row: OutboxRow,
  to: { channel: string; threadTs: string | null; drawn: Drawn },
  deps: DeliveryDeps,
): Promise<Sent> {
  const { store, sender } = deps
  const log = deps.log.child({ rollbackId: rollback.id })
  if (row.state === "sending") {
    const known = await sender.find({
      channel: to.channel,
      threadTs: to.threadTs,
      key: row.key,
      since: rollback.created_at,
    })
    if (known.kind === "unknown") return { kind: "unknown", error: "could not look for the message" }
    // As which of its revisions it arrived nobody knows, so the newest follows as an edit.
    if (known.kind === "found") return { kind: "sent", channel: to.channel, ts: known.ts, stale: true }
  }
  await store.outbox.markSending(rollback.id, row.seq)
  const sent = await orPlain(to.drawn, (form) => sender.post({ ...to, key: row.key, drawn: form }), log)
  if (sent.kind === "limited") await store.outbox.markPending(rollback.id, row.seq)
  // An escalation channel that does not take messages: the rollback's own channel hears of it instead.
  if (sent.kind === "refused" && sent.hopeless && to.channel !== rollback.channel_id)
    return sender.post({ ...to, channel: rollback.channel_id, key: row.key, drawn: to.drawn })
  return sent
}

/** A message whose blocks Slack refuses goes out as plain text: people still hear of it. */
async function orPlain(drawn: Drawn, send: (form: Drawn) => Promise<Sent>, log: Logger): Promise<Sent> {
  const sent = await send(drawn)
  if (sent.kind !== "refused" || sent.hopeless || drawn.blocks === undefined) return sent
  log.error({ slackError: sent.error }, "Slack refused a message's blocks, plain text follows")
  const lost = drawn.blocks.some((block) => (block as { type?: unknown }).type === "actions")
  const note = lost
    ? "\n(Slack did not take the buttons of this message: it can only be read. What must not wait is cancelled with `/rollback cancel`.)"
    : ""
  return send({ text: `${drawn.text.slice(0, 3_700)}${note}` })
}
