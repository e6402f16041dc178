import type { Verb } from "../../rollback/refusals.ts"

/** What a person wanted, behind "you may". */
export const deeds = {
  request: "ask for this",
  approve: "approve this",
  deny: "deny this",
  cancel: "cancel this",
  stop: "stop this",
  retry: "retry this",
  skip: "skip this step",
  undo: "take this back",
  note: "take notes on this",
  acknowledge: "take this on",
  confirm: "say whether this is done",
  leave: "leave this as it is",
  fill: "fill in the analysis",
} as const satisfies Record<Verb, string>

export function requesterWords(verb: Verb | null): string {
  if (verb === "deny") return "You asked for this yourself. To take it back, press Cancel."
  if (verb === "skip")
    return "You asked for this, so another person has to agree to skip the step. Ask somebody who may approve."
  return "You asked for this, so another person has to approve it. Ask somebody who may; you can still cancel it."
}

type PersonReason =
  | "bot"
  | "guest"
  | "deactivated"
  | "stranger"
  | "other_team"
  | "unknown_person"
  | "could_not_check_person"

/** Why an account may not, and who may. */
export function personWords(reason: PersonReason, verb: Verb | null): string {
  const may = `may ${deeds[verb ?? "request"]}`
  const ask = "Ask a colleague who is one."
  switch (reason) {
    case "bot":
      return `Only people ${may}, and this account is a bot. Ask a person to do it.`
    case "guest":
      return `Only full members of this workspace ${may}, and you are a guest here. ${ask}`
    case "deactivated":
      return `This account is deactivated; only full members of this workspace ${may}. ${ask}`
    case "stranger":
    case "other_team":
      return `Only members of this workspace ${may}, and you belong to another one. ${ask}`
    case "unknown_person":
      return `Slack does not know this account; only full members of this workspace ${may}. ${ask}`
    case "could_not_check_person":
      return "I could not check who you are, because Slack did not tell me. Nothing was changed: please try again; if it stays so, whoever runs me finds out by `stepback doctor`."
  }
}
