import type { Audience } from "./facts.ts"
import type { Refusal } from "./refusals.ts"

/** What Slack says about a person, at the moment of asking. */
export type Person = {
  id: string
  teamId: string | null
  isBot: boolean
  isGuest: boolean
  isStranger: boolean
  isDeactivated: boolean
}

/** `unreachable`: nobody could be asked, which is not the same as a person who does not exist. */
export type PersonLookup = { kind: "person"; person: Person } | { kind: "unknown" } | { kind: "unreachable" }

/** Members of each group of the audience that was asked for; null where Slack gave no answer. */
export type GroupMembers = Record<string, readonly string[] | null>

/** Whether this is a full member of the workspace, whatever a plan says. Fails closed. */
export function fullMember(lookup: PersonLookup, homeTeams: readonly string[]): Refusal | null {
  if (lookup.kind === "unreachable") return { reason: "could_not_check_person" }
  if (lookup.kind === "unknown") return { reason: "unknown_person" }
  const { person } = lookup
  if (person.isDeactivated) return { reason: "deactivated" }
  if (person.isBot) return { reason: "bot" }
  if (person.isStranger) return { reason: "stranger" }
  if (person.teamId === null || !homeTeams.includes(person.teamId)) return { reason: "other_team" }
  if (person.isGuest) return { reason: "guest" }
  return null
}

/** Groups that must be asked before `inAudience` can answer for this person. */
export function groupsToAsk(audience: Audience, userId: string): string[] {
  if (audience === "anyone" || audience.includes(userId)) return []
  return audience.filter((id) => id.startsWith("S"))
}

/** Whether the plan names this person, by id or through a group. A group that gave no answer refuses. */
export function inAudience(audience: Audience, userId: string, groups: GroupMembers): Refusal | null {
  if (audience === "anyone" || audience.includes(userId)) return null
  const asked = groupsToAsk(audience, userId)
  if (asked.some((group) => groups[group]?.includes(userId) ?? false)) return null
  const silent = asked.find((group) => groups[group] == null)
  return silent === undefined
    ? { reason: "not_in_audience", audience }
    : { reason: "could_not_check_group", group: silent }
}
