import { loadAnalysis } from "../commands/analysis.ts"
import { loadView } from "../commands/view.ts"
import type { Logger } from "../log.ts"
import { isLive } from "../rollback/states.ts"
import type { Analysis, Confirmation, Escalation, Message, RollbackView } from "../rollback/facts.ts"
import type { OutboxRow } from "../store/outbox.ts"
import type { StoredRollback } from "../store/rows.ts"
import type { Store } from "../store/store.ts"

/** A message as it goes out; opaque here. */
export type Drawn = { text: string; blocks?: unknown[] }

export type Sent =
  | { kind: "sent"; channel: string; ts: string }
  /** Slack will never take this message as it is. */
  | { kind: "refused"; error: string; hopeless: boolean }
  | { kind: "limited"; waitMs: number }
  /** Nobody knows whether it arrived, or Slack is away. */
  | { kind: "unknown"; error: string }

/** Slack, as the outbox needs it. */
export type Sender = {
  post(message: { channel: string; threadTs: string | null; key: string; drawn: Drawn }): Promise<Sent>
  update(message: { channel: string; ts: string; drawn: Drawn }): Promise<Sent>
  /** Looks for a message that was sent without an answer. */
  find(message: { channel: string; threadTs: string | null; key: string; since: string }): Promise<{ kind: "found"; ts: string } | { kind: "none" } | { kind: "unknown" }>
  permalink(channel: string, ts: string): Promise<string | null>
}

export type DeliveryDeps = {
  store: Store
  sender: Sender
  draw(message: Message, view: RollbackView, extras: { confirmation?: Confirmation; escalation?: Escalation; analysis?: Analysis }): Drawn
  newId(): string
  log: Logger
}

/** A lane whose process died is free after this; while one lives it says so more often. */
const holdMs = 8_000
const renewHoldMs = 2_000
/** While a run goes on, the card is edited this often at the most. */
const cardEveryMs = 1_000

