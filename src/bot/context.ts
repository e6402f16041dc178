import { isNotConnected, isPassing, takesNoWrites } from "../errors.ts"
import type { Actor, Deps } from "../commands/ports.ts"
import type { Refusal, Refused } from "../rollback/refusals.ts"
import type { Logger } from "../log.ts"
import { refuse } from "../rollback/refusals.ts"
import { refusalWords } from "./blocks/words.ts"
import type { SlackClients } from "./clients.ts"
import type { Reply, ReplyTo, SendReply } from "./reply.ts"
import type { Turns } from "./turns.ts"

/** What a person hears alone; null when what they did shows by itself. */
export type Answer = Refused | Reply | null

/** What listeners need. */
export type BotContext = {
  deps: Deps
  clients: SlackClients
  reply: SendReply
  limit(userId: string): number
  inTurn: Turns
  log: Logger
  /** Work that goes on after the ack, so that the process does not end under it. */
  track(work: Promise<void>): void
}

/**
 * Runs what follows an ack. Whatever happens, the person hears of it: a refusal in words, a failure as the advice to
 * try again.
 */
export function answering(
  context: BotContext,
  what: string,
  whereTo: ReplyTo | Promise<ReplyTo>,
  work: () => Promise<Answer>,
): void {
  const where = Promise.resolve(whereTo)
  // Its turn comes later: until then nobody waits for it, and a failure must not count as one that nobody handles.
  where.catch(() => undefined)
  const answer = async () => {
    const to = await where
    try {
      const wait = context.limit(to.userId)
      const result = wait > 0 ? refuse(null, { reason: "too_many_requests", waitSeconds: wait }) : await work()
      if (result === null) return
      const refused = typeof result !== "string" && "refusal" in result
      if (refused) context.log.info({ slackUserId: to.userId, what, reason: result.refusal.reason }, "refused")
      await context.reply(to, refused ? refusalWords(result) : result)
    } catch (error) {
      context.log.error({ err: error, slackUserId: to.userId, what }, "a request failed")
      await context.reply(to, refusalWords(refuse(null, refusalOf(error))))
    }
  }
  context.track(
    context.inTurn(answer).catch((error: unknown) => {
      context.log.error({ err: error, what }, "a request was dropped")
    }),
  )
}

function refusalOf(error: unknown): Refusal {
  if (takesNoWrites(error)) return { reason: "state_unreachable", inDoubt: false }
  if (!isPassing(error)) return { reason: "unexpected" }
  return { reason: "state_unreachable", inDoubt: !isNotConnected(error) }
}

export function actorOf(
  body: { user: { id: string; team_id?: string | undefined }; team?: { id: string } | null },
  requestKey: string | null,
): Actor {
  return { userId: body.user.id, teamId: body.user.team_id ?? body.team?.id ?? null, requestKey }
}
