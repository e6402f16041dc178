import type { Logger } from "../log.ts"
import type { Drawn, Sent } from "./deliver.ts"
import type { Lane } from "./send-once.ts"

/** Edits a message in the lane's time only: whoever is late would draw over what is newer. */
export async function edit(lane: Lane, send: (form: Drawn) => Promise<Sent>, drawn: Drawn, log: Logger): Promise<Sent> {
  if (!lane.isOurs()) return { kind: "unknown", error: "another process sends for this rollback" }
  return orPlain(drawn, send, log)
}

/** Longer than this is not read in a log; what is wrong with a block stands at its beginning, or is its length. */
const loggedBlock = 1_000

/** Those that Slack points at; all of them where it points at none. */
function refusedBlocks(blocks: readonly unknown[], error: string): string[] {
  const named = new Set([...error.matchAll(/\/blocks\/(\d+)/g)].map(([, at]) => Number(at)))
  const those = blocks.filter((_, at) => named.size === 0 || named.has(at))
  return those.map((block) => {
    const text = JSON.stringify(block)
    return text.length > loggedBlock ? `${text.slice(0, loggedBlock)}… ${text.length} characters` : text
  })
}

/** A message whose blocks Slack refuses goes out as plain text: people still hear of it. */
export async function orPlain(drawn: Drawn, send: (form: Drawn) => Promise<Sent>, log: Logger): Promise<Sent> {
  const sent = await send(drawn)
  if (sent.kind !== "refused" || sent.hopeless || drawn.blocks === undefined) return sent
  const blocks = refusedBlocks(drawn.blocks, sent.error)
  log.error({ slackError: sent.error, blocks }, "Slack refused a message's blocks, plain text follows")
  const lost = drawn.blocks.some((block) => (block as { type?: unknown }).type === "actions")
  const note = lost
    ? "\n(Slack did not take the buttons of this message: it can only be read. What must not wait is cancelled with `/rollback cancel`.)"
    : ""
  return send({ text: `${drawn.text.slice(0, 3_700)}${note}` })
}
