import type { ChannelLookup, People } from "../commands/ports.ts"
import type { PersonLookup } from "../rollback/eligibility.ts"
import type { Logger } from "../log.ts"
import { slackError, type SlackClients } from "./clients.ts"

type SlackUser = {
  id?: string
  team_id?: string
  deleted?: boolean
  is_bot?: boolean
  is_app_user?: boolean
  is_restricted?: boolean
  is_ultra_restricted?: boolean
  is_stranger?: boolean
  enterprise_user?: { teams?: string[]; enterprise_id?: string }
}

/** Slackbot is a bot that says it is none. */
const slackbot = "USLACKBOT"
/** Group members may be a moment old: their method allows about 20 calls a minute. */
const groupAgeMs = 5_000

function personOf(id: string, user: SlackUser, home: readonly string[]): PersonLookup {
  const teams = user.enterprise_user?.teams ?? []
  return {
    kind: "person",
    person: {
      id,
      teamId: teams.find((team) => home.includes(team)) ?? user.team_id ?? null,
      isBot: user.is_bot === true || id === slackbot,
      isGuest: user.is_restricted === true || user.is_ultra_restricted === true,
      isStranger: user.is_stranger === true,
      isDeactivated: user.deleted === true,
    },
  }
}

/** Asks Slack who somebody is. Nothing is remembered but the bot's own workspace and, for seconds, groups. */
export function createPeople(clients: SlackClients, log: Logger): People {
  let home: readonly string[] = []
  const groups = new Map<string, { at: number; members: Promise<readonly string[] | null> }>()

  async function askMembers(group: string): Promise<readonly string[] | null> {
    try {
      const answer = await clients.ask.usergroups.users.list({ usergroup: group })
      return answer.users ?? []
    } catch (error) {
      log.warn({ group, slackError: slackError(error) ?? "no answer" }, "group could not be read")
      groups.delete(group)
      return null
    }
  }

  return {
    async homeTeams() {
      if (home.length > 0) return home
      try {
        const me = await clients.ask.auth.test()
        home = [me.team_id, me.enterprise_id].filter((id): id is string => typeof id === "string" && id !== "")
      } catch (error) {
        log.warn({ slackError: slackError(error) ?? "no answer" }, "own workspace could not be asked for")
      }
      return home
    },

    async find(userId): Promise<PersonLookup> {
      try {
        const answer = await clients.ask.users.info({ user: userId })
        return answer.user === undefined ? { kind: "unknown" } : personOf(userId, answer.user, home)
      } catch (error) {
        const code = slackError(error)
        log.info({ slackUserId: userId, slackError: code ?? "no answer" }, "person could not be looked up")
        return ["user_not_found", "user_not_visible"].includes(code ?? "")
          ? { kind: "unknown" }
          : { kind: "unreachable" }
      }
    },

    async members(group) {
      const known = groups.get(group)
      if (known && performance.now() - known.at < groupAgeMs) return known.members
      const members = askMembers(group)
      groups.set(group, { at: performance.now(), members })
      return members
    },

    async channel(channelId): Promise<ChannelLookup> {
      try {
        const { channel } = await clients.ask.conversations.info({ channel: channelId })
        if (channel?.is_ext_shared === true || channel?.is_pending_ext_shared === true) return { kind: "shared" }
        return channel?.is_member === false && channel.is_im !== true ? { kind: "not_in_channel" } : { kind: "ok" }
      } catch (error) {
        const code = slackError(error)
        // Direct messages need scopes that the app does not ask for.
        if (channelId.startsWith("D") || code === "missing_scope") return { kind: "unseen" }
        if (code === "channel_not_found" || code === "not_in_channel") return { kind: "not_in_channel" }
        // A compatible server without this method: posting will tell.
        return code === "unknown_method" ? { kind: "ok" } : { kind: "unreachable" }
      }
    },
  }
}
