import { createContext, Fragment, useContext } from "react"
import type { ReactNode } from "react"
import type { Names } from "./snapshot.ts"

export const NamesContext = createContext<Names>({ users: [], groups: [], channels: [] })

const emoji: Record<string, string> = {
  white_check_mark: "✅",
  x: "❌",
  warning: "⚠️",
  rotating_light: "🚨",
  hourglass_flowing_sand: "⏳",
  rewind: "⏪",
  eyes: "👀",
  lock: "🔒",
  arrow_right: "➡️",
  stopwatch: "⏱️",
  tada: "🎉",
  no_entry: "⛔",
}

const decode = (text: string): string => text.replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&")

const token =
  /```\n?([\s\S]*?)```|`([^`\n]+)`|<([^<>\n]+)>|(?<![\w*])\*(?=\S)([^*\n]*\S)\*(?![\w*])|(?<!\w)_(?=\S)([^_\n]*\S)_(?!\w)|(?<!\w)~(?=\S)([^~\n]*\S)~(?!\w)|:([a-z0-9_+-]+):/g

/** Slack's mrkdwn: what calls people stands out, what looks like code is not read any further. */
export function Markup({ text }: { text: string }): ReactNode {
  const lines = text.split("\n")
  const quoted = lines.some((line) => /^(&gt;|>)/.test(line)) && !text.includes("```")
  if (!quoted) return <span className="markup">{inline(text)}</span>
  return (
    <span className="markup">
      {lines.map((line, index) => {
        const quote = /^(?:&gt;|>) ?(.*)$/.exec(line)
        return quote ? (
          <blockquote key={index}>{inline(quote[1] ?? "")}</blockquote>
        ) : (
          <div key={index}>{inline(line) || " "}</div>
        )
      })}
    </span>
  )
}

function inline(text: string): ReactNode[] {
  const parts: ReactNode[] = []
  let from = 0
  for (const match of text.matchAll(token)) {
    parts.push(decode(text.slice(from, match.index)))
    parts.push(<Fragment key={match.index}>{oneToken(match)}</Fragment>)
    from = match.index + match[0].length
  }
  return [...parts, decode(text.slice(from))]
}

function oneToken([whole, block, code, angle, bold, italic, strike, shortcode]: RegExpMatchArray): ReactNode {
  if (block !== undefined) return <pre>{decode(block)}</pre>
  if (code !== undefined) return <code>{decode(code)}</code>
  if (angle !== undefined) return <Angle inside={angle} />
  if (bold !== undefined) return <b>{inline(bold)}</b>
  if (italic !== undefined) return <i>{inline(italic)}</i>
  if (strike !== undefined) return <s>{inline(strike)}</s>
  return emoji[shortcode ?? ""] ?? whole
}

function Angle({ inside }: { inside: string }): ReactNode {
  const [target = "", label] = inside.split("|")
  if (target.startsWith("@")) return <Mention kind="user" id={target.slice(1)} />
  if (target.startsWith("!subteam^")) return <Mention kind="group" id={target.slice(9)} />
  if (target.startsWith("#")) return <Mention kind="channel" id={target.slice(1)} />
  if (/^!(channel|here|everyone)$/.test(target)) return <Mention kind="broadcast" id={target.slice(1)} />
  if (target.startsWith("!date^"))
    return <Moment timestamp={Number(target.split("^")[1])} format={target.split("^")[2] ?? ""} />
  if (/^(https?|mailto):/i.test(target)) return <Link url={decode(target)} text={decode(label ?? target)} />
  return decode(`<${inside}>`)
}

export function Link({ url, text }: { url: string; text: string }): ReactNode {
  return /^(https?|mailto):/i.test(url) ? (
    <a href={url} target="_blank" rel="noreferrer">
      {text}
    </a>
  ) : (
    text
  )
}

/** A person's, group's or channel's name; `user` colours it as everything that calls somebody. */
export function Mention({ kind, id }: { kind: "user" | "group" | "channel" | "broadcast"; id: string }): ReactNode {
  const names = useContext(NamesContext)
  if (kind === "broadcast") return <span className="mention loud">@{id}</span>
  if (kind === "channel")
    return <span className="mention">#{names.channels.find((channel) => channel.id === id)?.name ?? id}</span>
  if (kind === "group")
    return <span className="mention">@{names.groups.find((group) => group.id === id)?.handle ?? id}</span>
  return <span className="mention">@{names.users.find((user) => user.id === id)?.name ?? id}</span>
}

/** Slack shows times in the reader's own zone. */
export function Moment({ timestamp, format }: { timestamp: number; format: string }): ReactNode {
  const at = new Date(timestamp * 1000)
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })
  const shown = format
    .replace(/\{time_secs\}/g, at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" }))
    .replace(/\{time\}/g, time)
    .replace(/\{ago\}/g, `at ${time}`)
    .replace(/\{date_num\}/g, at.toISOString().slice(0, 10))
    .replace(/\{(?:date|day)[a-z_]*\}/g, at.toLocaleDateString([], { day: "numeric", month: "short", year: "numeric" }))
  return (
    <time dateTime={at.toISOString()} title={at.toISOString()}>
      {shown}
    </time>
  )
}

/** A text object: only mrkdwn is read as markup. */
export function Text({ of }: { of: unknown }): ReactNode {
  const { type, text } = (of ?? {}) as { type?: string; text?: string }
  if (typeof text !== "string") return null
  return type === "mrkdwn" ? (
    <Markup text={text} />
  ) : (
    <span className="plain">{text.replace(/:([a-z0-9_+-]+):/g, (whole, name: string) => emoji[name] ?? whole)}</span>
  )
}
