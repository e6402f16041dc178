import type { App, SlashCommand } from "@slack/bolt"
import { askForBaseline, listBaselines } from "../../commands/baseline.ts"
import { cancel, stop } from "../../commands/cancel.ts"
import { findRollback } from "../../commands/find.ts"
import { loadAnalysis } from "../../commands/analysis.ts"
import { note } from "../../commands/note.ts"
import { mayAct, type Actor } from "../../commands/ports.ts"
import { record } from "../../commands/record.ts"
import { findPlan, requestRollback } from "../../commands/request.ts"
import { requestUndo } from "../../commands/undo.ts"
import { loadView } from "../../commands/view.ts"
import { nearest, resolveParameters } from "../../plans/select.ts"
import { planViews } from "../../plans/step-view.ts"
import { refuse } from "../../rollback/refusals.ts"
import { drawAnalysisAgain } from "../blocks/analysis.ts"
import { baselineList } from "../blocks/baseline.ts"
import { planText } from "../blocks/plan-text.ts"
import { stateWords } from "../blocks/state-words.ts"
import { helpText, historyText, statusText } from "../blocks/words.ts"
import { answering, type Answer, type BotContext } from "../context.ts"
import { parseCommand, type Typed } from "../parse-command.ts"
import { verbs } from "../../plans/verbs.ts"

/** `/rollback …`: acked at once, answered when the work is done. */
export function registerCommand(app: App, context: BotContext): void {
  app.command(/.*/, async ({ ack, command }) => {
    await ack()
    const to = { responseUrl: command.response_url, channelId: command.channel_id, userId: command.user_id }
    answering(context, "command", to, () => run(command, context))
  })
}

async function run(command: SlashCommand, context: BotContext): Promise<Answer> {
  const { plans } = await context.deps.plans.load()
  // What Postgres takes in no text: names that are looked up must not make a question fail.
  const text = (command.text ?? "").replaceAll("\u0000", "").toWellFormed()
  const typed = parseCommand(text, (environment) => Object.keys(plans.get(environment)?.plan.params ?? {}))
  // Slack's own always have a trigger; those of a compatible server that have none cannot be told from each other by it.
  const requestKey = command.trigger_id ? `command/${command.trigger_id}` : null
  const actor: Actor = { userId: command.user_id, teamId: command.team_id, requestKey }
  switch (typed.kind) {
    case "help":
      return helpText([...plans.keys()])
    case "incomplete":
      return refuse(null, { reason: "missing_text", usage: typed.usage })
    case "bad_option":
      return refuse("request", {
        reason: "bad_option",
        given: typed.given,
        nearest: typed.nearest,
        usage: typed.usage,
      })
    case "record": {
      const outcome = await record({ ...typed, channelId: command.channel_id, actor }, context.deps)
      return outcome.kind === "refuse" ? outcome : null
    }
    case "request":
    case "rehearse":
      return ask(typed, command, actor, context)
    case "baseline":
      return baseline(typed, actor, command.channel_id, context)
    default:
      return look(typed, actor, command.channel_id, context)
  }
}

/** What there is, at once; captures and differences follow in the channel, from a worker: only they may see a target. */
async function baseline(
  { environment, what, name }: Extract<Typed, { kind: "baseline" }>,
  actor: Actor,
  channelId: string,
  { deps }: BotContext,
): Promise<Answer> {
  if (what === null) {
    const kept = await listBaselines(environment, actor, deps)
    return "refusal" in kept ? kept : baselineList(environment, kept)
  }
  const outcome = await askForBaseline({ environment, what, name, channelId, actor }, deps)
  if (outcome.kind === "refuse") return outcome
  if (outcome.kind === "repeated") return null
  if (outcome.kind === "no_baseline")
    return `The plan of ${environment} names no tables under \`baseline\`: there is nothing to capture or to compare.`
  return what === "capture"
    ? `Capturing ${environment}: the result follows in the channel.`
    : `Comparing ${environment}: the result follows in the channel.`
}

