import type { Store } from "./store.ts"
import type { Block, Json, Message } from "./types.ts"

type Names = Pick<Store, "users" | "channels" | "groups">

/** mrkdwn as a person reads it: mentions by name, links by label, entities resolved. */
export function renderMarkup(text: string, names: Names): string {
  return text
    .replace(/<@([UW][A-Z0-9]+)(?:\|[^>]*)?>/g, (_, id: string) => `@${names.users.get(id)?.name ?? id}`)
    .replace(/<!subteam\^(S[A-Z0-9]+)(?:\|[^>]*)?>/g, (_, id: string) => `@${names.groups.get(id)?.handle ?? id}`)
    .replace(/<#([CG][A-Z0-9]+)(?:\|[^>]*)?>/g, (_, id: string) => `#${names.channels.get(id)?.name ?? id}`)
    .replace(/<!(channel|here|everyone)(?:\|[^>]*)?>/g, "@$1")
    .replace(
      /<!date\^(\d+)\^([^|>]*)(?:\|([^>]*))?>/g,
      (_, at: string, __: string, label?: string) => label || new Date(Number(at) * 1000).toISOString(),
    )
    .replace(/<([a-z]+:[^|>]+)\|([^>]*)>/gi, "$2 ($1)")
    .replace(/<([a-z]+:[^|>]+)>/gi, "$1")
    .replace(/&lt;/g, "<")
    .replace(/&gt;/g, ">")
    .replace(/&amp;/g, "&")
}

/** Blocks as lines of plain text; buttons are `[ Label ]`. */
export function renderBlocks(blocks: Block[], names: Names): string[] {
  return blocks.flatMap((block) => renderBlock(block, names))
}

const statusMark: Record<string, string> = { pending: "·", in_progress: "▸", complete: "✓", error: "✗" }

function renderBlock(block: Block, names: Names): string[] {
  const inline = (node: unknown): string => renderInline(node, names)
  const list = (key: string): Json[] => (block[key] ?? []) as Json[]
  switch (block.type) {
    case "divider":
      return ["────────"]
    case "header":
      return [inline(block["text"]), ""]
    case "section": {
      const accessory = block["accessory"] ? ` ${inline(block["accessory"])}` : ""
      return [block["text"] ? inline(block["text"]) : "", ...list("fields").map(inline)]
        .filter(Boolean)
        .map((line, index) => (index === 0 ? line + accessory : line))
    }
    case "context":
      return [list("elements").map(inline).join("  ")]
    case "actions":
    case "context_actions":
      return [list("elements").map(inline).join("  ")]
    case "plan":
      return [
        String(block["title"]),
        ...list("tasks").flatMap((task) => renderBlock(task as Block, names).map((line) => `  ${line}`)),
      ]
    case "task_card":
      return [
        `${statusMark[String(block["status"])] ?? "?"} ${String(block["title"])}`,
        ...[block["details"], block["output"]].filter(Boolean).flatMap((part) =>
          inline(part)
            .split("\n")
            .map((line) => `  ${line}`),
        ),
      ]
    case "table":
    case "data_table":
      return (block["rows"] as Json[][]).map((row) => row.map(inline).join("  |  "))
    case "container":
      return [
        inline(block["rich_text_title"] ?? block["title"]),
        ...(block["subtitle"] ? [inline(block["subtitle"])] : []),
        ...renderBlocks(list("child_blocks") as Block[], names).map((line) => `  ${line}`),
      ]
    case "card":
      return ["title", "subtitle", "body"]
        .flatMap((key) => (block[key] ? [inline(block[key])] : []))
        .concat(list("actions").map(inline).join("  "))
    case "carousel":
      return renderBlocks(list("elements") as Block[], names)
    case "input":
      return [`${inline(block["label"])}: ${inline(block["element"])}`]
    case "markdown":
      return [String(block["text"])]
    default:
      return [inline(block["type"] === "alert" ? block["text"] : block)]
  }
}

function renderInline(node: unknown, names: Names): string {
  if (typeof node !== "object" || node === null) return ""
  const { type, text, elements, value, placeholder } = node as Json
  const children = (): string[] => ((elements ?? []) as unknown[]).map((child) => renderInline(child, names))
  switch (type) {
    case "mrkdwn":
      return renderMarkup(String(text), names)
    case "plain_text":
    case "raw_text":
    case "raw_number":
    case "text":
      return String(text)
    case "button":
    case "workflow_button":
    case "icon_button":
      return `[ ${renderInline(text, names)} ]`
    case "user":
      return renderMarkup(`<@${String((node as Json)["user_id"])}>`, names)
    case "usergroup":
      return renderMarkup(`<!subteam^${String((node as Json)["usergroup_id"])}>`, names)
    case "channel":
      return renderMarkup(`<#${String((node as Json)["channel_id"])}>`, names)
    case "broadcast":
      return `@${String((node as Json)["range"])}`
    case "link":
      return text ? `${String(text)} (${String((node as Json)["url"])})` : String((node as Json)["url"])
    case "emoji":
      return `:${String((node as Json)["name"])}:`
    case "date":
      return String((node as Json)["fallback"] ?? new Date(Number((node as Json)["timestamp"]) * 1000).toISOString())
    case "image":
      return `(image: ${String((node as Json)["alt_text"])})`
    case "rich_text":
      return children().join("\n")
    case "rich_text_list":
      return children()
        .map((line) => `• ${line}`)
        .join("\n")
    case "rich_text_quote":
      return `> ${children().join("")}`
    case "rich_text_section":
    case "rich_text_preformatted":
      return children().join("")
    case "overflow":
      return "[ … ]"
    default:
      return `[${renderInline(placeholder, names) || String(value ?? (node as Json)["initial_value"] ?? type ?? "")}]`
  }
}

/** One message as a person sees it, header line first. */
export function renderMessage(message: Message, store: Store): string[] {
  const body =
    message.blocks.length > 0
      ? renderBlocks(message.blocks, store)
      : message.text
        ? [renderMarkup(message.text, store)]
        : []
  const time = new Date(Number(message.ts) * 1000).toISOString().slice(11, 19)
  const who = store.users.get(message.user)?.name ?? (message.user === "USLACKBOT" ? "Slackbot" : message.user)
  const marks = `${message.edited ? " (edited)" : ""}${message.reply_broadcast ? " (also sent to the channel)" : ""}`
  const files = (message.files ?? []).map((file) => `(file: ${file.name}, ${file.size} bytes)`)
  return [
    `${who}  ${time}${marks}`,
    ...[...body, ...files].flatMap((part) => part.split("\n")).map((line) => `  ${line}`.trimEnd()),
  ]
}

/** All channels with their threads, and what single people saw. */
export function renderTranscript(store: Store): string {
  const lines: string[] = []
  for (const channel of store.channels.values()) {
    const all = store.inChannel(channel.id)
    const ephemerals = store.ephemerals.filter((seen) => seen.channel === channel.id)
    if (all.length + ephemerals.length === 0) continue
    lines.push(`#${channel.name}`, "")
    for (const parent of all.filter((message) => !message.thread_ts || message.thread_ts === message.ts)) {
      lines.push(...renderMessage(parent, store))
      for (const reply of all.filter((message) => message.thread_ts === parent.ts && message !== parent))
        lines.push(...renderMessage(reply, store).map((line) => `    │ ${line}`))
      lines.push("")
    }
    for (const seen of ephemerals)
      lines.push(
        `only to ${store.users.get(seen.to)?.name ?? seen.to}:`,
        ...renderMessage({ ...seen, mentions: [] }, store).map((line) => `  ${line}`),
        "",
      )
  }
  return lines.join("\n")
}
