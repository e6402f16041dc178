import type pg from "pg"
import type { LocalSlack, Message } from "../slack/local-slack.ts"
import { until } from "./until.ts"

const channel = "C0STAGING"

export type Followed = { slack: LocalSlack; state: pg.Pool }

/** Asks as one person and approves as another; resolves when that is done, with or without a worker. */
export async function rollBack(
  { slack, state }: Followed,
  text = "staging scoring is broken",
): Promise<{ id: string }> {
  const newest = async () =>
    (await state.query<{ id: string }>("select id from stepback.rollbacks order by number desc limit 1")).rows[0]?.id
  const before = await newest()
  await slack.command({ user: "alice", channel: "staging", text })
  const id = await until("the request", async () => {
    const now = await newest()
    return now !== before && now
  })
  const hasButton = (message: Message) =>
    keyOf(message) === `${id}/card` && JSON.stringify(message.blocks).includes('"approve"')
  const card = await slack.waitFor(() => slack.messages(channel).find(hasButton), {
    timeoutMs: 120_000,
    what: "the approve button",
  })
  await slack.click({ user: "bob", channel, ts: card.ts, action: "approve" })
  return { id }
}

/** The state in which a rollback has ended; null while it goes on. */
export async function endOf(state: pg.Pool, id: string): Promise<string | null> {
  const { rows } = await state.query<{ state: string }>(
    "select state from stepback.rollbacks where id = $1 and state not in ('preparing', 'awaiting_approval', 'approved', 'running')",
    [id],
  )
  return rows[0]?.state ?? null
}

/** Whether Slack has all that there is to say about it. */
export async function allSaid(state: pg.Pool, id: string): Promise<boolean> {
  const { rows } = await state.query(
    `select 1 from stepback.rollbacks r where id = $1 and card_version = card_sent_version
       and not exists (select 1 from stepback.outbox o where o.rollback_id = r.id and o.state in ('pending', 'sending'))`,
    [id],
  )
  return rows.length > 0
}

function keyOf(message: Message): string | null {
  const payload = (message.metadata as { event_payload?: { key?: string } } | undefined)?.event_payload
  return payload?.key ?? null
}

/** The keys of the messages of a rollback in Slack, one per message. */
export function keysOf(slack: LocalSlack, id: string): string[] {
  const posted = slack.messages(channel)
  const all = [...posted, ...posted.flatMap((message) => slack.replies(channel, message.ts))]
  return all.flatMap((message) => keyOf(message) ?? []).filter((key) => key.startsWith(id))
}
