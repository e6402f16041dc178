import { readFile } from "node:fs/promises"
import { createClients, slackError, type SlackClients } from "../bot/clients.ts"
import { errorMessage } from "../errors.ts"
import type { Audience, LoadedPlan, Plan } from "../plans/plan.ts"
import { bad, good, worthKnowing, type Finding } from "./finding.ts"

type SlackSettings = {
  botToken: string
  appToken: string | null
  apiUrl: string | null
  plans: readonly LoadedPlan[]
  redact: (text: string) => string
}
type Client = SlackClients["send"]

/** Token, scopes, and whether the groups and channels that plans name are there. */
export async function checkSlack({ botToken, appToken, apiUrl, plans, redact }: SlackSettings): Promise<Finding[]> {
  const base = apiUrl === null ? null : `${apiUrl.replace(/\/+$/, "")}/`
  const client = createClients(botToken, base).send
  const why = (error: unknown) => slackError(error) ?? redact(errorMessage(error))
  const findings: Finding[] = []
  try {
    const me = await client.auth.test()
    findings.push(
      good(`Slack: the bot token is that of ${me.user ?? "a bot"} in ${me.team ?? "a workspace"}`),
      ...(await checkScopes(me.response_metadata?.scopes)),
    )
  } catch (error) {
    const wayOut =
      slackError(error) === null
        ? "check the network and SLACK_API_URL"
        : "take the Bot User OAuth Token from the app's page (Install App)"
    return [bad(`Slack: auth.test: ${why(error)}`, wayOut)]
  }
  if (appToken !== null) findings.push(await checkAppToken(appToken, base, why))
  findings.push(
    ...(await checkGroups(client, plans, why)),
    ...(await checkPeople(client, plans, why)),
    ...(await checkChannels(client, plans, why)),
  )
  return findings
}

async function checkScopes(given: string[] | undefined): Promise<Finding[]> {
  if (given === undefined) return [worthKnowing("Slack: the server does not say which scopes the token has")]
  const manifest = JSON.parse(await readFile(new URL("../../manifest.json", import.meta.url), "utf8")) as {
    oauth_config: { scopes: { bot: string[] } }
  }
  const missing = manifest.oauth_config.scopes.bot.filter((scope) => !given.includes(scope))
  if (missing.length === 0) return [good("Slack: the token has every scope of manifest.json")]
  const wayOut = "add them under OAuth & Permissions, or paste manifest.json, and install the app again"
  return [bad(`Slack: the token lacks ${missing.join(", ")}`, wayOut)]
}

async function checkAppToken(token: string, base: string | null, why: (error: unknown) => string): Promise<Finding> {
  try {
    await createClients(token, base).send.apps.connections.open()
    return good("Slack: the app-level token opens Socket Mode")
  } catch (error) {
    return bad(
      `Slack: Socket Mode: ${why(error)}`,
      "create an app-level token with the scope connections:write and enable Socket Mode",
    )
  }
}

async function checkGroups(
  client: Client,
  plans: readonly LoadedPlan[],
  why: (error: unknown) => string,
): Promise<Finding[]> {
  const named = namedBy(plans, (plan) => audiencesOf(plan).filter((id) => id.startsWith("S")))
  if (named.size === 0) return []
  try {
    const { usergroups = [] } = await client.usergroups.list({ include_disabled: false })
    const known = new Map(usergroups.map((group) => [group.id, group.handle]))
    return [...named].map(([id, files]) =>
      known.has(id)
        ? good(`Slack: user group ${id} is @${known.get(id) ?? "?"}`)
        : bad(
            `Slack: there is no user group ${id} (${files.join(", ")})`,
            "copy the id from the group's page: people of a group that is not there cannot decide",
          ),
    )
  } catch (error) {
    return [bad(`Slack: user groups: ${why(error)}`, "the scope usergroups:read is needed")]
  }
}

/** A name that nobody answers to is found at night otherwise, when the only approver cannot approve. */
async function checkPeople(
  client: Client,
  plans: readonly LoadedPlan[],
  why: (error: unknown) => string,
): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const [id, files] of namedBy(plans, (plan) => audiencesOf(plan).filter((name) => /^[UW]/.test(name)))) {
    const where = `(${files.join(", ")})`
    try {
      const { user } = await client.users.info({ user: id })
      const unfit =
        user?.deleted === true
          ? "is deactivated"
          : user?.is_bot === true
            ? "is a bot"
            : user?.is_restricted === true || user?.is_ultra_restricted === true
              ? "is a guest"
              : user?.is_stranger === true
                ? "is of another workspace"
                : null
      findings.push(
        unfit === null
          ? good(`Slack: user ${id} is @${user?.name ?? "?"}`)
          : bad(`Slack: user ${id} ${unfit}, so cannot decide ${where}`, "name somebody else, or better a user group"),
      )
    } catch (error) {
      findings.push(
        ["user_not_found", "user_not_visible"].includes(slackError(error) ?? "")
          ? bad(
              `Slack: there is no user ${id} ${where}`,
              "copy the member id from the person's profile, or name a user group",
            )
          : bad(`Slack: user ${id} ${where}: ${why(error)}`, "the scope users:read is needed"),
      )
    }
  }
  return findings
}

async function checkChannels(
  client: Client,
  plans: readonly LoadedPlan[],
  why: (error: unknown) => string,
): Promise<Finding[]> {
  const named = namedBy(plans, (plan) => [plan.channel, plan.escalate.channel].filter((id) => id !== null))
  const findings: Finding[] = []
  for (const [id, files] of named) {
    try {
      const { channel } = await client.conversations.info({ channel: id })
      const shared = channel?.is_ext_shared === true
      if (shared)
        findings.push(
          bad(
            `Slack: channel ${id} is shared with another company (${files.join(", ")})`,
            "name a channel of your own workspace",
          ),
        )
      else if (channel?.is_member === false)
        findings.push(
          bad(`Slack: the bot is not in channel ${id} (${files.join(", ")})`, "type /invite @stepback there"),
        )
      else findings.push(good(`Slack: the bot is in channel ${id}`))
    } catch (error) {
      findings.push(
        bad(
          `Slack: channel ${id} (${files.join(", ")}): ${why(error)}`,
          "copy the id from the channel's details and /invite the bot",
        ),
      )
    }
  }
  return findings
}

function audiencesOf(plan: Plan): string[] {
  const audiences: Audience[] = [
    plan.request,
    plan.approve.low.from,
    plan.approve.medium.from,
    plan.approve.high.from,
    plan.escalate.mention,
    ...plan.components.map((component) => component.request ?? []),
  ]
  return audiences.flatMap((audience) => (audience === "anyone" ? [] : audience))
}

/** id -> files that name it. */
function namedBy(plans: readonly LoadedPlan[], idsOf: (plan: Plan) => string[]): Map<string, string[]> {
  const named = new Map<string, string[]>()
  for (const { plan, file } of plans)
    for (const id of new Set(idsOf(plan))) named.set(id, [...(named.get(id) ?? []), file])
  return named
}
