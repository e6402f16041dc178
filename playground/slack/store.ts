import { EventEmitter } from "node:events"
import { randomBytes } from "node:crypto"
import type {
  ApiCall,
  Block,
  Channel,
  Ephemeral,
  Identity,
  Message,
  Outcome,
  StoredFile,
  User,
  UserGroup,
  View,
} from "./types.ts"

export type Trigger = { id: string; user: string; expiresAt: number; used: boolean; viewId: string | null }
export type ResponseUrl = {
  token: string
  user: string
  channel: string
  messageTs: string | null
  thread: string | null
  ephemeral: boolean
  expiresAt: number
  uses: number
}
export type Delivery = { kind: string; at: number; payload: unknown; outcome: Outcome | null }
export type Upload = { file: StoredFile; bytes: Buffer | null; shared: boolean }

/** Everything the pretended workspace knows. `change` fires after every change of any of it. */
export class Store extends EventEmitter {
  readonly identity: Identity
  readonly users = new Map<string, User>()
  readonly channels = new Map<string, Channel>()
  readonly groups = new Map<string, UserGroup>()
  readonly messages = new Map<string, Message[]>()
  readonly ephemerals: Ephemeral[] = []
  readonly views = new Map<string, View[]>()
  readonly triggers = new Map<string, Trigger>()
  readonly responseUrls = new Map<string, ResponseUrl>()
  readonly uploads = new Map<string, Upload>()
  readonly calls: ApiCall[] = []
  readonly deliveries: Delivery[] = []
  private lastTs = 0

  constructor(identity: Identity) {
    super()
    this.setMaxListeners(0)
    this.identity = identity
  }

  changed(what: { kind: string; channel?: string; ts?: string; user?: string }): void {
    this.emit("change", what)
  }

  /** Microseconds, strictly growing, as Slack's `ts`. */
  nextTs(): string {
    this.lastTs = Math.max(this.lastTs + 1, Date.now() * 1000)
    return `${Math.floor(this.lastTs / 1_000_000)}.${String(this.lastTs % 1_000_000).padStart(6, "0")}`
  }

  inChannel(channel: string): Message[] {
    const known = this.messages.get(channel)
    if (known) return known
    const created: Message[] = []
    this.messages.set(channel, created)
    return created
  }

  findMessage(channel: string, ts: string): Message | undefined {
    return this.inChannel(channel).find((message) => message.ts === ts)
  }

  addMessage(message: Message): Message {
    this.inChannel(message.channel).push(message)
    this.changed({ kind: "message", channel: message.channel, ts: message.ts })
    return message
  }

  removeMessage(channel: string, ts: string): void {
    const list = this.inChannel(channel)
    const index = list.findIndex((message) => message.ts === ts)
    if (index >= 0) list.splice(index, 1)
    this.changed({ kind: "deleted", channel, ts })
  }

  viewsOf(user: string): View[] {
    const known = this.views.get(user)
    if (known) return known
    const created: View[] = []
    this.views.set(user, created)
    return created
  }

  findView(id: string): { view: View; user: string } | undefined {
    for (const [user, stack] of this.views) {
      const view = stack.find((candidate) => candidate.id === id)
      if (view) return { view, user }
    }
    return undefined
  }
}

/** Slack fills in the ids that an app leaves out. */
export function withIds(blocks: Block[]): Block[] {
  return structuredClone(blocks).map((block) => {
    const named: Block = { ...block, block_id: block.block_id ?? randomBytes(3).toString("base64url") }
    for (const element of elementsOf(named)) element["action_id"] ??= randomBytes(3).toString("base64url")
    return named
  })
}

const interactive = /button|select|overflow|radio|checkboxes|picker|input$/

/** The interactive elements of a block, wherever its type keeps them. */
export function elementsOf(block: Block): Record<string, unknown>[] {
  const nested = Array.isArray(block["child_blocks"]) ? (block["child_blocks"] as Block[]).flatMap(elementsOf) : []
  const carousel = block.type === "carousel" ? ((block["elements"] ?? []) as Block[]).flatMap(elementsOf) : []
  const own = [block["elements"], block["actions"], block["accessory"], block["element"]]
    .flat()
    .filter((element): element is Record<string, unknown> => typeof element === "object" && element !== null)
    .filter((element) => interactive.test(String(element["type"])))
  return [...own, ...nested, ...carousel]
}
