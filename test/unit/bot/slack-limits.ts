import type { KnownBlock, ModalView } from "@slack/types"

/** What Slack would refuse, or what would ring people it should not, in a message or a form; nothing when it is fine. */
export function problemsOf(drawn: { text: string; blocks: KnownBlock[] }, ours: readonly string[]): string[] {
  const size = JSON.stringify(drawn.blocks).length
  return [
    ...(drawn.text.trim() === "" ? ["no text"] : []),
    ...(drawn.text.length > 4000 ? [`text has ${drawn.text.length} characters`] : []),
    ...(drawn.blocks.length === 0 || drawn.blocks.length > 50 ? [`${drawn.blocks.length} blocks`] : []),
    ...(size > 13_000 ? [`blocks have ${size} characters`] : []),
    ...markupProblems(drawn.text, ours),
    ...drawn.blocks.flatMap((block) => nodeProblems(block, ours)),
  ]
}

export function viewProblems(view: ModalView): string[] {
  return [
    ...(view.title.text.length > 24 || view.title.text === "" ? ["title"] : []),
    ...((view.submit?.text.length ?? 0) > 24 ? ["submit"] : []),
    ...((view.private_metadata?.length ?? 0) > 3000 ? ["private_metadata"] : []),
    ...(view.blocks.length === 0 || view.blocks.length > 100 ? [`${view.blocks.length} blocks`] : []),
    ...(JSON.stringify(view).length > 250_000 ? ["view_too_large"] : []),
    ...view.blocks.flatMap((block) => nodeProblems(block, [])),
  ]
}

const unseen = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]|\p{Cs}/u
const textLimits: Record<string, number> = { header: 150, section: 3000, button: 75, confirm: 300, input: 2000 }

function nodeProblems(value: unknown, ours: readonly string[], inside = ""): string[] {
  if (Array.isArray(value)) return value.flatMap((each) => nodeProblems(each, ours, inside))
  if (typeof value !== "object" || value === null) return []
  const node = value as Record<string, unknown>
  const type = typeof node["type"] === "string" ? node["type"] : ""
  const text = typeof node["text"] === "string" ? node["text"] : null
  const found: string[] = []
  if (text === "" || (text === null && type === "text")) found.push(`empty text in ${inside}`)
  if (text !== null && text.length > (textLimits[inside] ?? 3000)) found.push(`${inside}: ${text.length} characters`)
  if (text !== null && unseen.test(text)) found.push(`unseen character in ${inside}`)
  if (type === "mrkdwn")
    found.push(...markupProblems(text ?? "", ours), ...(node["verbatim"] === true ? [] : ["mrkdwn without verbatim"]))
  if (type === "broadcast") found.push("broadcast")
  if (type === "user" && !ours.includes(String(node["user_id"]))) found.push(`calls ${String(node["user_id"])}`)
  if (type === "usergroup" && !ours.includes(String(node["usergroup_id"])))
    found.push(`calls ${String(node["usergroup_id"])}`)
  if (Array.isArray(node["elements"]) && node["elements"].length === 0) found.push(`${type} without elements`)
  if (type === "actions" && Array.isArray(node["elements"]) && node["elements"].length > 25)
    found.push("too many buttons")
  if (typeof node["value"] === "string" && node["value"].length > 2000) found.push("value")
  const owner = ["header", "section", "button", "input", "context"].includes(type) ? type : inside
  return [
    ...found,
    ...Object.entries(node).flatMap(([key, each]) =>
      typeof each === "object" ? nodeProblems(each, ours, key === "confirm" ? key : owner) : [],
    ),
  ]
}

/** All markup in a text must be a mention of an id that we mean, or a link of Slack's. */
function markupProblems(text: string, ours: readonly string[]): string[] {
  const found = unseen.test(text) ? ["unseen character in text"] : []
  for (const [markup] of text.matchAll(/<[^<>]*>?/g)) {
    const id = /^<(?:@|!subteam\^)(\w+)>$/.exec(markup)?.[1]
    const fine = (id !== undefined && ours.includes(id)) || /^<https:\/\/[^|<>\s]+\|[^<>|]+>$/.test(markup)
    if (!fine) found.push(`markup ${markup.slice(0, 60)}`)
  }
  return found
}
