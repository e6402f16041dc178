import type { Block } from "./types.ts"

const mention = /<(?:@([UW][A-Z0-9]+)|!subteam\^(S[A-Z0-9]+)|!(channel|here|everyone))(?:\|[^>]*)?>/g

/**
 * Whom a message would call. Plain text never calls anybody; the fallback `text` and mrkdwn do, also with `verbatim`.
 * `linkNames` is what `link_names` and `parse: "full"` ask for: bare @names count too.
 */
export function findMentions(text: string, blocks: Block[], linkNames = false): string[] {
  const found = new Set<string>()
  readMarkup(text, found)
  if (linkNames) for (const [, name] of text.matchAll(/@(channel|here|everyone)\b/g)) if (name) found.add(name)
  walk(blocks, found)
  return [...found]
}

function readMarkup(text: string, found: Set<string>): void {
  for (const [, user, group, range] of text.matchAll(mention)) found.add(user ?? group ?? range ?? "")
}

function walk(node: unknown, found: Set<string>): void {
  if (Array.isArray(node)) return node.forEach((child) => walk(child, found))
  if (typeof node !== "object" || node === null) return
  const { type, text, user_id, usergroup_id, range } = node as Record<string, unknown>
  if ((type === "mrkdwn" || type === "markdown") && typeof text === "string") readMarkup(text, found)
  if (type === "user" && typeof user_id === "string") found.add(user_id)
  if (type === "usergroup" && typeof usergroup_id === "string") found.add(usergroup_id)
  if (type === "broadcast" && typeof range === "string") found.add(range)
  for (const child of Object.values(node)) walk(child, found)
}
