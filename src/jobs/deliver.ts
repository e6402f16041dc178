import type { Logger } from "../log.ts"
import type { Analysis, Confirmation, Escalation, Message, RollbackView } from "../rollback/facts.ts"
import type { RollbackState } from "../rollback/states.ts"
import type { Store } from "../store/store.ts"
import { sendCard } from "./deliver-card.ts"
import { sendRow } from "./deliver-message.ts"
import { lookAgain, type Lane } from "./send-once.ts"

/** A message as it goes out; opaque here. */
export type Drawn = { text: string; blocks?: unknown[] }

export type Sent =
  /** `stale`: what stands in Slack may be an older drawing than the one at hand. */
  | { kind: "sent"; channel: string; ts: string; stale?: true }
  /** Slack will never take this message as it is. */
  | { kind: "refused"; error: string; hopeless: boolean }
  | { kind: "limited"; waitMs: number }
  /** The channel that the rest went to does not take it for now. */
  | { kind: "away"; error: string }
  /** Nobody knows whether it arrived, or Slack is away. */
  | { kind: "unknown"; error: string }

/** `ts`: of the first of them; `twins`: of all others that are the same message. */
export type Found = { kind: "found"; ts: string; twins?: string[] } | { kind: "none" } | { kind: "unknown" }

/** Slack, as the outbox needs it. */
export type Sender = {
  /** `broadcast`: a reply that is seen in the channel too. */
  post(message: {
    channel: string
    threadTs: string | null
    key: string
    drawn: Drawn
    broadcast?: boolean
  }): Promise<Sent>
  update(message: { channel: string; ts: string; key: string; drawn: Drawn }): Promise<Sent>
  /** Looks for a message that was sent without an answer. */
  find(message: { channel: string; threadTs: string | null; key: string; since: string }): Promise<Found>
  /** The same for a file, by its name. */
  findFile(file: { channel: string; threadTs: string | null; name: string; since: string }): Promise<Found>
  /** Takes a message of ours back; false when it may still stand. */
  remove(message: { channel: string; ts: string }): Promise<boolean>
  /** Puts a file into a thread. */
  upload(file: { channel: string; threadTs: string | null; name: string; content: string }): Promise<Sent>
  permalink(channel: string, ts: string): Promise<string | null>
}

export type DeliveryDeps = {
  store: Store
  sender: Sender
  draw(
    message: Message,
    view: RollbackView,
    extras: { confirmation?: Confirmation; escalation?: Escalation; analysis?: Analysis },
  ): Drawn
  /** A message that is a file: its name and content; null for any other. */
  document(message: Message, view: RollbackView, analysis: Analysis | null): { name: string; content: string } | null
  newId(): string
  log: Logger
}

/** A lane whose process died is free after this; while one lives it says so more often. */
const holdMs = 8_000
const renewHoldMs = 2_000
/** What is on its way to Slack so late in a hold may arrive when the lane is another's. */
const holdMarginMs = 1_000
/** While a run goes on, the card is edited this often at the most. */
const cardEveryMs = 1_000

/** A bot that was taken out of its channel: how often it tries whether it is back, growing up to an hour. */
const awayMs = 30_000
const mostAwayMs = 3_600_000
const cardAwayMs = 10_000

/** When a lane is to be served again; null: when there is something to say. `failed`: Slack did not take a message. */
type Rest = { waitMs: number | null; failed: boolean; away?: true }
const done: Rest = { waitMs: null, failed: false }

/** What is known of a lane without asking: who was away for longer than the hold has lost it. */
function createLane(owner: string, ask: () => Promise<boolean>): { lane: Lane; hold(): Promise<boolean> } {
  let until = -Infinity
  let lost = false
  return {
    lane: { owner, isOurs: () => !lost && performance.now() < until - holdMarginMs },
    async hold() {
      const asked = performance.now()
      const held = await ask()
      if (held) until = Math.max(until, asked + holdMs)
      else lost = true
      return held
    },
  }
}

/** Cards that are not edited for a while, and for how many ms more. */
function createCardPace() {
  const notBefore = new Map<string, number>()
  return {
    early: (rollbackId: string) => (notBefore.get(rollbackId) ?? 0) - performance.now(),
    pause(rollbackId: string, ms: number): number {
      // The last word on one may be another process's: what is over says nothing any more.
      for (const [id, at] of notBefore) if (at <= performance.now()) notBefore.delete(id)
      notBefore.set(rollbackId, performance.now() + ms)
      return ms
    },
  }
}

