import type { DeliveryDeps, Found, Sender, Sent } from "./deliver.ts"

/** The right to send for one rollback, as far as this process can tell without asking. */
export type Lane = {
  owner: string
  /** False once the hold may be over: who was frozen for longer finds it so, whatever was answered before. */
  isOurs(): boolean
}

/** From a post in doubt to the first look for a twin of it, and from each to the next, in ms: the frozen wake late. */
const looksAfterMs = [15_000, 60_000, 240_000, 960_000, 3_840_000] as const

/** Nothing is to be said about a rollback that another process sends for now. */
const overtaken: Sent = { kind: "unknown", error: "another process sends for this rollback" }

/**
 * Sends a message that must stand in Slack once, where nothing keeps a second one out. It is marked first, by the owner
 * of the lane alone, and looked for when it was marked before. A process that was frozen between its mark and its post
 * may still post when it wakes, beside the one that took over: so whoever posts in doubt, or was overtaken in the
 * post and may not have heard of it, looks afterwards too, and the first of twins stays. Who wakes, posts and dies
 * cannot: what was posted in doubt is looked for again by whoever has the lane then.
 */
export async function sendOnce(
  message: {
    channel: string
    /** It was marked before and its fate is not known. */
    inDoubt: boolean
    look(): Promise<Found>
    /** False when the lane is another's. */
    mark(): Promise<boolean>
    /** It certainly did not go out, and was not in doubt before. */
    unmark(): Promise<void>
    /** It is about to be posted in doubt: `lookAgain` is to follow after this time. */
    planLook(afterMs: number): Promise<void>
    post(): Promise<Sent>
  },
  lane: Lane,
  sender: Sender,
): Promise<Sent> {
  const { channel, inDoubt } = message
  if (inDoubt) {
    const known = await keepOne(message, sender)
    if (known.kind === "unknown") return { kind: "unknown", error: "could not look for the message" }
    // As which of its drawings it arrived nobody knows, so the newest follows as an edit.
    if (known.kind === "found") return { kind: "sent", channel, ts: known.ts, stale: true }
  }
  if (!(await message.mark())) return overtaken
  if (inDoubt) await message.planLook(looksAfterMs[0])
  if (!lane.isOurs()) return overtaken
  const sent = await message.post()
  // Of what was in doubt before, being too busy says nothing.
  if (sent.kind === "limited" && !inDoubt) await message.unmark()
  if (sent.kind !== "sent" && sent.kind !== "unknown") return sent
  // While the lane is ours, what was not heard of stays marked and is looked for at the next attempt.
  if (lane.isOurs() && (sent.kind === "unknown" || !inDoubt)) return sent
  const known = await keepOne(message, sender)
  if (known.kind === "unknown") return { kind: "unknown", error: "could not look whether the message stands twice" }
  if (sent.kind === "unknown" || !lane.isOurs()) return overtaken
  return known.kind === "found" ? { ...sent, ts: known.ts } : sent
}

/** Looks for a message; of several the first stays and the others are taken back. */
async function keepOne(message: { channel: string; look(): Promise<Found> }, sender: Sender): Promise<Found> {
  const found = await message.look()
  if (found.kind !== "found") return found
  for (const twin of found.twins ?? [])
    if (!(await sender.remove({ channel: message.channel, ts: twin }))) return { kind: "unknown" }
  return found
}

/** Slack is away, or does not let us look. */
const postponedMs = 60_000

/** Looks once more for what was posted in doubt; what is known to stand stays. False when nothing is due. */
export async function lookAgain(rollbackId: string, { store, sender, log }: DeliveryDeps): Promise<boolean> {
  const due = await store.outbox.dueLook(rollbackId)
  if (due === null) return false
  const { channel, threadTs, key, fileName, since, seq, looks } = due
  const place = { channel, threadTs, since }
  const found = await (fileName === null
    ? sender.find({ ...place, key })
    : sender.findFile({ ...place, name: fileName }))
  const standing = found.kind === "found" ? [found.ts, ...(found.twins ?? [])] : []
  const kept = due.ts ?? standing[0]
  // Where the one on record was removed by somebody, none of the others is known to be too many.
  const twins = kept !== undefined && standing.includes(kept) ? standing.filter((ts) => ts !== kept) : []
  let done = found.kind !== "unknown"
  // Heads of the audit chain are evidence: a second one does no harm, one that is gone would.
  for (const ts of /\/audit\/\d+$/.test(key) ? [] : twins) {
    log.info({ rollbackId, key }, "a message stands twice, one is taken back")
    done = (await sender.remove({ channel, ts })) && done
  }
  if (done) {
    await store.outbox.markLooked(rollbackId, seq, looksAfterMs[looks + 1] ?? null)
  } else if (!(await store.outbox.postponeLook(rollbackId, seq, postponedMs))) {
    // A scope that is missing, or a channel that the bot was taken out of: asking for good would help nobody.
    log.warn({ rollbackId, key }, "a message posted in doubt could not be looked for in a week: it may stand twice")
    await store.outbox.markLooked(rollbackId, seq, null)
  }
  return true
}
