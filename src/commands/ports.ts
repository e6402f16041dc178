import type { Audience } from "../rollback/facts.ts"
import { fullMember, groupsToAsk, inAudience, type GroupMembers, type PersonLookup } from "../rollback/eligibility.ts"
import type { Refusal } from "../rollback/refusals.ts"
import type { LoadedPlan, Problem } from "../plans/plan.ts"
import type { StoredRollback } from "../store/rows.ts"
import type { Store } from "../store/store.ts"

/** What Slack knows about people and channels, asked at the moment of need. */
export type People = {
  /** Teams whose members count as ours; empty when it is not known yet. */
  homeTeams(): Promise<readonly string[]>
  find(userId: string): Promise<PersonLookup>
  /** Null when there was no answer. */
  members(groupId: string): Promise<readonly string[] | null>
  channel(channelId: string): Promise<ChannelLookup>
}

export type ChannelLookup =
  | { kind: "ok" }
  | { kind: "not_in_channel" }
  | { kind: "shared" }
  | { kind: "unseen" }
  | { kind: "unreachable" }

export type Plans = {
  /** The plans as the folder has them now. */
  load(): Promise<{
    plans: Map<string, LoadedPlan>
    invalid: { file: string; environment: string | null; problems: Problem[] }[]
  }>
}

/** What the use cases need. They know neither Slack nor the queue. */
export type Deps = {
  store: Store
  people: People
  plans: Plans
  /** Wakes a worker; may be lost, a sweep follows. */
  ring(kind: "rehearse" | "run", rollbackId: string): void
  /** Tells the outbox that there is something to send. */
  wakeOutbox(): void
  newId(): string
}

/** Who did something, and in which request: the same request twice is one. */
export type Actor = { userId: string; teamId: string | null; requestKey: string | null }

/** Whether this person is a full member and, when the plan names people, one of them. Asked now, fails closed. */
export async function mayAct(people: People, userId: string, audience: Audience): Promise<Refusal | null> {
  // First whose workspace this is: on a Grid it tells which of a person's teams counts.
  const home = await people.homeTeams()
  const lookup = await people.find(userId)
  if (home.length === 0) return { reason: "could_not_check_person" }
  const notMember = fullMember(lookup, home)
  if (notMember) return notMember
  const asked = groupsToAsk(audience, userId)
  const groups: GroupMembers = {}
  await Promise.all(
    asked.map(async (group) => {
      groups[group] = await people.members(group)
    }),
  )
  return inAudience(audience, userId, groups)
}

/** Whether this person may ask for all of these components: each may name its own people. */
export async function mayRequest(
  people: People,
  userId: string,
  run: { request: Audience; components: readonly { id: string; request: Audience | null }[] },
): Promise<Refusal | null> {
  const rules = [...Map.groupBy(run.components, (component) => component.request ?? run.request)]
  const answers = await Promise.all(
    rules.map(async ([audience, components]) => ({ components, refusal: await mayAct(people, userId, audience) })),
  )
  const refused = answers.find(({ refusal }) => refusal !== null)
  if (refused?.refusal?.reason !== "not_in_audience" || rules.length === 1) return refused?.refusal ?? null
  return { ...refused.refusal, components: refused.components.map(({ id }) => id) }
}

/** Why nothing can be asked for in this channel; null when it can. Asked now, fails closed. */
export async function mayUse(people: People, channelId: string): Promise<Refusal | null> {
  const channel = await people.channel(channelId)
  switch (channel.kind) {
    case "ok":
      return null
    case "not_in_channel":
      return { reason: "bot_not_in_channel" }
    case "unseen":
      return { reason: "not_a_channel" }
    case "shared":
      return { reason: "shared_channel" }
    case "unreachable":
      return { reason: "could_not_check_channel" }
  }
}

/** Who asked for what is to be approved: with a rollback, or with a Skip in it. They cannot approve it. */
export function askersOf({ requester_id: requester, skips }: StoredRollback): string[] {
  return [...new Set([requester, ...Object.values(skips).map(({ by }) => by)])]
}

/** The answer to a second request while one is under way, here or on the same database: where the first is. */
export function busyWith(rollback: StoredRollback, asked: string): Refusal {
  return {
    reason: "environment_busy",
    environment: rollback.environment,
    asked: asked === rollback.environment ? null : asked,
    number: rollback.number ?? 0,
    state: rollback.state,
    permalink: rollback.permalink,
  }
}

/** Free text of people: NUL removed, cut with a mark. */
export function tidy(text: string, most = 500): string {
  const clean = text.replaceAll("\u0000", "").trim()
  return [...clean].length > most ? `${[...clean].slice(0, most).join("")}… (cut)` : clean
}
