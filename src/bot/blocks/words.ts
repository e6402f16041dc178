import type { Audience } from "../../rollback/facts.ts"
import type { Refused, Verb } from "../../rollback/refusals.ts"
import type { RollbackState } from "../../rollback/states.ts"
import { safe } from "./escape.ts"
import { exactTime, number, plural } from "./format.ts"
import { mention, mentions } from "./parts.ts"
import { deeds, personWords, requesterWords } from "./person-words.ts"
import { lineText } from "./render.ts"
import { stateWords } from "./state-words.ts"

export { helpText, historyText, statusText } from "./overview.ts"

/** What a person reads who may not do something: why, and what would make it work. Goes into mrkdwn. */
export function refusalWords(refused: Refused): string {
  const { refusal, verb } = refused
  switch (refusal.reason) {
    case "requester_cannot_approve":
      return requesterWords(verb)
    case "bot":
    case "guest":
    case "deactivated":
    case "stranger":
    case "other_team":
    case "unknown_person":
    case "could_not_check_person":
      return personWords(refusal.reason, verb)
    case "not_in_audience":
      // The plan is invalid, so nobody else is known.
      if (refusal.audience.length === 0) return `Only who asked for it may ${deeds[verb ?? "request"]}. Ask them.`
      return `Only ${audienceText(refusal.audience)} may ${deeds[verb ?? "request"]}${theirs(refusal.components)}. Ask one of them.`
    case "could_not_check_group":
      return `Slack did not say who is in ${idText(refusal.group)}, so I cannot tell whether you may ${deeds[verb ?? "request"]}. Please try again in a moment; if it stays so, whoever runs me finds out by \`stepback doctor\`.`
    case "already_yours":
      return alreadyYoursWords(refusal.since)
    case "already_decided":
      return tooLateWords(refusal, verb)
    case "not_ready":
      return "It is still being looked at. The buttons come when the facts are on the card, in a few seconds."
    case "old_card":
      return refusal.number === null
        ? "I do not know what this button belongs to: it is not in my database, which may have been put back to a backup since. Nothing was changed. `/rollback status` says what is going on."
        : `This card is out of date. Use the newest card of ${rollbackText(refusal.number)}.`
    case "changed":
      return `It has changed since this card was shown, so nothing was approved. ${changedText(refusal.moved)} A new card is on its way: please look again.`
    case "unknown_rollback":
      return `I know no rollback ${quoted(refusal.given)}.${refusal.newest === null ? " There is none yet." : ` The newest is R-${refusal.newest}.`} \`/rollback history\` lists them.`
    case "not_in_state":
      return `${capital(rollbackText(refusal.number))} is ${stateWords[refusal.state]}, so that is not possible. What you can do: ${wayText(refusal)}.`
    case "environment_busy":
      return busyWords(refusal)
    case "left":
      return `${capital(rollbackText(refusal.number))} was left as it is by ${idText(refusal.by)} at ${exactTime(refusal.at)}. \`/rollback undo ${rollbackText(refusal.number)}\` takes back what it did; \`/rollback ENVIRONMENT\` asks anew.`
    case "filled_meanwhile":
      return meanwhileWords(refusal)
    case "unexpected":
      return "Something went wrong on my side; my log has it. Nothing was decided: please try again, and tell whoever runs me."
    case "state_unreachable":
      return unreachableWords(refusal.inDoubt)
    default:
      return inputWords(refusal)
  }
}

/** A press that Slack delivers twice, or that somebody repeats: "too late" would read as if it had not counted. */
function alreadyYoursWords(since: Extract<Refusal, { reason: "already_yours" }>["since"]): string {
  return since === null
    ? "Your approval is already counted. It needs another person now."
    : `Your approval has counted: ${rollbackText(since.number)} is ${stateWords[since.state]}. This press changed nothing.`
}

/** Without it the refused person, and each whom they ask, would be sent from one to the next. */
function theirs(components: readonly string[] = []): string {
  return components.length === 0 ? "" : `: ${listed([...components])} is theirs alone`
}

function tooLateWords(refusal: Extract<Refusal, { reason: "already_decided" }>, verb: Verb | null): string {
  const name = rollbackText(refusal.number)
  const by = refusal.by === null ? "" : `, by ${idText(refusal.by)}`
  const at = refusal.at === null ? "" : ` at ${exactTime(refusal.at)}`
  const against = refusal.number !== null && (verb === "cancel" || verb === "deny" || verb === "stop")
  return `Too late: ${name} is ${stateWords[refusal.state]}${by}${at}. Nothing was changed now.${against ? wayAgainst(refusal.state, name) : ""}`
}

