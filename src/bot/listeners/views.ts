import type { App, ViewSubmitAction } from "@slack/bolt"
import { fillAnalysis } from "../../commands/analysis.ts"
import { deny } from "../../commands/deny.ts"
import { skip } from "../../commands/reopen.ts"
import { refuse } from "../../rollback/refusals.ts"
import { actorOf, answering, type BotContext } from "../context.ts"
import type { ReplyTo } from "../reply.ts"

/** Forms come back. They are checked anew: the button that opened them is one entrance, this is another. */
export function registerViews(app: App, context: BotContext): void {
  app.view<ViewSubmitAction>("deny_form", async ({ ack, body }) => {
    await ack()
    answering(context, "deny_form", replyTo(body, context), async () => {
      const outcome = await deny(
        {
          token: body.view.private_metadata,
          actor: actorOf(body, `view/${body.view.id}`),
          reason: field(body, "reason"),
        },
        context.deps,
      )
      return outcome.kind === "refuse" ? outcome : null
    })
  })

  app.view<ViewSubmitAction>("skip_form", async ({ ack, body }) => {
    await ack()
    answering(context, "skip_form", replyTo(body, context), async () => {
      const id = body.view.private_metadata
      const rollback = /^[0-9a-f-]{36}$/.test(id) ? await context.deps.store.rollbacks.find(id) : null
      if (!rollback) return refuse("skip", { reason: "old_card", number: null })
      const outcome = await skip(rollback, field(body, "reason"), actorOf(body, `view/${body.view.id}`), context.deps)
      return outcome.kind === "refuse" ? outcome : null
    })
  })

  app.view<ViewSubmitAction>("analysis_form", async ({ ack, body }) => {
    await ack()
    answering(context, "analysis_form", replyTo(body, context), async () => {
      const outcome = await fillAnalysis(
        body.view.private_metadata,
        {
          rootCause: field(body, "root_cause"),
          prevention: field(body, "prevention"),
          followUps: field(body, "follow_ups"),
        },
        actorOf(body, `view/${body.view.id}`),
        context.deps,
      )
      return outcome.kind === "refuse" ? outcome : null
    })
  })
}

function field(body: ViewSubmitAction, blockId: string): string {
  const block = body.view.state.values[blockId] ?? {}
  return Object.values(block)[0]?.value ?? ""
}

/** A form has no address for answers: its rollback's channel is where its person is. */
async function replyTo(body: ViewSubmitAction, { deps }: BotContext): Promise<ReplyTo> {
  const id = body.view.private_metadata
  const find = async () => (await deps.store.rollbacks.findCard(id))?.rollback ?? (await deps.store.rollbacks.find(id))
  const rollback = /^[0-9a-f-]{36}$/.test(id) ? await find().catch(() => null) : null
  return { responseUrl: null, channelId: rollback?.card_channel ?? rollback?.channel_id ?? null, userId: body.user.id }
}
