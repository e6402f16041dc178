import type { Audience } from "./facts.ts"
import type { RollbackState } from "./states.ts"

/** What a person wanted to do; a refusal's words depend on it. */
export type Verb =
  | "request"
  | "approve"
  | "deny"
  | "cancel"
  | "stop"
  | "retry"
  | "skip"
  | "undo"
  | "note"
  | "acknowledge"
  | "confirm"
  | "leave"
  | "fill"

/** Why somebody may not do something, with the facts that the words need. Every one of them has a way out. */
export type Refusal =
  | { reason: "requester_cannot_approve" }
  | { reason: "bot" | "guest" | "deactivated" | "stranger" | "other_team" | "unknown_person" }
  | { reason: "could_not_check_person" }
  /** `components`: which of those that were asked for the rule is of, where others have another one. */
  | { reason: "not_in_audience"; audience: Audience; components?: string[] }
  | { reason: "could_not_check_group"; group: string }
  /** `since`: what has become of it by their approval; null while it needs another one. */
  | { reason: "already_yours"; since: { state: RollbackState; number: number | null } | null }
  | { reason: "already_decided"; state: RollbackState; by: string | null; at: string | null; number: number | null }
  | { reason: "not_ready" }
  | { reason: "old_card"; number: number | null }
  | { reason: "changed"; moved: string[] }
  | { reason: "unknown_environment"; given: string; nearest: string | null; known: string[] }
  | { reason: "plan_invalid"; environment: string; problems: string[] }
  | { reason: "unknown_component"; given: string; nearest: string | null; known: string[] }
  | { reason: "component_needs"; component: string; needs: string }
  | { reason: "nothing_selected" }
  | { reason: "nothing_to_undo"; number: number | null }
  | { reason: "done_by_hand"; number: number | null; environment: string }
  | { reason: "no_failed_step"; number: number | null }
  /** Not the failure that the form was opened for. `wrote`: the reason that was typed into it. */
  | { reason: "other_failure"; number: number | null; wrote: string | null }
  /** Not the failure at which Retry was offered: another has pressed it since, and it failed again. */
  | { reason: "tried_since"; number: number | null }
  | { reason: "missing_reason" }
  /** A later rollback has been at work since. */
  | { reason: "overtaken"; number: number | null; environment: string; by: number | null }
  | { reason: "unknown_parameter"; given: string; nearest: string | null; known: string[] }
  /** `given`: null where nothing was, and the plan has no default. */
  | { reason: "bad_parameter"; name: string; given: string | null; expected: string }
  | { reason: "bad_option"; given: string; nearest: string | null; usage: string }
  | { reason: "wrong_channel"; channel: string }
  | { reason: "bot_not_in_channel" }
  | { reason: "not_a_channel" }
  | { reason: "shared_channel" }
  | { reason: "could_not_check_channel" }
  /** `asked`: the environment that was asked for, when it is another one on the same database. */
  | {
      reason: "environment_busy"
      environment: string
      asked: string | null
      number: number
      state: RollbackState
      permalink: string | null
    }
  | { reason: "unknown_rollback"; given: string; newest: number | null }
  | { reason: "not_in_state"; number: number | null; state: RollbackState; can: "status" | "stop" | "cancel" }
  | { reason: "left"; number: number | null; by: string; at: string }
  | { reason: "filled_meanwhile"; number: number | null; by: string | null; wrote: string[] }
  | { reason: "unknown_command"; given: string; nearest: string | null }
  | { reason: "missing_text"; usage: string }
  | { reason: "too_many_requests"; waitSeconds: number }
  /** `inDoubt`: it broke off where it may have been decided all the same, as at a commit. */
  | { reason: "state_unreachable"; inDoubt: boolean }
  /** A defect of ours. */
  | { reason: "unexpected" }

export type Refused = { kind: "refuse"; verb: Verb | null; refusal: Refusal }

export function refuse(verb: Verb | null, refusal: Refusal): Refused {
  return { kind: "refuse", verb, refusal }
}