/** Who wanted to keep it from running, or to end it, still can, or can have it taken back. */
function wayAgainst(state: RollbackState, name: string): string {
  if (state === "approved" || state === "running") return ` \`/rollback stop ${name}\` ends it before its next step.`
  const ran = state === "succeeded" || state === "failed" || state === "stopped"
  return ran ? ` \`/rollback undo ${name}\` asks to take back what it did.` : ""
}

/** A link that broke at the commit took the answer with it: then "nothing was changed" may be a lie. */
function unreachableWords(inDoubt: boolean): string {
  const hurry = "In a hurry: `stepback plan show ENVIRONMENT --sql` prints the statements to paste."
  return inDoubt
    ? `My database broke off, so I cannot tell whether this counted. Please look at the card or at \`/rollback status\` in a minute, before you try again. ${hurry}`
    : `My database does not answer or takes no writes, so I cannot do anything safely. Nothing was changed: please try again in a minute. ${hurry}`
}

type Refusal = Refused["refusal"]
type InputRefusal = Extract<
  Refusal,
  {
    reason:
      | "unknown_environment"
      | "plan_invalid"
      | "unknown_component"
      | "component_needs"
      | "nothing_selected"
      | "nothing_to_undo"
      | "done_by_hand"
      | "no_failed_step"
      | "other_failure"
      | "tried_since"
      | "missing_reason"
      | "overtaken"
      | "unknown_parameter"
      | "bad_parameter"
      | "bad_option"
      | "wrong_channel"
      | "bot_not_in_channel"
      | "not_a_channel"
      | "shared_channel"
      | "could_not_check_channel"
      | "unknown_command"
      | "missing_text"
      | "too_many_requests"
  }
>

/** What was typed, or where. */
function inputWords(refusal: InputRefusal): string {
  switch (refusal.reason) {
    case "unknown_environment":
      return unknownWords("environment", refusal)
    case "plan_invalid":
      return `The plan of ${quoted(refusal.environment)} is not valid, so nothing can run from it. Please mend it and try again:\n${bullets(refusal.problems)}`
    case "unknown_component":
      return unknownWords("component", refusal)
    case "component_needs":
      return `${quoted(refusal.component)} needs ${quoted(refusal.needs)} to run before it. Name both: after \`--with\` where it is optional, after \`--only\` where you narrow it.`
    case "nothing_selected":
      return "That selects no component, so there is nothing to run. Leave `--only` out, or name a component."
    case "nothing_to_undo":
      return `${capital(rollbackText(refusal.number))} changed nothing, so there is nothing to take back. \`/rollback history\` lists the others.`
    case "done_by_hand":
      return `${capital(rollbackText(refusal.number))} was done by hand: I kept nothing of it that could be given back. \`/rollback ${codeText(refusal.environment)}\` asks for a rollback.`
    case "no_failed_step":
      return `${capital(rollbackText(refusal.number))} has no failed step to leave out. Press Retry, or ask anew.`
    case "other_failure":
      return otherFailureWords(refusal)
    case "tried_since":
      return `${capital(rollbackText(refusal.number))} was tried again since this button was drawn, and that did not end well either. Nothing was done now: see on its card how it ended, then press Retry there.`
    case "missing_reason":
      return "Say why the step may be left out: whoever has to agree reads it. Press Skip again."
    case "overtaken":
      return `${refusal.by === null ? "A later rollback" : `R-${refusal.by}`} has been at work since, so ${rollbackText(refusal.number)} is not gone on with. \`/rollback ${codeText(refusal.environment)}\` asks anew.`
    case "unknown_parameter":
      return unknownWords("parameter", refusal)
    case "bad_parameter":
      if (refusal.given === null)
        return `The plan has no default for the parameter ${quoted(refusal.name)}: write \`${codeText(refusal.name)}=…\` into the request, expected is ${safe(refusal.expected)}.`
      return `${quoted(refusal.given)} does not fit the parameter ${quoted(refusal.name)}: expected ${safe(refusal.expected)}.`
    case "bad_option":
      return `I do not understand ${quoted(refusal.given)}.${nearestText(refusal.nearest)} It goes like this: \`${codeText(refusal.usage)}\``
    case "wrong_channel":
      return `Requests for this environment are taken in ${channelText(refusal.channel)} only. Please ask there.`
    case "bot_not_in_channel":
      return "I am not in this channel, so nobody would see the card. Add me with `/invite`, then ask again."
    case "not_a_channel":
      return "A rollback is asked for in a channel: others must see the card. I cannot see into this conversation, so please ask in a channel that I am in."
    case "shared_channel":
      return "This channel is shared with another company, whose people could press the buttons too. Please ask in a channel of your own workspace."
    case "could_not_check_channel":
      return "Slack did not say whether I may post here. Nothing was started: please try again in a moment."
    case "unknown_command":
      return `I do not know ${quoted(refusal.given)}.${nearestText(refusal.nearest)} \`/rollback help\` shows what I know.`
    case "missing_text":
      return `Some words are missing. It goes like this: \`${codeText(refusal.usage)}\``
    case "too_many_requests":
      return `That is a lot at once. Please wait ${plural(Math.max(1, Math.ceil(refusal.waitSeconds)), "second")} and try again.`
  }
}

