import { readFile } from "node:fs/promises"
import { createClients, slackError, type SlackClients } from "../bot/clients.ts"
import { errorMessage } from "../errors.ts"
import { readPostedHead, type PostedHead } from "../rollback/audit.ts"
import type { AuditThread } from "../store/audit.ts"
import { CommandError } from "./terminal.ts"

/** Heads from outside, and what could not be asked for, in words. */
export type OutsideHeads = { heads: PostedHead[]; unread: string[] }

type Message = {
  text?: string
  bot_id?: string
  user?: string
  edited?: unknown
  metadata?: { event_payload?: { key?: unknown } }
}

/** A 429 is waited for this often: reading many threads takes its time. */
const mostWaits = 20

/** Heads that were written down elsewhere: a line each, copied from the thread or as JSON. */
export async function readHeadsFile(path: string): Promise<OutsideHeads> {
  let text: string
  try {
    text = await readFile(path, "utf8")
  } catch (error) {
    throw new CommandError(`${path} could not be read: ${errorMessage(error)}`)
  }
  const lines = text.split("\n").filter((line) => line.trim() !== "")
  const heads = lines.map(readPostedHead).filter((head) => head !== null)
  if (heads.length === 0)
    throw new CommandError(
      `${path} has no head in it. A line each, as in the thread ("Audit head R-7, entry 23: 4f…") or {"rollback":"R-7","entry":23,"hash":"4f…"}.`,
    )
  const other = lines.length - heads.length
  return {
    heads: heads.map((head) => ({ ...head, edited: false })),
    unread: other === 0 ? [] : [`${other} lines of ${path} that are no heads`],
  }
}

/** Heads in the rollbacks' own threads, read with the bot's token. Only what the bot itself posted counts. */
export async function readSlackHeads(
  slack: { botToken: string; apiUrl: string | null },
  threads: readonly AuditThread[],
): Promise<OutsideHeads> {
  const client = createClients(slack.botToken, slack.apiUrl).send
  const found: OutsideHeads = { heads: [], unread: [] }
  if (threads.length === 0) return found
  let me: { user: string | undefined; bot: string | undefined }
  try {
    const answer = await patiently(() => client.auth.test())
    me = { user: answer.user_id, bot: answer.bot_id }
  } catch (error) {
    return { heads: [], unread: [`any head in Slack (auth.test: ${slackError(error) ?? errorMessage(error)})`] }
  }
  for (const thread of threads) {
    try {
      for (const message of await readThread(client, thread)) {
        const ours =
          (message.user !== undefined && message.user === me.user) ||
          (message.bot_id !== undefined && message.bot_id === me.bot)
        const head = ours ? headOf(message, thread) : null
        if (head !== null) found.heads.push(head)
      }
    } catch (error) {
      found.unread.push(`R-${thread.number}: its thread (${slackError(error) ?? errorMessage(error)})`)
    }
  }
  return found
}

async function readThread(client: SlackClients["send"], { channel, ts }: AuditThread): Promise<Message[]> {
  const messages: Message[] = []
  let cursor: string | undefined
  do {
    const page = { channel, ts, limit: 200, include_all_metadata: true, ...(cursor === undefined ? {} : { cursor }) }
    const answer = await patiently(() => client.conversations.replies(page))
    messages.push(...((answer.messages ?? []) as Message[]))
    cursor = answer.response_metadata?.next_cursor || undefined
  } while (cursor !== undefined)
  return messages
}

/** Null for any other message. The message is known by its key; where a server keeps none, by standing for itself. */
function headOf(message: Message, { number }: AuditThread): PostedHead | null {
  const key = message.metadata?.event_payload?.key
  const entry = typeof key === "string" ? /\/audit\/(\d{1,9})$/.exec(key)?.[1] : undefined
  if (typeof key === "string" && entry === undefined) return null
  const text = message.text ?? ""
  const said = readPostedHead(text)
  const edited = message.edited !== undefined && message.edited !== null
  if (entry !== undefined) {
    const itself = said !== null && said.number === number && said.entry === Number(entry)
    return { number, entry: Number(entry), hash: said?.hash ?? "", edited: edited || !itself }
  }
  return said !== null && said.number === number && text.startsWith("Audit head") ? { ...said, edited } : null
}

async function patiently<T>(call: () => Promise<T>): Promise<T> {
  for (let waits = 0; ; waits++) {
    try {
      return await call()
    } catch (error) {
      const { retryAfter } = error as { retryAfter?: number }
      if (retryAfter === undefined || waits >= mostWaits) throw error
      await new Promise((resolve) => setTimeout(resolve, retryAfter * 1000))
    }
  }
}
