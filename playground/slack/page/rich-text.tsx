import type { ReactNode } from "react"
import { Link, Mention, Moment } from "./markup.tsx"

type Node = Record<string, unknown>
const children = (node: Node): Node[] => (node["elements"] ?? []) as Node[]

/** A `rich_text` block; nothing in it is read as markup. */
export function RichText({ of }: { of: unknown }): ReactNode {
  return (
    <div className="rich-text">
      {children((of ?? {}) as Node).map((part, index) => (
        <Part key={index} of={part} />
      ))}
    </div>
  )
}

function Part({ of }: { of: Node }): ReactNode {
  const inside = children(of)
  const inlines = inside.map((node, index) => <Inline key={index} of={node} />)
  if (of["type"] === "rich_text_preformatted") return <pre>{inlines}</pre>
  if (of["type"] === "rich_text_quote") return <blockquote>{inlines}</blockquote>
  if (of["type"] !== "rich_text_list") return <div className="plain">{inlines}</div>
  const items = inside.map((item, index) => (
    <li key={index}>
      {children(item).map((node, at) => (
        <Inline key={at} of={node} />
      ))}
    </li>
  ))
  const indent = { marginLeft: `${Number(of["indent"] ?? 0) * 1.4}em` }
  return of["style"] === "ordered" ? <ol style={indent}>{items}</ol> : <ul style={indent}>{items}</ul>
}

function Inline({ of }: { of: Node }): ReactNode {
  const { bold, italic, strike, underline, code } = (of["style"] ?? {}) as Record<string, boolean>
  let shown = content(of)
  if (code) shown = <code>{shown}</code>
  if (bold) shown = <b>{shown}</b>
  if (italic) shown = <i>{shown}</i>
  if (strike) shown = <s>{shown}</s>
  if (underline) shown = <u>{shown}</u>
  return shown
}

function content(of: Node): ReactNode {
  const value = (name: string): string => String(of[name] ?? "")
  switch (of["type"]) {
    case "text":
      return value("text")
    case "link":
      return <Link url={value("url")} text={value("text") || value("url")} />
    case "user":
      return <Mention kind="user" id={value("user_id")} />
    case "usergroup":
      return <Mention kind="group" id={value("usergroup_id")} />
    case "channel":
      return <Mention kind="channel" id={value("channel_id")} />
    case "broadcast":
      return <Mention kind="broadcast" id={value("range")} />
    case "date":
      return <Moment timestamp={Number(of["timestamp"])} format={value("format")} />
    case "emoji":
      return `:${value("name")}:`
    default:
      return value("value")
  }
}