async function ask(
  typed: Extract<Typed, { kind: "request" | "rehearse" }>,
  command: SlashCommand,
  actor: Actor,
  { deps }: BotContext,
): Promise<Answer> {
  const outcome = await requestRollback(
    {
      environment: typed.environment,
      selection: typed.selection,
      reason: typed.reason,
      channelId: command.channel_id,
      actor,
      rehearsalOnly: typed.kind === "rehearse",
    },
    deps,
  )
  if (outcome.kind !== "refuse") return null
  const { refusal } = outcome
  if (refusal.reason === "unknown_environment" && onTheCard.has(refusal.given.toLowerCase()))
    return `That is a button on the rollback's card, where everybody sees it. \`/rollback status\` links the card.`
  // A mistyped verb looks like an unknown environment; where there is none at all, an environment was meant.
  if (refusal.reason === "unknown_environment" && refusal.nearest === null && refusal.known.length > 0) {
    const verb = nearest(refusal.given, verbs)
    if (verb !== null) return refuse(null, { reason: "unknown_command", given: refusal.given, nearest: verb })
  }
  return outcome
}

/** Decided where the facts are. */
const onTheCard = new Set(["approve", "deny", "retry", "skip", "leave"])

type LookAt = Extract<
  Typed,
  { kind: "status" | "history" | "plan" | "cancel" | "stop" | "analysis" | "standing" | "undo" | "note" }
>

async function look(typed: LookAt, actor: Actor, channelId: string, context: BotContext): Promise<Answer> {
  const { deps } = context
  if (["status", "history", "plan", "analysis", "standing"].includes(typed.kind)) {
    // What these show is for members: values of the target are among it.
    const notMember = await mayAct(deps.people, actor.userId, "anyone")
    if (notMember) return refuse(null, notMember)
  }
  if ("environment" in typed && typed.kind !== "plan") return overview(typed, context)
  if (typed.kind === "plan") return showPlan(typed.environment, context)
  const rollback = await findRollback(
    typed.kind === "analysis" || typed.kind === "standing" ? null : typed.kind,
    typed.rollback,
    deps.store,
  )
  if ("refusal" in rollback) return rollback
  const name = `R-${rollback.number}`
  switch (typed.kind) {
    case "standing":
      return statusText([await loadView(deps.store, rollback)], null)
    case "cancel": {
      const outcome = await cancel(rollback, actor, deps)
      return outcome.kind === "refuse" ? outcome : `${name} is cancelled.`
    }
    case "stop": {
      const outcome = await stop(rollback, actor, deps)
      return outcome.kind === "refuse"
        ? outcome
        : `${name} stops: the step on its way ends or is ended, no other begins.`
    }
    case "note": {
      const outcome = await note(rollback, typed.text, actor, deps)
      if (outcome.kind === "refuse") return outcome
      return outcome.analysed
        ? `Noted for the analysis of ${name}.`
        : `Noted, but ${name} is ${stateWords[rollback.state]} and never ran: it gets no analysis, so the note stands in its audit alone. \`/rollback record ${rollback.environment} TEXT\` gives what was done by hand an analysis.`
    }
    case "analysis": {
      const view = await loadView(deps.store, rollback)
      const analysis = await loadAnalysis(deps.store, rollback, view)
      return analysis === null
        ? refuse(null, { reason: "not_in_state", number: rollback.number, state: rollback.state, can: "status" })
        : drawAnalysisAgain(view, analysis)
    }
    case "undo": {
      const outcome = await requestUndo(rollback, { channelId, reason: typed.reason, actor }, deps)
      return outcome.kind === "refuse" ? outcome : null
    }
  }
}

async function overview(typed: Extract<Typed, { kind: "status" | "history" }>, { deps }: BotContext): Promise<Answer> {
  const { environment } = typed
  if (environment !== null) {
    const found = await findPlan(environment, deps)
    const newest = "kind" in found ? await deps.store.rollbacks.newest(environment) : null
    if ("kind" in found && newest === null) return { ...found, verb: null }
  }
  if (typed.kind === "history") {
    const list = await deps.store.rollbacks.list(environment, 10)
    return historyText(await Promise.all(list.map((rollback) => loadView(deps.store, rollback))))
  }
  const live = await deps.store.rollbacks.live(environment)
  const newest = live.length > 0 ? null : await deps.store.rollbacks.newest(environment)
  const shown = newest === null ? live : [newest]
  return statusText(await Promise.all(shown.map((rollback) => loadView(deps.store, rollback))), environment)
}

async function showPlan(environment: string, { deps }: BotContext): Promise<Answer> {
  const found = await findPlan(environment, deps)
  if ("kind" in found) return { ...found, verb: null }
  const resolved = resolveParameters(found.plan, {})
  const parameters = "parameters" in resolved ? resolved.parameters : {}
  return planText(found.plan, planViews(found.plan, parameters))
}
