import { array, boolean, byType, matching, number, object, oneOf, optional, string } from "./check.ts"
import { type, url } from "./objects.ts"

const flags = {
  bold: optional(boolean),
  italic: optional(boolean),
  strike: optional(boolean),
  underline: optional(boolean),
}
const style = optional(object({ ...flags, code: optional(boolean) }))
const mentionStyle = optional(
  object({
    ...flags,
    code: optional(boolean),
    highlight: optional(boolean),
    client_highlight: optional(boolean),
    unlink: optional(boolean),
  }),
)
const border = optional(oneOf(0, 1))
const any = 40_000

const inline = {
  text: object({ type: type("text"), text: string(any), style }),
  link: object({ type: type("link"), url, text: optional(string(any)), unsafe: optional(boolean), style }),
  user: object({ type: type("user"), user_id: matching(/^[UW][A-Z0-9]+$/, "user id"), style: mentionStyle }),
  usergroup: object({
    type: type("usergroup"),
    usergroup_id: matching(/^S[A-Z0-9]+$/, "user group id"),
    style: mentionStyle,
  }),
  channel: object({
    type: type("channel"),
    channel_id: matching(/^[CGD][A-Z0-9]+$/, "channel id"),
    style: mentionStyle,
  }),
  team: object({ type: type("team"), team_id: string(30), style: mentionStyle }),
  broadcast: object({ type: type("broadcast"), range: oneOf("here", "channel", "everyone"), style }),
  emoji: object({ type: type("emoji"), name: string(100), unicode: optional(string(100)), url: optional(url), style }),
  color: object({ type: type("color"), value: string(20), style }),
  date: object({
    type: type("date"),
    timestamp: number(),
    format: string(200),
    url: optional(url),
    fallback: optional(string(500)),
    style,
  }),
}

const inlines = array(byType(inline), Infinity, 0)
const section = object({ type: type("rich_text_section"), elements: inlines })

const parts = byType({
  rich_text_section: section,
  rich_text_list: object({
    type: type("rich_text_list"),
    elements: array(byType({ rich_text_section: section })),
    style: oneOf("bullet", "ordered"),
    indent: optional(number(0, 8)),
    offset: optional(number(0)),
    border,
  }),
  rich_text_quote: object({ type: type("rich_text_quote"), elements: inlines, border }),
  rich_text_preformatted: object({
    type: type("rich_text_preformatted"),
    elements: array(byType({ text: inline.text, link: inline.link, date: inline.date }), Infinity, 0),
    border,
    language: optional(string(50)),
  }),
})

export const richText = byType({
  rich_text: object({ type: type("rich_text"), block_id: optional(string(255)), elements: array(parts) }),
})
