import { also, array, boolean, matching, number, object, optional, string } from "./check.ts"
import type { Check } from "./check.ts"
import {
  anyText,
  colour,
  confirm,
  conversationFilter,
  dispatchConfig,
  imageElement,
  option,
  optionGroup,
  plainText,
  type,
  url,
} from "./objects.ts"
import { richText } from "./rich-text.ts"

const actionId = optional(string(255))
const focus = optional(boolean)
const placeholder = optional(plainText(150))
const maxItems = optional(number(1))
const options = optional(array(option(plainText(75)), 100))
const optionGroups = optional(array(optionGroup, 100))
const date = matching(/^\d{4}-\d\d-\d\d$/, "date")
const time = matching(/^\d\d:\d\d$/, "time")
const typed = { dispatch_action_config: optional(dispatchConfig), focus_on_load: focus, placeholder }

const element = (name: string, fields: Parameters<typeof object>[0]): Check =>
  object({ type: type(name), action_id: actionId, ...fields })

const select = (name: string, fields: Parameters<typeof object>[0]): Check =>
  element(name, { confirm: optional(confirm), focus_on_load: focus, placeholder, ...fields })

const choices = (name: string, fields: Parameters<typeof object>[0]): Check =>
  also(
    select(name, { options, option_groups: optionGroups, ...fields }),
    (value) =>
      Boolean(value["options"]) === Boolean(value["option_groups"]) &&
      "must define either `options` or `option_groups`",
  )

const listed = (name: string, fields: Parameters<typeof object>[0]): Check =>
  element(name, {
    options: array(option(anyText(75)), 10),
    confirm: optional(confirm),
    focus_on_load: focus,
    ...fields,
  })

const feedback = object({ text: plainText(75), value: string(2000), accessibility_label: optional(string(75)) })
const ids = optional(array(string(30)))

/** Every interactive element that Slack knows, by `type`. */
export const elements: Record<string, Check> = {
  button: element("button", {
    text: plainText(75),
    value: optional(string(2000)),
    url: optional(url),
    style: optional(colour),
    confirm: optional(confirm),
    accessibility_label: optional(string(75)),
  }),
  workflow_button: element("workflow_button", {
    text: plainText(75),
    workflow: object({
      trigger: object({
        url,
        customizable_input_parameters: optional(array(object({ name: string(255), value: string(3000) }))),
      }),
    }),
    style: optional(colour),
    confirm: optional(confirm),
    accessibility_label: optional(string(75)),
  }),
  overflow: element("overflow", { options: array(option(plainText(75)), 5), confirm: optional(confirm) }),
  checkboxes: listed("checkboxes", { initial_options: optional(array(option(anyText(75)))) }),
  radio_buttons: listed("radio_buttons", { initial_option: optional(option(anyText(75))) }),
  static_select: choices("static_select", { initial_option: optional(option(plainText(75))) }),
  multi_static_select: choices("multi_static_select", {
    initial_options: optional(array(option(plainText(75)))),
    max_selected_items: maxItems,
  }),
  external_select: select("external_select", {
    initial_option: optional(option(plainText(75))),
    min_query_length: optional(number(0)),
  }),
  multi_external_select: select("multi_external_select", {
    initial_options: optional(array(option(plainText(75)))),
    min_query_length: optional(number(0)),
    max_selected_items: maxItems,
  }),
  users_select: select("users_select", { initial_user: optional(string(30)) }),
  multi_users_select: select("multi_users_select", { initial_users: ids, max_selected_items: maxItems }),
  channels_select: select("channels_select", {
    initial_channel: optional(string(30)),
    response_url_enabled: optional(boolean),
  }),
  multi_channels_select: select("multi_channels_select", { initial_channels: ids, max_selected_items: maxItems }),
  conversations_select: select("conversations_select", {
    initial_conversation: optional(string(30)),
    default_to_current_conversation: optional(boolean),
    filter: optional(conversationFilter),
    response_url_enabled: optional(boolean),
  }),
  multi_conversations_select: select("multi_conversations_select", {
    initial_conversations: ids,
    default_to_current_conversation: optional(boolean),
    filter: optional(conversationFilter),
    max_selected_items: maxItems,
  }),
  datepicker: select("datepicker", { initial_date: optional(date) }),
  timepicker: select("timepicker", { initial_time: optional(time), timezone: optional(string(100)) }),
  datetimepicker: element("datetimepicker", {
    initial_date_time: optional(number()),
    confirm: optional(confirm),
    focus_on_load: focus,
  }),
  plain_text_input: element("plain_text_input", {
    initial_value: optional(string(3000, 0)),
    multiline: optional(boolean),
    min_length: optional(number(0, 3000)),
    max_length: optional(number(1, 3000)),
    ...typed,
  }),
  rich_text_input: element("rich_text_input", {
    initial_value: optional(richText),
    min_lines: optional(number(1)),
    max_lines: optional(number(1)),
    ...typed,
  }),
  email_text_input: element("email_text_input", { initial_value: optional(string(3000)), ...typed }),
  url_text_input: element("url_text_input", { initial_value: optional(string(3000)), ...typed }),
  number_input: element("number_input", {
    is_decimal_allowed: boolean,
    initial_value: optional(string(100)),
    min_value: optional(string(100)),
    max_value: optional(string(100)),
    ...typed,
  }),
  file_input: element("file_input", { filetypes: optional(array(string(20))), max_files: optional(number(1, 10)) }),
  feedback_buttons: element("feedback_buttons", { positive_button: feedback, negative_button: feedback }),
  icon_button: element("icon_button", {
    icon: string(50),
    text: plainText(75),
    value: optional(string(2000)),
    accessibility_label: optional(string(75)),
    visible_to_user_ids: ids,
    confirm: optional(confirm),
  }),
  image: imageElement,
}
