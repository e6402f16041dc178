import { elementsOf } from "./store.ts"
import type { Block, Json } from "./types.ts"

export type FoundElement = { block: Block; element: Json }

const flat = (blocks: Block[]): Block[] =>
  blocks.flatMap((block) => [block, ...flat((block["child_blocks"] ?? []) as Block[])])

export function labelOf(element: Json): string {
  const text = (element["text"] ?? element["placeholder"]) as { text?: string } | undefined
  return text?.text ?? ""
}

/** By `action_id`, else by visible label, else by an option of a menu. */
export function findElement(blocks: Block[], action: string): FoundElement | undefined {
  const all = flat(blocks).flatMap((block) =>
    (block["child_blocks"] ? [] : elementsOf(block)).map((element) => ({ block, element })),
  )
  return (
    all.find(({ element }) => element["action_id"] === action) ??
    all.find(({ element }) => labelOf(element) === action) ??
    all.find(({ element }) => optionsOf(element).some((option) => labelOf(option) === action))
  )
}

export const describeButtons = (elements: Json[]): string =>
  elements.map((element) => `[ ${labelOf(element) || String(element["action_id"])} ]`).join(" ") || "nothing to press"

export function optionsOf(element: Json): Json[] {
  const groups = (element["option_groups"] ?? []) as Json[]
  return [...((element["options"] ?? []) as Json[]), ...groups.flatMap((group) => group["options"] as Json[])]
}

export const findOption = (element: Json, wanted: string): Json | undefined =>
  optionsOf(element).find((option) => option["value"] === wanted || labelOf(option) === wanted)

/** The entry of `actions` that pressing it sends. */
export function readAction({ block, element }: FoundElement, option?: string): Json {
  const { type, action_id, text, value } = element
  const common = { type, action_id, block_id: block.block_id }
  if (type === "button" || type === "workflow_button" || type === "icon_button")
    return { ...common, text, ...(value === undefined ? {} : { value }) }
  if (type === "feedback_buttons") return { ...common, value: option }
  return { ...common, ...readValue(element, option ?? "") }
}

/** What a form element holds once somebody typed or chose `given`. */
export function readValue(element: Json, given: string): Json {
  const type = String(element["type"])
  const several = given
    .split(",")
    .map((part) => part.trim())
    .filter(Boolean)
  const chosen = (wanted: string): Json | undefined => findOption(element, wanted)
  if (type === "checkboxes" || type === "multi_static_select")
    return { selected_options: several.map(chosen).filter(Boolean) }
  if (type === "radio_buttons" || type === "static_select" || type === "overflow")
    return { selected_option: chosen(given) ?? null }
  if (type === "datepicker") return { selected_date: given || null }
  if (type === "timepicker") return { selected_time: given || null }
  if (type === "datetimepicker") return { selected_date_time: given ? Number(given) : null }
  const picked = /^(multi_)?(users|channels|conversations)_select$/.exec(type)
  if (picked)
    return picked[1]
      ? { [`selected_${picked[2]}`]: several }
      : { [`selected_${String(picked[2]).slice(0, -1)}`]: given || null }
  return { value: given === "" ? null : given }
}

/** What it holds before anybody touches it. */
export function initialValue(element: Json): Json {
  const found = Object.entries(element).find(([key]) => key.startsWith("initial_"))
  if (!found) return readValue(element, "")
  const [key, value] = found
  return key === "initial_value" ? { value } : { [key.replace("initial_", "selected_")]: value }
}