function busyWords(refusal: Extract<Refusal, { reason: "environment_busy" }>): string {
  const name = `R-${refusal.number}`
  const link = refusal.permalink === null ? name : lineText([{ link: refusal.permalink, label: name }])
  const way = {
    preparing: "Wait for its card, or cancel it.",
    awaiting_approval: "Approve it, deny it or cancel it first.",
  }
  const next =
    refusal.state === "preparing" || refusal.state === "awaiting_approval"
      ? way[refusal.state]
      : "Wait until it has ended, or stop it."
  const where =
    refusal.asked === null
      ? `${quoted(refusal.environment)} already has a rollback`
      : `${quoted(refusal.asked)} has the same database as ${quoted(refusal.environment)}, which already has a rollback`
  return `${where}: ${link} is ${stateWords[refusal.state]}. ${next}`
}

function wayText({ can, number: of }: Extract<Refusal, { reason: "not_in_state" }>): string {
  return `\`/rollback ${can}${of === null || can === "status" ? "" : ` R-${of}`}\``
}

/** What was typed is given back, all of it: it took thought, and stands nowhere else. The form's fields take no more. */
function meanwhileWords({ by, number: of, wrote }: Extract<Refusal, { reason: "filled_meanwhile" }>): string {
  const who = by === null ? "Somebody" : idText(by)
  const typed = wrote.map((text) => `> ${safe(text, 3_000)}`).join("\n")
  return `${who} saved the analysis of ${rollbackText(of)} while you wrote, so yours was not saved. Press its button again to see theirs and add yours. You wrote:\n${typed}`
}

function otherFailureWords({ number: of, wrote }: Extract<Refusal, { reason: "other_failure" }>): string {
  const typed = wrote === null ? "" : ` You wrote:\n> ${safe(wrote, 900)}`
  return `${capital(rollbackText(of))} was gone on with since this form was opened, so it may stand at another failure now, and nothing was left out. Press Skip on its card again: the form names the step.${typed}`
}

function unknownWords(what: string, refusal: { given: string; nearest: string | null; known: string[] }): string {
  const none =
    what === "environment"
      ? "No plan can be used here: `stepback plan check` and my log say why."
      : `There is no ${what} here at all.`
  const known = refusal.known.length === 0 ? none : `There is: ${listed(refusal.known)}.`
  return `I know no ${what} ${quoted(refusal.given)}.${nearestText(refusal.nearest)} ${known}`
}

function nearestText(nearest: string | null): string {
  return nearest === null ? "" : ` Did you mean ${quoted(nearest)}?`
}

function changedText(moved: string[]): string {
  return moved.length === 0 ? "" : `What moved:\n${bullets(moved)}\n`
}

function listed(names: string[], most = 15): string {
  const more = names.length > most ? ` and ${number(names.length - most)} more` : ""
  return `${names
    .slice(0, most)
    .map((name) => safe(name, 80))
    .join(", ")}${more}`
}

function bullets(lines: string[], most = 8): string {
  const more = lines.length > most ? [`… and ${number(lines.length - most)} more`] : []
  return [...lines.slice(0, most).map((line) => `• ${safe(line, 250)}`), ...more].join("\n")
}

function audienceText(audience: Audience): string {
  return audience === "anyone" ? "full members of this workspace" : lineText(mentions(audience))
}

function idText(id: string): string {
  return lineText([mention(id.slice(0, 60))])
}

function channelText(id: string): string {
  return /^[CG][A-Z0-9]{1,30}$/.test(id) ? `<#${id}>` : safe(id, 80)
}

function rollbackText(number: number | null): string {
  return number === null ? "this rollback" : `R-${number}`
}

function quoted(text: string): string {
  return `"${safe(text, 80)}"`
}

function codeText(text: string): string {
  return safe(text, 200).replaceAll("`", "'")
}

function capital(text: string): string {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}`
}
