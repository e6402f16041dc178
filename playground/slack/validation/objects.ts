import { also, array, boolean, byType, matching, object, oneOf, optional, string } from "./check.ts"
import type { Check } from "./check.ts"

export const type = (name: string): Check => oneOf(name)
export const url = matching(/^(https?|slack|mailto):/i, "URL")

export const plainText = (max: number): Check =>
  byType({ plain_text: object({ type: type("plain_text"), text: string(max), emoji: optional(boolean) }) })

export const mrkdwn = (max: number): Check =>
  byType({ mrkdwn: object({ type: type("mrkdwn"), text: string(max), verbatim: optional(boolean) }) })

export const anyText = (max: number): Check => byType({ plain_text: plainText(max), mrkdwn: mrkdwn(max) })

export const colour = oneOf("primary", "danger")

export const confirm = object({
  title: optional(plainText(100)),
  text: anyText(300),
  confirm: optional(plainText(30)),
  deny: optional(plainText(30)),
  style: optional(colour),
})

export const option = (text: Check): Check =>
  object({ text, value: string(150), description: optional(plainText(75)), url: optional(url) })

export const optionGroup = object({ label: plainText(75), options: array(option(plainText(75)), 100) })

export const conversationFilter = also(
  object({
    include: optional(array(oneOf("im", "mpim", "private", "public"))),
    exclude_external_shared_channels: optional(boolean),
    exclude_bot_users: optional(boolean),
  }),
  (value) => Object.keys(value).length === 0 && "must define at least one filter",
)

export const dispatchConfig = object({
  trigger_actions_on: optional(array(oneOf("on_enter_pressed", "on_character_entered"))),
})

export const slackFile = also(
  object({ id: optional(string(100)), url: optional(url) }),
  (value) => Boolean(value["id"]) === Boolean(value["url"]) && "must define either `id` or `url`",
)

const imageSource = { image_url: optional(matching(/^https?:/i, "URL")), slack_file: optional(slackFile) }
const oneSource = (value: Record<string, unknown>): string | false =>
  Boolean(value["image_url"]) === Boolean(value["slack_file"]) && "must define either `image_url` or `slack_file`"

export const imageElement = also(object({ type: type("image"), alt_text: string(2000), ...imageSource }), oneSource)

export const imageBlock = also(
  object({
    type: type("image"),
    block_id: optional(string(255)),
    alt_text: string(2000),
    title: optional(plainText(2000)),
    ...imageSource,
  }),
  oneSource,
)
