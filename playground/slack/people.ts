import { readFileSync } from "node:fs"
import type { Delivery } from "./delivery.ts"
import { commandPayload, issueResponseUrl, issueTrigger, payloadBase, wireMessage } from "./payloads.ts"
import { postEphemeral, postMessage } from "./posting.ts"
import { describeButtons, findElement, readAction } from "./pressing.ts"
import { renderTranscript } from "./render-text.ts"
import { respond } from "./response-url.ts"
import { elementsOf } from "./store.ts"
import type { Store } from "./store.ts"
import type { Block, Channel, Json, Message, Outcome, User } from "./types.ts"

export type CommandAsked = { user: string; channel: string; text: string; command?: string }
export type ClickAsked = {
  user: string
  channel?: string
  ts?: string
  viewId?: string
  /** An `action_id` or the visible label. */
  action: string
  /** For menus: the label or value of the option. */
  option?: string
  /** What a client shows that has not yet heard of an edit: no look at the message, any id and value. */
  forge?: { action_id: string; value?: string; block_id?: string }
}
export type SayAsked = { user: string; channel: string; text: string; thread_ts?: string }

/** A command that no app has registered reaches none. */
const commands = (
  JSON.parse(readFileSync(new URL("../../manifest.json", import.meta.url), "utf8")) as {
    features: { slash_commands: { command: string }[] }
  }
).features.slash_commands.map((one) => one.command)

/** What people can do: type, run a command, press a button. */
export class People {
  private readonly store: Store
  private readonly delivery: Delivery
  private readonly base: () => string

  constructor(store: Store, delivery: Delivery, base: () => string) {
    this.store = store
    this.delivery = delivery
    this.base = base
  }

  user(idOrName: string): User {
    const found =
      this.store.users.get(idOrName) ?? [...this.store.users.values()].find((user) => user.name === idOrName)
    if (!found) throw new Error(`There is no user ${idOrName}`)
    return found
  }

  channel(idOrName: string): Channel {
    const name = idOrName.replace(/^#/, "")
    const found =
      this.store.channels.get(idOrName) ?? [...this.store.channels.values()].find((channel) => channel.name === name)
    if (!found) throw new Error(`There is no channel ${idOrName}`)
    return found
  }

  say(asked: SayAsked): Message {
    const thread = asked.thread_ts ? { thread_ts: asked.thread_ts } : {}
    return postMessage(this.store, {
      channel: this.channel(asked.channel).id,
      user: this.user(asked.user).id,
      text: asked.text,
      ...thread,
    })
  }

  async command(asked: CommandAsked): Promise<Outcome> {
    const user = this.user(asked.user)
    const channel = this.channel(asked.channel)
    const command = asked.command ?? "/rollback"
    if (user.deleted) return refused("account_inactive")
    if (!channel.members.has(user.id)) return refused("not_in_channel")
    if (!commands.includes(command)) {
      postEphemeral(this.store, {
        channel: channel.id,
        to: user.id,
        from: "USLACKBOT",
        text: `\`${command}\` is not a valid command. The app has: ${commands.join(", ")}`,
      })
      return refused("dispatch_failed")
    }
    const outcome = await this.delivery.send(
      "slash_commands",
      commandPayload(this.store, this.base(), { user, channel, command, text: asked.text }),
    )
    if (!outcome.ok) this.tellFailure(channel.id, user.id, command, outcome)
    else if (outcome.body) this.answer(channel.id, user.id, outcome.body)
    return outcome
  }

  async click(asked: ClickAsked): Promise<Outcome> {
    const user = this.user(asked.user)
    if (user.deleted && !asked.forge) return refused("account_inactive")
    const payload = asked.viewId ? this.viewAction(user, asked.viewId, asked) : this.messageAction(user, asked)
    return this.delivery.send("interactive", payload)
  }

  private messageAction(user: User, asked: ClickAsked): Json {
    const channel = this.channel(asked.channel ?? "")
    const message = this.store.findMessage(channel.id, asked.ts ?? "")
    const ephemeral = this.store.ephemerals.find((seen) => seen.ts === asked.ts && seen.to === user.id)
    if (!message && !ephemeral && !asked.forge)
      throw new Error(`${user.name} sees no message ${asked.ts} in #${channel.name}\n${renderTranscript(this.store)}`)
    const action = this.action((message ?? ephemeral)?.blocks ?? [], asked)
    const thread = message?.thread_ts ?? null
    const container = {
      type: "message",
      message_ts: asked.ts,
      channel_id: channel.id,
      is_ephemeral: Boolean(ephemeral),
      ...(thread ? { thread_ts: thread } : {}),
    }
    const about = { ts: asked.ts ?? "", ephemeral: Boolean(ephemeral), thread }
    return {
      ...payloadBase(this.store, "block_actions", user),
      container,
      trigger_id: issueTrigger(this.store, user),
      channel: { id: channel.id, name: channel.is_private ? "privategroup" : channel.name },
      ...(message ? { message: wireMessage(this.store, message) } : {}),
      state: { values: {} },
      response_url: issueResponseUrl(this.store, this.base(), { kind: "actions", user, channel, message: about }),
      actions: [action],
    }
  }

  private viewAction(user: User, viewId: string, asked: ClickAsked): Json {
    const view = this.store.viewsOf(user.id).find((candidate) => candidate.id === viewId)
    if (!view) throw new Error(`${user.name} has no open view ${viewId}`)
    return {
      ...payloadBase(this.store, "block_actions", user),
      container: { type: "view", view_id: view.id },
      trigger_id: issueTrigger(this.store, user, view.id),
      view,
      actions: [this.action(view.blocks, asked)],
    }
  }

  private action(blocks: Block[], asked: ClickAsked): Json {
    const action_ts = this.store.nextTs()
    if (asked.forge)
      return {
        type: "button",
        block_id: "forged",
        text: { type: "plain_text", text: asked.action, emoji: true },
        ...asked.forge,
        action_ts,
      }
    const found = findElement(blocks, asked.action)
    if (!found)
      throw new Error(
        `There is no "${asked.action}" here now; there is: ${describeButtons(blocks.flatMap(elementsOf))}`,
      )
    return { ...readAction(found, asked.option), action_ts }
  }

  private answer(channel: string, user: string, body: string): void {
    const parsed = body.startsWith("{") ? (JSON.parse(body) as Json) : { text: body }
    const refusal = respond(this.store, { user, channel, messageTs: null, thread: null, ephemeral: true }, parsed)
    if (refusal)
      postEphemeral(this.store, {
        channel,
        to: user,
        from: "USLACKBOT",
        text: `The app's answer was refused: ${refusal}`,
      })
  }

  private tellFailure(channel: string, user: string, command: string, outcome: Outcome): void {
    postEphemeral(this.store, {
      channel,
      to: user,
      from: "USLACKBOT",
      text: `\`${command}\` failed with the error "${outcome.error ?? "dispatch_failed"}"`,
    })
  }
}

export const refused = (error: string): Outcome => ({ ok: false, status: 0, ackMs: 0, body: "", error })
