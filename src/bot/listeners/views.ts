import type { App, ViewSubmitAction } from "@slack/bolt"
import { fillAnalysis } from "../../commands/analysis.ts"
import { decideFailure } from "../../commands/confirm.ts"
import { deny } from "../../commands/deny.ts"
import { skipShown } from "../../commands/reopen.ts"
import { readFollowUps } from "../../rollback/follow-ups.ts"
import { formErrors, readMetadata, writtenRows } from "../blocks/analysis-form.ts"
import { readSkipMetadata } from "../blocks/skip-form.ts"
import { actorOf, answering, type BotContext } from "../context.ts"
import type { ReplyTo } from "../reply.ts"
import { answered } from "./actions.ts"

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
      const shown = readSkipMetadata(body.view.private_metadata)
      const outcome = await skipShown(shown, field(body, "reason"), actorOf(body, `view/${body.view.id}`), context.deps)
      return outcome.kind === "refuse" ? outcome : null
    })
  })

  app.view<ViewSubmitAction>("failure_skip_form", async ({ ack, body }) => {
    await ack()
    answering(context, "failure_skip_form", replyTo(body, context), async () => {
      const actor = actorOf(body, `view/${body.view.id}`)
      const decided = { answer: "skip", reason: field(body, "reason") } as const
      return answered(await decideFailure(body.view.private_metadata, decided, actor, context.deps))
    })
  })

  app.view<ViewSubmitAction>("analysis_form", async ({ ack, body }) => {
    const { followUps, problems } = readFollowUps(writtenRows(body.view.state.values), new Date())
    // Said in the form, which stays open with what was written.
    if (problems.length > 0) return ack({ response_action: "errors", errors: formErrors(problems) })
    await ack()
    const { rollbackId, revision } = readMetadata(body.view.private_metadata)
    answering(context, "analysis_form", replyTo(body, context), async () => {
      const outcome = await fillAnalysis(
        rollbackId,
        { rootCause: field(body, "root_cause"), prevention: field(body, "prevention"), followUps, revision },
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
  const id = readMetadata(body.view.private_metadata).rollbackId
  const { rollbacks, confirmations } = deps.store
  const find = async () => {
    const asked = await confirmations.find(id)
    return (await rollbacks.findCard(id))?.rollback ?? (await rollbacks.find(asked?.rollbackId ?? id))
  }
  const rollback = /^[0-9a-f-]{36}$/.test(id) ? await find().catch(() => null) : null
  return { responseUrl: null, channelId: rollback?.card_channel ?? rollback?.channel_id ?? null, userId: body.user.id }
}
