import type { Ephemeral, Message } from "../slack/local-slack.ts"
import type { Stage } from "../stage.ts"
import type { StagingState } from "../staging-world/staging-world.ts"

export type Fact = { what: string; holds: boolean }

/** Two people at work on a stage: what they do, what they see since they began, and the facts that were checked. */
export type Play = {
  stage: Stage
  facts: Fact[]
  check(what: string, holds: boolean): void
  types(user: string, text: string): Promise<void>
  presses(user: string, message: Message, action: string): Promise<void>
  /** Fills in the form that is open for this person and sends it. */
  fills(user: string, values: Record<string, string>): Promise<void>
  /** The newest message of a channel since the play began; waits for it. */
  sees(channel: string, what: string, holds: (message: Message) => boolean): Promise<Message>
  /** What only this person sees; waits for it. */
  isTold(user: string, words: string): Promise<Ephemeral>
  /** The card with its buttons. */
  waitingCard(): Promise<Message>
  /** The analysis of this card's rollback; waits for it and for the card's last word. */
  analysisOf(card: Message): Promise<Message>
  /** Shows the channels as they are now. */
  show(title: string): void
}

/** Longer than any step of a scenario takes on a busy machine. */
const patienceMs = 40_000

export function startPlay(stage: Stage, tell: (text: string) => void): Play {
  const { slack } = stage
  // A stage may see several plays: what is older than this one is none of its business.
  const began = Date.now() / 1000
  const facts: Fact[] = []
  const sees: Play["sees"] = (channel, what, holds) =>
    slack.waitFor(() => slack.messages(channel).findLast((message) => Number(message.ts) > began && holds(message)), {
      timeoutMs: patienceMs,
      what,
    })
  return {
    stage,
    facts,
    check: (what, holds) => void facts.push({ what, holds }),
    async types(user, text) {
      tell(`${user} types in #staging: /rollback ${text}`)
      mustBeTaken(await slack.command({ user, channel: "staging", text }))
    },
    async presses(user, message, action) {
      tell(`${user} presses ${labelOf(message, action)}`)
      mustBeTaken(await slack.click({ user, channel: message.channel, ts: message.ts, action }))
    },
    async fills(user, values) {
      const view = await slack.waitFor(() => slack.openViews(user).at(-1), { what: `a form for ${user}` })
      for (const [label, value] of Object.entries(values)) tell(`${user} writes under "${label}": ${value}`)
      mustBeTaken(await slack.submit({ user, viewId: view.id, values }))
    },
    sees,
    async isTold(user, words) {
      const seen = await slack.waitFor(
        () => slack.ephemerals(user).findLast((one) => Number(one.ts) > began && one.text.includes(words)),
        {
          timeoutMs: patienceMs,
          what: `"${words}", told to ${user} alone`,
        },
      )
      tell(`only ${user} reads: ${seen.text}`)
      return seen
    },
    waitingCard: () => sees("staging", "a card with the button Approve", (message) => hasButton(message, "approve")),
    async analysisOf(card) {
      // A card is edited once a second at most, so the analysis may be there before the card tells the end.
      await slack.waitFor(
        () => slack.messages("staging").find((message) => message.ts === card.ts && hasButton(message, "analysis")),
        { timeoutMs: patienceMs, what: `the card of ${nameOf(card)} at its end` },
      )
      return sees("staging", `the analysis of ${nameOf(card)}`, (message) => isAnalysisOf(card, message))
    },
    show: (title) => tell(`\n──── ${title} ────\n\n${slack.transcript().trimEnd()}\n`),
  }
}

/** `R-7` */
export function nameOf(card: Message): string {
  return /R-\d+/.exec(card.text)?.[0] ?? "?"
}

export function isAnalysisOf(card: Message, { text }: Message): boolean {
  return text.startsWith(`Post-rollback analysis · ${nameOf(card)} · `)
}

export function hasButton(message: Message, action: string): boolean {
  return findButton(message, action) !== undefined
}

/** What stands in a card's thread, but for the heads of the audit. */
export function repliesOf({ slack }: Pick<Stage, "slack">, ts: string): Message[] {
  return slack.replies("staging", ts).filter(({ text }) => !text.startsWith("Audit head"))
}

/** All that a message shows, for looking words up. */
export function wordsOf(message: Message): string {
  return `${message.text}\n${textsIn(message.blocks).join(" ")}`
}

/** The world without what merely looking at it leaves behind: its functions log each call, the rehearsal's among them. */
export function withoutLogs({ resultsVersion, functions, rows }: StagingState): string {
  return JSON.stringify({ resultsVersion, functions, rows: { ...rows, errorLogs: 0 } })
}

function textsIn(node: unknown): string[] {
  if (typeof node === "string") return [node]
  if (Array.isArray(node)) return node.flatMap(textsIn)
  return typeof node === "object" && node !== null ? Object.values(node).flatMap(textsIn) : []
}

/** What a button carries; "" when the message has no such button. */
export function valueOf(message: Message, action: string): string {
  return String(findButton(message, action)?.["value"] ?? "")
}

function findButton(message: Message, action: string): Record<string, unknown> | undefined {
  const elements = message.blocks.flatMap((block) => (block["elements"] ?? []) as Record<string, unknown>[])
  return elements.find((element) => element["action_id"] === action)
}

function labelOf(message: Message, action: string): string {
  return (findButton(message, action)?.["text"] as { text?: string } | undefined)?.text ?? action
}

function mustBeTaken(outcome: { ok: boolean; error?: string }): void {
  if (!outcome.ok) throw new Error(`the bot did not take it: ${outcome.error ?? "no reason given"}`)
}
