import { also, array, boolean, byType, lazy, matching, number, object, oneOf, optional, pick, string } from "./check.ts"
import type { Check } from "./check.ts"
import { elements } from "./elements.ts"
import { anyText, imageBlock, imageElement, mrkdwn, plainText, type, url } from "./objects.ts"
import { richText } from "./rich-text.ts"

const blockId = optional(string(255))
const block = (name: string, fields: Parameters<typeof object>[0]): Check =>
  object({ type: type(name), block_id: blockId, ...fields })

const selects = ["static_select", "external_select", "users_select", "channels_select", "conversations_select"]
const multiSelects = selects.map((name) => `multi_${name}`)
const choosers = ["checkboxes", "radio_buttons", "datepicker", "timepicker", ...selects, ...multiSelects]
const texts = ["plain_text_input", "email_text_input", "url_text_input", "number_input", "rich_text_input"]

const rawText = object({ type: type("raw_text"), text: string(3000, 0) })
const rawNumber = object({ type: type("raw_number"), value: number(), text: string(3000) })
const cell = byType({ raw_text: rawText, raw_number: rawNumber, rich_text: richText })
const https = matching(/^https:/i, "HTTPS URL")

const taskCard = block("task_card", {
  task_id: string(255),
  title: string(3000),
  details: optional(richText),
  output: optional(richText),
  sources: optional(array(object({ type: type("url"), url, text: string(3000) }))),
  status: oneOf("pending", "in_progress", "complete", "error"),
})

const card = also(
  block("card", {
    hero_image: optional(imageElement),
    icon: optional(imageElement),
    title: optional(mrkdwn(150)),
    subtitle: optional(mrkdwn(150)),
    body: optional(mrkdwn(200)),
    actions: optional(array(byType(pick(elements, "button")))),
  }),
  (value) =>
    !value["hero_image"] &&
    !value["title"] &&
    !value["actions"] &&
    !value["body"] &&
    "must define `hero_image`, `title`, `actions` or `body`",
)

const container = also(
  block("container", {
    title: optional(plainText(150)),
    rich_text_title: optional(richText),
    subtitle: optional(anyText(150)),
    child_blocks: array(
      lazy(() =>
        byType(
          pick(
            blocks,
            "actions",
            "context",
            "divider",
            "header",
            "image",
            "input",
            "rich_text",
            "section",
            "table",
            "video",
          ),
        ),
      ),
      10,
    ),
    width: optional(oneOf("narrow", "standard", "wide", "full")),
    icon: optional(imageElement),
    is_collapsible: optional(boolean),
    default_collapsed: optional(boolean),
    has_header_divider: optional(boolean),
  }),
  (value) => {
    if (!value["title"] && !value["rich_text_title"]) return "must define either `title` or `rich_text_title`"
    return (
      value["default_collapsed"] === true &&
      value["is_collapsible"] !== true &&
      "`default_collapsed` requires `is_collapsible`"
    )
  },
)

/** Every block that an app may send, by `type`, with Slack's limits. */
export const blocks: Record<string, Check> = {
  section: also(
    block("section", {
      text: optional(anyText(3000)),
      fields: optional(array(anyText(2000), 10)),
      accessory: optional(byType(pick(elements, "button", "workflow_button", "image", "overflow", ...choosers))),
      expand: optional(boolean),
    }),
    (value) => value["text"] === undefined && value["fields"] === undefined && "must define either `text` or `fields`",
  ),
  header: block("header", { text: plainText(150) }),
  divider: block("divider", {}),
  image: imageBlock,
  context: block("context", {
    elements: array(byType({ image: imageElement, mrkdwn: mrkdwn(3000), plain_text: plainText(3000) }), 10),
  }),
  actions: block("actions", {
    elements: array(
      byType(pick(elements, "button", "workflow_button", "overflow", "datetimepicker", "rich_text_input", ...choosers)),
      25,
    ),
  }),
  input: block("input", {
    label: plainText(2000),
    hint: optional(plainText(2000)),
    optional: optional(boolean),
    element: byType(pick(elements, "datetimepicker", "file_input", ...choosers, ...texts)),
    dispatch_action: optional(boolean),
  }),
  rich_text: richText,
  markdown: block("markdown", { text: string(12_000) }),
  plan: block("plan", { title: string(3000), tasks: optional(array(byType({ task_card: taskCard }), 50, 0)) }),
  task_card: taskCard,
  table: block("table", {
    rows: array(array(cell, 20), 100),
    column_settings: optional(
      array(object({ align: optional(oneOf("left", "center", "right")), is_wrapped: optional(boolean) }), 20),
    ),
  }),
  data_table: block("data_table", {
    rows: array(array(cell, 20), 201, 2),
    caption: string(3000),
    page_size: optional(number(1, 100)),
    row_header_column_index: optional(number(0)),
  }),
  alert: block("alert", {
    text: anyText(3000),
    level: optional(oneOf("default", "info", "warning", "error", "success")),
  }),
  card,
  carousel: block("carousel", { elements: array(byType({ card }), 10) }),
  container,
  context_actions: block("context_actions", {
    elements: array(byType(pick(elements, "feedback_buttons", "icon_button")), 5),
  }),
  video: block("video", {
    video_url: https,
    thumbnail_url: url,
    alt_text: string(2000),
    title: plainText(199),
    title_url: optional(https),
    author_name: optional(string(49)),
    provider_name: optional(string(255)),
    provider_icon_url: optional(url),
    description: optional(plainText(200)),
  }),
}

/** Which of them may stand where. */
const { alert: _modalOnly, ...inMessages } = blocks
export const messageBlocks: Check = array(byType(inMessages), 50, 0)
export const modalBlocks: Check = array(
  byType(
    pick(blocks, "section", "header", "divider", "image", "context", "actions", "input", "rich_text", "alert", "video"),
  ),
  100,
  0,
)
