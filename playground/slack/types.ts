/** Shapes of the pretended workspace, named as Slack names them on the wire. */
export type Json = Record<string, unknown>

export type User = {
  id: string
  name: string
  team_id: string
  is_bot: boolean
  is_restricted: boolean
  is_ultra_restricted: boolean
  is_stranger: boolean
  deleted: boolean
}

export type Channel = {
  id: string
  name: string
  is_private: boolean
  is_ext_shared: boolean
  is_archived: boolean
  members: Set<string>
  created: number
}

export type UserGroup = { id: string; handle: string; name: string; users: string[] }

export type Block = { type: string; block_id?: string } & Json

export type StoredFile = {
  id: string
  name: string
  title: string
  mimetype: string
  size: number
  url_private: string
}

export type Message = {
  channel: string
  ts: string
  user: string
  bot_id?: string
  text: string
  /** Empty when the message has none. */
  blocks: Block[]
  metadata?: Json
  thread_ts?: string
  reply_broadcast?: boolean
  edited?: { user: string; ts: string }
  files?: StoredFile[]
  /** Who would be called: user and group ids, `channel`, `here`, `everyone`. */
  mentions: string[]
}

export type Ephemeral = {
  channel: string
  to: string
  user: string
  text: string
  blocks: Block[]
  ts: string
  thread_ts?: string
}

export type View = Json & {
  id: string
  type: string
  blocks: Block[]
  hash: string
  callback_id: string
  private_metadata: string
  root_view_id: string
  previous_view_id: string | null
  external_id: string
  /** What the app answered with `response_action: "errors"`, by block id. */
  errors?: Record<string, string>
}

export type ApiCall = { method: string; args: Json; at: number; status: number; error?: string }

/** What became of something a person did: whether the app acknowledged it in time, and how. */
export type Outcome = { ok: boolean; status: number; ackMs: number; body: string; error?: string }

export type Identity = {
  teamId: string
  teamDomain: string
  appId: string
  botUserId: string
  botId: string
  botToken: string
  appToken: string
  signingSecret: string
  verificationToken: string
}
