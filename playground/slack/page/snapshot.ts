import type { Block, Channel, Ephemeral, Message, Outcome, User, UserGroup, View } from "../types.ts"

export type ShownChannel = Omit<Channel, "members"> & { members: string[] }

/** What `/local/state` answers: the workspace as one person sees it. */
export type Snapshot = {
  team: { id: string; domain: string; bot: string }
  users: User[]
  groups: UserGroup[]
  channels: ShownChannel[]
  messages: Record<string, Message[]>
  ephemerals: Ephemeral[]
  views: View[]
}

/** Where a block stands, which is what pressing something in it has to say. */
export type Place = { channel: string; ts: string } | { viewId: string }
export type OnPress = (place: Place, element: BlockElement, option?: string) => Promise<Outcome>
export type BlockElement = Record<string, unknown>
export type Names = Pick<Snapshot, "users" | "groups" | "channels">
export type { Block, Ephemeral, Message, Outcome, User, View }
