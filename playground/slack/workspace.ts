import { randomBytes } from "node:crypto"
import { Store } from "./store.ts"
import type { Channel, Identity, User } from "./types.ts"

export type NewUser = Partial<Omit<User, "name">> & { name: string }
export type NewChannel = {
  id?: string
  name: string
  is_private?: boolean
  is_ext_shared?: boolean
  is_archived?: boolean
  members?: string[]
  botIsMember?: boolean
}

const hex = (bytes: number): string => randomBytes(bytes).toString("hex")
const slackId = (prefix: string): string => prefix + hex(5).toUpperCase()

/** Secrets are new at every start, so that none can be written down anywhere. */
export function createIdentity(): Identity {
  return {
    teamId: "T0LOCAL",
    teamDomain: "local",
    appId: "A0STEPBACK",
    botUserId: "U0STEPBACK",
    botId: "B0STEPBACK",
    botToken: `xoxb-${hex(6)}-${hex(12)}`,
    appToken: `xapp-1-A0STEPBACK-${hex(24)}`,
    signingSecret: hex(16),
    verificationToken: hex(12),
  }
}

/** A workspace with people of every kind and the channels that the plans name. */
export function createWorkspace(identity: Identity): Store {
  const store = new Store(identity)
  addUser(store, { id: identity.botUserId, name: "stepback", is_bot: true })
  addUser(store, { id: "U0ALICE", name: "alice" })
  addUser(store, { id: "U0BOB", name: "bob" })
  addUser(store, { id: "U0CAROL", name: "carol" })
  addUser(store, { id: "U0GUEST", name: "guest", is_restricted: true })
  addUser(store, { id: "U0ROBOT", name: "robot", is_bot: true })
  addUser(store, { id: "U0GONE", name: "gone", deleted: true })
  addUser(store, { id: "U0STRANGER", name: "stranger", is_stranger: true, team_id: "T0OTHER" })
  addChannel(store, { id: "C0GENERAL", name: "general" })
  addChannel(store, { id: "C0STAGING", name: "staging" })
  addChannel(store, { id: "C0ONCALL", name: "oncall" })
  setGroup(store, "S0ONCALL", "oncall", ["U0BOB", "U0CAROL"])
  return store
}

export function addUser(store: Store, { name, ...rest }: NewUser): User {
  const user: User = {
    id: slackId("U"),
    name,
    team_id: store.identity.teamId,
    is_bot: false,
    is_restricted: false,
    is_ultra_restricted: false,
    is_stranger: false,
    deleted: false,
    ...rest,
  }
  store.users.set(user.id, user)
  for (const channel of store.channels.values()) if (!channel.is_private) channel.members.add(user.id)
  store.changed({ kind: "user", user: user.id })
  return user
}

export function addChannel(store: Store, asked: NewChannel): Channel {
  const members = new Set(
    asked.members ?? [...store.users.values()].filter((user) => !user.deleted).map((user) => user.id),
  )
  const bot = store.identity.botUserId
  if (asked.botIsMember ?? true) members.add(bot)
  else members.delete(bot)
  const channel: Channel = {
    id: asked.id ?? slackId("C"),
    name: asked.name,
    is_private: asked.is_private ?? false,
    is_ext_shared: asked.is_ext_shared ?? false,
    is_archived: asked.is_archived ?? false,
    members,
    created: Math.floor(Date.now() / 1000),
  }
  store.channels.set(channel.id, channel)
  store.changed({ kind: "channel", channel: channel.id })
  return channel
}

export function setGroup(store: Store, id: string, handle: string, members: string[]): void {
  store.groups.set(id, { id, handle, name: handle, users: [...members] })
  store.changed({ kind: "group" })
}