/** Sends what lies in the outbox: in order per rollback, never twice, for as long as it takes. */
export function createDelivery(deps: DeliveryDeps) {
  const cardEditedAt = new Map<string, number>()

  /** Serves one rollback; false when none has anything to say. */
  async function serveOne(): Promise<boolean> {
    const owner = deps.newId()
    const rollbackId = await deps.store.outbox.claimLane(owner, holdMs)
    if (rollbackId === null) return false
    let waitMs: number | null = 1_000
    // A call to Slack may take longer than the hold.
    const renewal = setInterval(() => void deps.store.outbox.holdLane(rollbackId, owner, holdMs).catch(() => undefined), renewHoldMs)
    try {
      waitMs = await serve(rollbackId, owner)
    } catch (error) {
      deps.log.warn({ err: error, rollbackId }, "delivery interrupted")
    } finally {
      clearInterval(renewal)
      await deps.store.outbox.releaseLane(rollbackId, owner, waitMs)
    }
    return true
  }

  /** Null when all is said; else how long to wait before going on. */
  async function serve(rollbackId: string, owner: string): Promise<number | null> {
    for (let round = 0; round < 200; round++) {
      if (!(await deps.store.outbox.holdLane(rollbackId, owner, holdMs))) return null
      const rollback = await deps.store.rollbacks.get(rollbackId)
      const [row] = await deps.store.outbox.listUnsent(rollbackId)
      const cardDue = rollback.card_version > rollback.card_sent_version && rollback.card_state !== "lost"
      if (!cardDue && !row) {
        if (!isLive(rollback.state)) cardEditedAt.delete(rollbackId)
        return null
      }
      const first = rollback.card_state === "none" || rollback.card_state === "sending"
      const early = rollback.state === "running" ? (cardEditedAt.get(rollbackId) ?? 0) + cardEveryMs - Date.now() : 0
      if (cardDue && (first || early <= 0)) {
        const wait = await settle(await sendCard(rollback), rollbackId)
        if (wait !== null) return wait
      }
      if (row) {
        const wait = await settle(await sendRow(await deps.store.rollbacks.get(rollbackId), row), rollbackId)
        if (wait !== null) return wait
      } else if (cardDue && early > 0) return early
    }
    return 0
  }

  async function settle(sent: Sent, rollbackId: string): Promise<number | null> {
    if (sent.kind === "sent" || sent.kind === "refused") return null
    if (sent.kind === "limited") return sent.waitMs
    const attempts = await deps.store.outbox.deliveryAttempts(rollbackId)
    deps.log.warn({ rollbackId, attempt: attempts + 1, slackError: sent.error }, "Slack did not take a message")
    return Math.min(250 * 2 ** Math.min(attempts, 6), 10_000)
  }

  async function sendCard(rollback: StoredRollback): Promise<Sent> {
    const { store, sender } = deps
    cardEditedAt.set(rollback.id, Date.now())
    const view = await loadView(store, rollback)
    const drawn = deps.draw({ kind: "card" }, view, {})
    const channel = rollback.channel_id
    const key = `${rollback.id}/card`
    let sent: Sent
    if (rollback.card_ts !== null && rollback.card_channel !== null)
      sent = await orPlain(drawn, (form) => sender.update({ channel: rollback.card_channel as string, ts: rollback.card_ts as string, drawn: form }), rollback.id)
    else {
      const known = rollback.card_state === "sending" ? await sender.find({ channel, threadTs: null, key, since: rollback.created_at }) : { kind: "none" as const }
      if (known.kind === "unknown") return { kind: "unknown", error: "could not look for the card" }
      if (known.kind === "found") {
        await store.outbox.markCardSent(rollback.id, { version: 0, channel, ts: known.ts, permalink: null })
        return { kind: "sent", channel, ts: known.ts }
      }
      await store.outbox.markCardSending(rollback.id)
      sent = await orPlain(drawn, (form) => sender.post({ channel, threadTs: null, key, drawn: form }), rollback.id)
    }
    if (sent.kind === "refused") await store.outbox.markCardLost(rollback.id)
    if (sent.kind === "sent") {
      const permalink = rollback.permalink ?? (await sender.permalink(sent.channel, sent.ts))
      await store.outbox.markCardSent(rollback.id, { version: rollback.card_version, channel: sent.channel, ts: sent.ts, permalink })
    }
    return sent
  }

  async function sendRow(rollback: StoredRollback, row: OutboxRow): Promise<Sent> {
    const { store, sender } = deps
    const view = await loadView(store, rollback)
    const escalation = row.body.kind === "escalation" ? await store.records.findEscalation(row.body.escalationId) : null
    const analysis = row.body.kind === "analysis" ? await loadAnalysis(store, rollback, view) : null
    const confirmation = row.body.kind === "manual" ? await store.confirmations.find(row.body.confirmationId) : null
    const drawn = deps.draw(row.body, view, { ...(confirmation ? { confirmation } : {}), ...(escalation ? { escalation } : {}), ...(analysis ? { analysis } : {}) })
    const threaded = row.body.kind !== "escalation" && row.body.kind !== "analysis"
    const channel = escalation?.channelId ?? rollback.card_channel ?? rollback.channel_id
    const threadTs = threaded ? rollback.card_ts : null
    const sent =
      row.ts !== null && row.channel !== null
        ? await orPlain(drawn, (form) => sender.update({ channel: row.channel as string, ts: row.ts as string, drawn: form }), rollback.id)
        : await postRow(rollback, row, { channel, threadTs, drawn })
    if (sent.kind === "sent") await store.outbox.markSent(rollback.id, row.seq, { channel: sent.channel, ts: sent.ts })
    if (sent.kind === "refused") await store.outbox.markSent(rollback.id, row.seq, { channel: null, ts: null, refused: true })
    return sent
  }

  async function postRow(rollback: StoredRollback, row: OutboxRow, to: { channel: string; threadTs: string | null; drawn: Drawn }): Promise<Sent> {
    const { store, sender } = deps
    if (row.state === "sending") {
      const known = await sender.find({ channel: to.channel, threadTs: to.threadTs, key: row.key, since: rollback.created_at })
      if (known.kind === "unknown") return { kind: "unknown", error: "could not look for the message" }
      if (known.kind === "found") return { kind: "sent", channel: to.channel, ts: known.ts }
    }
    await store.outbox.markSending(rollback.id, row.seq)
    const sent = await orPlain(to.drawn, (form) => sender.post({ ...to, key: row.key, drawn: form }), rollback.id)
    // An escalation channel that does not take messages: the rollback's own channel hears of it instead.
    if (sent.kind === "refused" && sent.hopeless && to.channel !== rollback.channel_id)
      return sender.post({ ...to, channel: rollback.channel_id, key: row.key, drawn: to.drawn })
    return sent
  }

  /** A message whose blocks Slack refuses goes out as plain text: people still hear of it. */
  async function orPlain(drawn: Drawn, send: (form: Drawn) => Promise<Sent>, rollbackId: string): Promise<Sent> {
    const sent = await send(drawn)
    if (sent.kind !== "refused" || sent.hopeless || drawn.blocks === undefined) return sent
    deps.log.error({ rollbackId, slackError: sent.error }, "Slack refused a message's blocks, plain text follows")
    const lost = drawn.blocks.some((block) => (block as { type?: unknown }).type === "actions")
    const note = lost ? "\n(Slack did not take the buttons of this message: it can only be read. What must not wait is cancelled with `/rollback cancel`.)" : ""
    return send({ text: `${drawn.text.slice(0, 3_700)}${note}` })
  }

  return { serveOne }
}

export type Delivery = ReturnType<typeof createDelivery>
