import { elementsOf } from "../store.ts"
import type { Block } from "../types.ts"
import { messageBlocks, modalBlocks } from "./blocks.ts"
import { also, boolean, byType, object, optional, string } from "./check.ts"
import type { Problem } from "./check.ts"
import { plainText, type } from "./objects.ts"

/** What all blocks of a message may hold together. Undocumented; measured by others at a little over this. */
const MESSAGE_TEXT_LIMIT = 13_000

export type Validated = { ok: true; blocks: Block[] } | { ok: false; error: string; problems: Problem[] }

/** The blocks of a message, as they came (JSON text or parsed): valid, or refused in Slack's words. */
export function validateMessageBlocks(given: unknown): Validated {
  const parsed = parse(given)
  if (!Array.isArray(parsed)) return { ok: false, error: "invalid_blocks_format", problems: [] }
  const problems: Problem[] = []
  messageBlocks(parsed, "/blocks", problems)
  if (problems.length === 0) checkTogether(parsed as Block[], "/blocks", problems)
  if (problems.length > 0) return { ok: false, error: "invalid_blocks", problems }
  const blocks = parsed as Block[]
  if (countText(blocks) > MESSAGE_TEXT_LIMIT) return { ok: false, error: "msg_blocks_too_long", problems: [] }
  return { ok: true, blocks }
}

const modal = also(
  object({
    type: type("modal"),
    title: plainText(24),
    blocks: modalBlocks,
    close: optional(plainText(24)),
    submit: optional(plainText(24)),
    private_metadata: optional(string(3000, 0)),
    callback_id: optional(string(255, 0)),
    clear_on_close: optional(boolean),
    notify_on_close: optional(boolean),
    external_id: optional(string(255, 0)),
    submit_disabled: optional(boolean),
  }),
  ({ blocks, submit }) =>
    Array.isArray(blocks) &&
    blocks.some((block) => (block as Block | null)?.type === "input") &&
    !submit &&
    "must define `submit` to use an `input` block in modals",
)

export type ValidatedView =
  | { ok: true; view: Record<string, unknown> & { blocks: Block[] } }
  | { ok: false; problems: Problem[] }

/** A modal, as it came. Slack calls what is wrong with it `invalid_arguments`. */
export function validateView(given: unknown): ValidatedView {
  const parsed = parse(given)
  const problems: Problem[] = []
  byType({ modal })(parsed, "/view", problems)
  if (problems.length > 0) return { ok: false, problems }
  const view = parsed as Record<string, unknown> & { blocks: Block[] }
  checkTogether(view.blocks, "/view/blocks", problems)
  return problems.length > 0 ? { ok: false, problems } : { ok: true, view }
}

/** `[ERROR] … [json-pointer:…]`, which is how Slack puts it into `response_metadata.messages`. */
export const describe = ({ message, pointer }: Problem): string => `${message} [json-pointer:${pointer}]`

function parse(given: unknown): unknown {
  if (typeof given !== "string") return given
  try {
    return JSON.parse(given) as unknown
  } catch {
    return undefined
  }
}

function checkTogether(blocks: Block[], at: string, problems: Problem[]): void {
  const seen = new Set<string>()
  let markdown = 0
  for (const [index, block] of blocks.entries()) {
    const pointer = `${at}/${index}`
    if (block.block_id && seen.has(block.block_id))
      problems.push({ message: `block_id \`${block.block_id}\` already exists`, pointer })
    if (block.block_id) seen.add(block.block_id)
    const actions = new Set<unknown>()
    for (const { action_id } of elementsOf(block)) {
      if (action_id && actions.has(action_id))
        problems.push({ message: `action_id \`${String(action_id)}\` already exists`, pointer })
      actions.add(action_id)
    }
    if (block.type === "markdown") markdown += String(block["text"]).length
    if (block.type === "plan") checkTasks(block, pointer, problems)
  }
  if (markdown > 12_000)
    problems.push({ message: "cumulative markdown text must be less than 12001 characters", pointer: at })
  if (blocks.filter((block) => block.type === "table").length > 1)
    problems.push({ message: "only_one_table_allowed", pointer: at })
}

function checkTasks(block: Block, at: string, problems: Problem[]): void {
  const ids = new Set<unknown>()
  for (const [index, task] of ((block["tasks"] ?? []) as Block[]).entries()) {
    if (ids.has(task["task_id"]))
      problems.push({
        message: `task_id \`${String(task["task_id"])}\` already exists`,
        pointer: `${at}/tasks/${index}`,
      })
    ids.add(task["task_id"])
  }
}

function countText(node: unknown): number {
  if (Array.isArray(node)) return node.reduce((sum: number, child) => sum + countText(child), 0)
  if (typeof node !== "object" || node === null) return 0
  return Object.entries(node).reduce(
    (sum, [key, value]) =>
      sum + (typeof value === "string" ? (key === "text" || key === "title" ? value.length : 0) : countText(value)),
    0,
  )
}
