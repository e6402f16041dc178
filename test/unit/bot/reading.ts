import type { KnownBlock, ModalView } from "@slack/types"

type Button = { action_id: string; value: string; style: string | undefined }

export function buttonsOf(blocks: readonly KnownBlock[] | ModalView["blocks"]): Button[] {
  return (blocks as KnownBlock[]).flatMap((block) =>
    block.type === "actions"
      ? block.elements.flatMap((element) =>
          element.type === "button"
            ? [{ action_id: element.action_id ?? "", value: element.value ?? "", style: element.style }]
            : [],
        )
      : [],
  )
}

/** What a person reads in the blocks, mentions as `@id`. */
export function readable(blocks: readonly unknown[]): string {
  return blocks.map(readBlock).join("\n")
}

function readBlock(value: unknown): string {
  if (Array.isArray(value)) return value.map(readBlock).join("")
  if (typeof value !== "object" || value === null) return ""
  const node = value as Record<string, unknown>
  if (node["type"] === "user") return `@${String(node["user_id"])}`
  if (node["type"] === "usergroup") return `@${String(node["usergroup_id"])}`
  if (node["type"] === "button") return `[ ${readBlock(node["text"])} ] `
  if (typeof node["text"] === "string") return node["text"]
  return [node["text"], node["label"], node["elements"], node["element"]].map(readBlock).join("")
}
