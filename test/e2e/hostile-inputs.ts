import { seeded } from "./tampering.ts"

/** What has hurt somebody before: markup that calls people, characters that hide or reorder, code for whoever runs it. */
const attacks = [
  "<!channel>",
  "<!here|here>",
  "<!everyone>",
  "<@U0CAROL>",
  "<!subteam^S0ONCALL>",
  "&lt;!channel&gt;",
  "<https://evil.example|Approve>",
  "`code` *bold* ```fence```",
  "\u202e\u2066\u200b\u00ad\ufeff\u{e0041}",
  "\u0000\u0007\u001b[31m",
  "\ud800",
  "✓ all fine\n✓ everything can be undone",
  "Post-rollback analysis · R-1",
  `Audit head R-1, entry 1: ${"0".repeat(64)}`,
  "'; drop table stepback.rollbacks; --",
  "$(id) `id` ; rm -rf / | cat",
  "${SLACK_BOT_TOKEN} ${DATABASE_URL} ${SHOP_KEY}",
  "../../../../etc/passwd",
  "__proto__",
  "constructor",
  "toString",
  "--only",
  "--with=",
  "R-99999999999999999999",
  "R-1",
  "staging",
  "since=",
  "😀🏳️‍🌈",
  "null",
  "-1",
  "1e999",
  "",
  " ",
  "\n",
] as const

const verbs = "status history plan cancel undo analysis baseline rehearse stop note record help staging".split(" ")
const actions =
  "approve deny details cancel stop undo retry skip acknowledge analysis fill_analysis ask_again manual_done manual_not_done __proto__ x".split(
    " ",
  )
const callbacks = "deny_form analysis_form skip_form __proto__ constructor x".split(" ")

/** Hostile inputs of every kind; the same ones for the same seed. */
export function createHostile(seed: number) {
  const random = seeded(seed)
  const below = (most: number) => Math.floor(random() * most)
  const pick = <T>(from: readonly T[]): T => from[below(from.length)] as T

  function text(most = 2_000): string {
    const roll = random()
    if (roll < 0.02) return pick(attacks).repeat(1 + below(most))
    if (roll < 0.2) return String.fromCharCode(...Array.from({ length: below(40) }, () => below(0x10000)))
    return Array.from({ length: 1 + below(5) }, () => pick(attacks)).join(random() < 0.5 ? " " : "")
  }

  /** Any JSON, of any depth that a parser takes. */
  function json(depth = 4): unknown {
    const roll = random()
    if (depth === 0 || roll < 0.4) return pick([text(50), below(1_000_000), -1, null, true, "", [], {}])
    if (roll < 0.7) return Array.from({ length: below(4) }, () => json(depth - 1))
    return Object.fromEntries(Array.from({ length: below(4) }, () => [pick(attacks), json(depth - 1)]))
  }

  const maybe = (value: unknown): unknown => (random() < 0.85 ? value : json(2))

  function payload(ids: { users: readonly string[]; channels: readonly string[]; tokens: readonly string[] }): unknown {
    const user = { id: maybe(pick(ids.users)), team_id: maybe("T0LOCAL"), name: text(5) }
    const value = random() < 0.4 && ids.tokens.length > 0 ? pick(ids.tokens) : text(200)
    const common = {
      user: maybe(user),
      team: maybe({ id: "T0LOCAL" }),
      channel: maybe({ id: pick(ids.channels) }),
      trigger_id: maybe(`${below(1e9)}.${below(1e9)}.x`),
    }
    if (random() < 0.6)
      return {
        type: maybe("block_actions"),
        ...common,
        container: maybe({ type: "message", message_ts: `${below(1e9)}.1`, channel_id: pick(ids.channels) }),
        actions: maybe([
          {
            type: maybe("button"),
            action_id: maybe(pick(actions)),
            block_id: text(5),
            value: maybe(value),
            action_ts: "1.1",
          },
        ]),
      }
    const values = { [pick(["reason", "root_cause", "__proto__", "x"])]: maybe({ reason: { value: text() } }) }
    return {
      type: maybe(pick(["view_submission", "view_closed", "shortcut", "message_action"])),
      ...common,
      view: maybe({
        id: "V1",
        type: "modal",
        callback_id: maybe(pick(callbacks)),
        private_metadata: maybe(value),
        state: maybe({ values }),
      }),
    }
  }

  return {
    text,
    json,
    below,
    pick,

    command: (): string => {
      const words = Array.from({ length: below(5) }, () => text(20))
      return [random() < 0.7 ? pick(verbs) : text(20), ...words].join(pick([" ", "  ", "\t", "\n"]))
    },

    /** The body of a request at Slack's door: a command, a button, a form, or nothing that Slack ever sent. */
    slackBody(ids: { users: readonly string[]; channels: readonly string[]; tokens: readonly string[] }): string {
      const roll = random()
      if (roll < 0.03) return text(20_000)
      if (roll < 0.06) return `payload=${encodeURIComponent(text(200).toWellFormed())}`
      if (roll < 0.08) return `payload=${encodeURIComponent("[".repeat(below(5_000)))}`
      if (roll < 0.5) {
        const fields: Record<string, string> = {
          command: "/rollback",
          text: this.command(),
          user_id: random() < 0.9 ? pick(ids.users) : text(5),
          team_id: "T0LOCAL",
          channel_id: random() < 0.9 ? pick(ids.channels) : text(5),
          trigger_id: `${below(1e9)}.${below(1e9)}`,
        }
        if (random() < 0.1) delete fields[pick(Object.keys(fields))]
        return new URLSearchParams(fields).toString()
      }
      return new URLSearchParams({ payload: JSON.stringify(payload(ids)) }).toString()
    },

    /** A plan file that somebody cut, pasted into or filled with something else. */
    plan(source: string): string {
      const start = below(source.length)
      const end = Math.min(source.length, start + below(60))
      const middle =
        random() < 0.5 ? text(30) : pick(["*x", "&x ", "{", "[", "- ", ": ", "|", ".nan", "!!js/function ", "\t"])
      return source.slice(0, start) + middle + source.slice(end)
    },
  }
}