/** Until the next edit of a card whose last one ended so. */
function pauseAfter(rest: Rest | null, state: RollbackState): number {
  if (rest === null) return state === "running" ? cardEveryMs : 0
  return rest.away ? cardAwayMs : Math.max(rest.waitMs ?? 0, cardEveryMs)
}

/** Sends what lies in the outbox: in order per rollback, never twice, for as long as it takes. */
export function createDelivery(deps: DeliveryDeps) {
  const cards = createCardPace()
  let closing = false

  /** Serves one rollback; false when none has anything to say. */
  async function serveOne(): Promise<boolean> {
    const owner = deps.newId()
    const rollbackId = await deps.store.outbox.claimLane(owner, holdMs)
    if (rollbackId === null) return false
    let rest: Rest = { waitMs: 1_000, failed: true }
    const { lane, hold } = createLane(owner, () => deps.store.outbox.holdLane(rollbackId, owner, holdMs))
    // A call to Slack may take longer than the hold.
    const renewal = setInterval(() => void hold().catch(() => undefined), renewHoldMs)
    try {
      rest = await serve(rollbackId, lane, hold)
    } catch (error) {
      deps.log.warn({ err: error, rollbackId }, "delivery interrupted")
    } finally {
      clearInterval(renewal)
      await deps.store.outbox.releaseLane(rollbackId, owner, rest.waitMs, rest.failed)
    }
    return true
  }

  async function serve(rollbackId: string, lane: Lane, hold: () => Promise<boolean>): Promise<Rest> {
    // While its channel takes nothing, calls for help go on: they have a channel of their own.
    let away: Rest | null = null
    for (let round = 0; round < 200; round++) {
      // A process that ends leaves the rest to another: the release of the lane says that there is more.
      if (closing || !(await hold())) return done
      const rollback = await deps.store.rollbacks.get(rollbackId)
      const [row] = await deps.store.outbox.listUnsent(rollbackId, away === null ? null : "escalation")
      if (away !== null && !row) return away
      const cardDue =
        away === null && rollback.card_version > rollback.card_sent_version && rollback.card_state !== "lost"
      if (!cardDue && !row) {
        if (await lookAgain(rollbackId, deps)) continue
        return done
      }
      const first = rollback.card_state === "none" || rollback.card_state === "sending"
      let early = cards.early(rollbackId)
      if (cardDue && (first || early <= 0)) {
        const sent = await sendCard(rollback, lane, deps)
        const rest = await settle(sent, rollbackId, deps)
        early = cards.pause(rollbackId, pauseAfter(rest, rollback.state))
        // Edits have a limit of their own, and one may fail for good: what is to be said in the thread does not wait for it.
        if (rest !== null && (first || !row)) return rest
      }
      if (row) {
        const fresh = await deps.store.rollbacks.get(rollbackId)
        // The card went: it is posted anew first, or this would stand beside its thread.
        if (cardDue && fresh.card_state === "none") continue
        const rest = await settle(await sendRow(fresh, row, lane, deps), rollbackId, deps)
        if (rest !== null && (rest.away === undefined || row.body.kind === "escalation")) return rest
        away = rest
      } else if (cardDue && early > 0) return { waitMs: early, failed: false }
    }
    return { waitMs: 0, failed: false }
  }

  return {
    serveOne,
    /** Ends what goes on after the message that is on its way. */
    close: () => {
      closing = true
    },
  }
}

/** Null when that is said; else how long to wait before the next attempt. */
async function settle(sent: Sent, rollbackId: string, deps: DeliveryDeps): Promise<Rest | null> {
  if (sent.kind === "sent" || sent.kind === "refused") return null
  if (sent.kind === "limited") return { waitMs: sent.waitMs, failed: false }
  const attempts = await deps.store.outbox.deliveryAttempts(rollbackId)
  if (sent.kind === "away") {
    deps.log.warn(
      { rollbackId, slackError: sent.error },
      "the channel takes no messages: they wait until I am in it again",
    )
    return { waitMs: Math.min(awayMs * 2 ** Math.min(attempts, 10), mostAwayMs), failed: true, away: true }
  }
  deps.log.warn({ rollbackId, attempt: attempts + 1, slackError: sent.error }, "Slack did not take a message")
  return { waitMs: Math.min(250 * 2 ** Math.min(attempts, 6), 10_000), failed: true }
}

export type Delivery = ReturnType<typeof createDelivery>
