import { useContext } from "react"
import type { ReactNode } from "react"
import { Blocks } from "./blocks.tsx"
import { Icon } from "./icon.tsx"
import { Markup, NamesContext } from "./markup.tsx"
import type { Ephemeral, Message } from "./snapshot.ts"

const hue = (name: string): number => name.split("").reduce((sum, letter) => sum * 31 + letter.charCodeAt(0), 7) % 360

export function Avatar({ name, bot, small = false }: { name: string; bot: boolean; small?: boolean }): ReactNode {
  const style = bot ? {} : { background: `hsl(${hue(name)} 45% 42%)` }
  return (
    <span className={`avatar ${bot ? "bot" : ""} ${small ? "small" : ""}`} style={style} aria-hidden="true">
      {bot ? <Icon of="rewind" /> : name.slice(0, 1).toUpperCase()}
    </span>
  )
}

type Props = {
  message: Message | Ephemeral
  /** The replies below it, in a channel; none in a thread. */
  replies?: Message[]
  onThread?: (ts: string) => void
}

/** One message, or one that only this person sees. */
export function MessageItem({ message, replies = [], onThread }: Props): ReactNode {
  const { users } = useContext(NamesContext)
  const user = users.find((candidate) => candidate.id === message.user)
  const name = user?.name ?? (message.user === "USLACKBOT" ? "Slackbot" : message.user)
  const bot = user?.is_bot ?? true
  const sent = "to" in message ? null : message
  const at = new Date(Number(message.ts) * 1000)
  return (
    <article
      className={sent ? "message" : "message ephemeral"}
      aria-label={`${name} ${at.toLocaleTimeString()}`}
      data-ts={message.ts}
    >
      {sent ? null : (
        <div className="only-you">
          <Icon of="eye" /> Only visible to you
        </div>
      )}
      {sent?.reply_broadcast && onThread ? (
        <button type="button" className="only-you link" onClick={() => onThread(sent.thread_ts ?? sent.ts)}>
          replied to a thread
        </button>
      ) : null}
      <div className="row">
        <Avatar name={name} bot={bot} />
        <div className="grow">
          <Byline name={name} bot={bot} at={at} />
          {message.blocks.length > 0 ? (
            <Blocks blocks={message.blocks} place={{ channel: message.channel, ts: message.ts }} />
          ) : (
            <div className="block">
              <Markup text={message.text} />
            </div>
          )}
          {sent?.edited ? <span className="edited">(edited)</span> : null}
          {sent?.files?.map((file) => (
            <a key={file.id} className="file" href={file.url_private} target="_blank" rel="noreferrer">
              <Icon of="file" /> <b>{file.title}</b> <span className="quiet">{file.size} bytes</span>
            </a>
          ))}
          {onThread && replies.length > 0 ? <ThreadLink replies={replies} onOpen={() => onThread(message.ts)} /> : null}
        </div>
      </div>
      {onThread && sent && !sent.reply_broadcast ? (
        <button
          type="button"
          className="reply"
          onClick={() => onThread(message.ts)}
          aria-label="Reply in thread"
          title="Reply in thread"
        >
          <Icon of="reply" />
        </button>
      ) : null}
    </article>
  )
}

function Byline({ name, bot, at }: { name: string; bot: boolean; at: Date }): ReactNode {
  return (
    <div className="byline">
      <b>{name}</b>
      {bot ? <span className="badge">APP</span> : null}
      <time dateTime={at.toISOString()} title={at.toLocaleString()}>
        {at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}
      </time>
    </div>
  )
}

function ThreadLink({ replies, onOpen }: { replies: Message[]; onOpen: () => void }): ReactNode {
  const { users } = useContext(NamesContext)
  const people = [...new Set(replies.map((reply) => reply.user))].map((id) => users.find((user) => user.id === id))
  const last = new Date(Number(replies.at(-1)?.ts) * 1000).toLocaleTimeString([], {
    hour: "2-digit",
    minute: "2-digit",
  })
  return (
    <button type="button" className="thread-link" onClick={onOpen}>
      {people.map((user) => (user ? <Avatar key={user.id} name={user.name} bot={user.is_bot} small /> : null))}
      <b>
        {replies.length} {replies.length === 1 ? "reply" : "replies"}
      </b>{" "}
      <span className="quiet">Last reply {last}</span>
    </button>
  )
}
