import type { App, BlockAction, ButtonAction } from "@slack/bolt"
import type { ModalView } from "@slack/types"
import { acknowledge, type Taken } from "../../commands/acknowledge.ts"
import { loadAnalysis } from "../../commands/analysis.ts"
import { approve } from "../../commands/approve.ts"
import { cancel, leave, stop } from "../../commands/cancel.ts"
import { confirm, decideFailure, mayDecideFailure, type Confirmed } from "../../commands/confirm.ts"
import { mayDeny } from "../../commands/deny.ts"
import { mayAct, type Actor } from "../../commands/ports.ts"
import { maySkip, retry } from "../../commands/reopen.ts"
import { requestRollback } from "../../commands/request.ts"
import { requestUndo } from "../../commands/undo.ts"
import { loadView } from "../../commands/view.ts"
import { errorMessage } from "../../errors.ts"
import { refuse, type Refused } from "../../rollback/refusals.ts"
import { isLive } from "../../rollback/states.ts"
import type { StoredRollback } from "../../store/rows.ts"
import { analysisForm } from "../blocks/analysis-form.ts"
import { drawAnalysisAgain } from "../blocks/analysis.ts"
import { denyForm } from "../blocks/deny-form.ts"
import { skipForm, skipMetadata } from "../blocks/skip-form.ts"
import { drawDetails } from "../blocks/details.ts"
import { titleOf } from "../blocks/progress.ts"
import { slackError } from "../clients.ts"
import { actorOf, answering, type Answer, type BotContext } from "../context.ts"

type Click = { value: string; actor: Actor; triggerId: string; channelId: string | null }
type Press = (click: Click, context: BotContext) => Promise<Answer>

/** What each button does. Its value is an opaque id; everything is looked up and checked when it is pressed. */
const presses: Record<string, Press> = {
  approve: async (click, { deps }) => {
    const outcome = await approve({ token: click.value, actor: click.actor }, deps)
    if (outcome.kind === "refuse") return outcome
    return outcome.kind === "approved" ? null : `Your approval counts: ${outcome.have} of ${outcome.needed}.`
  },

  deny: async (click, context) => {
    const may = await mayDeny({ token: click.value, actor: click.actor }, context.deps)
    if (may.kind === "refuse") return may
    return open(click, context, async () => denyForm(await loadView(context.deps.store, may.rollback)))
  },

  details: async (click, context) => {
    const card = await context.deps.store.rollbacks.findCard(click.value)
    if (!card) return refuse(null, { reason: "old_card", number: null })
    const notMember = await mayAct(context.deps.people, click.actor.userId, "anyone")
    if (notMember) return refuse(null, notMember)
    return open(click, context, async () => drawDetails(await loadView(context.deps.store, card.rollback)))
  },

  cancel: async (click, { deps }) => {
    const card = await deps.store.rollbacks.findCard(click.value)
    if (!card) return refuse("cancel", { reason: "old_card", number: null })
    if (!card.current && isLive(card.rollback.state))
      return refuse("cancel", { reason: "old_card", number: card.rollback.number })
    const outcome = await cancel(card.rollback, click.actor, deps)
    return outcome.kind === "refuse" ? outcome : null
  },

  stop: (click, context) =>
    onRollback(click, context, async (rollback) => {
      const outcome = await stop(rollback, click.actor, context.deps)
      return outcome.kind === "refuse" ? outcome : null
    }),

  undo: (click, context) =>
    onRollback(click, context, async (rollback) => {
      const channelId = click.channelId ?? rollback.channel_id
      const outcome = await requestUndo(rollback, { channelId, actor: click.actor }, context.deps)
      return outcome.kind === "refuse" ? outcome : null
    }),

  retry: (click, context) => {
    // Cards that were drawn by an older version do not say at which failure.
    const [value = "", shown] = click.value.split("/")
    return onRollback({ ...click, value }, context, async (rollback) => {
      const outcome = await retry(rollback, click.actor, context.deps, shown === undefined ? undefined : Number(shown))
      return outcome.kind === "refuse" ? outcome : null
    })
  },

  skip: (click, context) =>
    onRollback(click, context, async (rollback) => {
      const may = await maySkip(rollback, click.actor, context.deps)
      if (may.kind === "refuse") return may
      const shown = { rollbackId: rollback.id, generation: rollback.generation, stepId: may.step.id }
      const form = { callback: "skip_form", metadata: skipMetadata(shown) } as const
      return open(click, context, async () =>
        skipForm(await loadView(context.deps.store, rollback), may.step.title, form),
      )
    }),

  leave: (click, context) =>
    onRollback(click, context, async (rollback) => {
      const outcome = await leave(rollback, click.actor, context.deps)
      return outcome.kind === "refuse" ? outcome : null
    }),

  ask_again: (click, context) =>
    onRollback(click, context, async (rollback) => {
      const of = rollback.undo_of === null ? null : await context.deps.store.rollbacks.find(rollback.undo_of)
      if (of) {
        const { channel_id: channelId, reason } = rollback
        const again = await requestUndo(of, { channelId, reason, actor: click.actor }, context.deps)
        return again.kind === "refuse" ? again : null
      }
      const outcome = await requestRollback(
        {
          environment: rollback.environment,
          selection: rollback.selection,
          reason: rollback.reason,
          channelId: rollback.channel_id,
          actor: click.actor,
          rehearsalOnly: false,
        },
        context.deps,
      )
      return outcome.kind === "refuse" ? outcome : null
    }),

  acknowledge: async (click, { deps }) => {
    const outcome = await acknowledge(click.value, click.actor, deps)
    if (outcome.kind === "refuse") return outcome
    return outcome.taken === null ? null : takenWords[outcome.taken]
  },

  manual_done: async (click, { deps }) => answered(await confirm(click.value, "done", click.actor, deps)),

  manual_not_done: async (click, { deps }) => answered(await confirm(click.value, "not_done", click.actor, deps)),

  failure_retry: async (click, { deps }) =>
    answered(await decideFailure(click.value, { answer: "retry" }, click.actor, deps)),

  failure_leave: async (click, { deps }) =>
    answered(await decideFailure(click.value, { answer: "leave" }, click.actor, deps)),

  failure_skip: async (click, context) => {
    const may = await mayDecideFailure(click.value, "skip", click.actor, context.deps)
    if (may.kind === "refuse") return may
    if (may.asked.answer !== null) return answered({ kind: "late", answer: may.asked.answer })
    return open(click, context, async () => {
      const view = await loadView(context.deps.store, may.rollback)
      const form = { callback: "failure_skip_form", metadata: may.asked.id } as const
      return skipForm(view, titleOf(view, may.asked.stepId), form)
    })
  },

  analysis: (click, context) =>
    onRollback(click, context, async (rollback) => {
      const notMember = await mayAct(context.deps.people, click.actor.userId, "anyone")
      if (notMember) return refuse(null, notMember)
      const view = await loadView(context.deps.store, rollback)
      const analysis = await loadAnalysis(context.deps.store, rollback, view)
      return analysis === null ? "Its analysis follows when it has ended." : drawAnalysisAgain(view, analysis)
    }),

  fill_analysis: (click, context) =>
    onRollback(click, context, async (rollback) => {
      const notMember = await mayAct(context.deps.people, click.actor.userId, "anyone")
      if (notMember) return refuse("fill", notMember)
      const view = await loadView(context.deps.store, rollback)
      const analysis = await loadAnalysis(context.deps.store, rollback, view)
      if (analysis === null) return "Its analysis follows when it has ended."
      return open(click, context, async () => analysisForm(view, analysis))
    }),
}

