import type { StoredRollback } from "../store/rows.ts"

/** What Slack says of a channel that the bot was taken out of, also of a private one, or that is archived. */
const away = new Set(["not_in_channel", "channel_not_found", "is_archived"])
const keptAwayMs = 7 * 86_400_000

/** Whether the channel, which took the card, may take the rest later: it is kept for a week. `since`: null counts as now. */
export function isAway({ card_ts: ts }: StoredRollback, { error }: { error: string }, since: string | null): boolean {
  return ts !== null && away.has(error) && (since === null || Date.now() - Date.parse(since) < keptAwayMs)
}