const takenWords = {
  yours: "You are on it already: nobody is called again for it.",
  others: "Somebody is on it already; the message says who.",
  over: "This call is over: nobody is called for it any more, and the rollback's card says how it stands. Your click changed nothing.",
  followed: 'The step failed again after this call: press "I\'m on it" on the newer one. Your click changed nothing.',
} as const satisfies Record<Taken, string>

export function registerActions(app: App, context: BotContext): void {
  app.action<BlockAction<ButtonAction>>(/.*/, async ({ ack, body, action }) => {
    await ack()
    const channelId = body.channel?.id ?? body.container?.["channel_id"] ?? null
    const to = { responseUrl: body.response_url ?? null, channelId, userId: body.user.id }
    answering(context, action.action_id, to, async () => {
      const press = Object.hasOwn(presses, action.action_id) ? presses[action.action_id] : undefined
      if (!press) return refuse(null, { reason: "old_card", number: null })
      return press(
        {
          value: action.value ?? "",
          actor: actorOf(body, pressKey(body, action)),
          triggerId: body.trigger_id,
          channelId,
        },
        context,
      )
    })
  })
}

/** Tells a press from the next one, delivered again or not. A compatible server may send no trigger: then its own time does. */
function pressKey(body: BlockAction, action: ButtonAction): string | null {
  if (body.trigger_id) return `action/${body.trigger_id}`
  return action.action_ts ? `action/${body.user.id}/${action.action_ts}` : null
}

export function answered(outcome: Confirmed | Refused): Answer {
  if (outcome.kind === "refuse") return outcome
  if (outcome.kind === "confirmed") return null
  const byPerson = outcome.answer !== null && outcome.answer !== "timed_out" && outcome.answer !== "stopped"
  return byPerson
    ? "Somebody has answered already; the message says who. Your click changed nothing."
    : "Nobody waits for this answer any more: the step has ended. Your click changed nothing."
}

async function onRollback(
  click: Click,
  { deps }: BotContext,
  work: (rollback: StoredRollback) => Promise<Answer>,
): Promise<Answer> {
  const rollback = /^[0-9a-f-]{36}$/.test(click.value) ? await deps.store.rollbacks.find(click.value) : null
  return rollback ? work(rollback) : refuse(null, { reason: "old_card", number: null })
}

/** Opens a form. Slack takes the click's trigger for 3 s only. */
async function open(click: Click, context: BotContext, view: () => Promise<ModalView>): Promise<Answer> {
  try {
    await context.clients.views.views.open({ trigger_id: click.triggerId, view: await view() })
    return null
  } catch (error) {
    // The same press, delivered again: its form is open.
    if (slackError(error) === "exchanged_trigger_id") return null
    context.log.warn({ err: error }, "a form could not be opened")
    const late = /expired_trigger_id|timeout/i.test(errorMessage(error))
    return late
      ? "The form could not be opened in time. Press the button again."
      : "Slack did not open the form; my log says why. Press the button again; if that does not help, tell whoever runs me."
  }
}
