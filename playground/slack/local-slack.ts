import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { Delivery } from "./delivery.ts"
import { Faults } from "./faults.ts"
import { Forms } from "./forms.ts"
import type { SubmitAsked } from "./forms.ts"
import { People } from "./people.ts"
import type { ClickAsked, CommandAsked, SayAsked } from "./people.ts"
import { renderTranscript } from "./render-text.ts"
import { route } from "./routes.ts"
import { SocketMode } from "./socket-mode.ts"
import type { Delivery as DeliveryRecord, Store } from "./store.ts"
import type { ApiCall, Channel, Ephemeral, Message, Outcome, User, View } from "./types.ts"
import { waitFor } from "./watching.ts"
import { ALL_SCOPES } from "./web-api/serve.ts"
import { addChannel, addUser, createIdentity, createWorkspace, setGroup } from "./workspace.ts"
import type { NewChannel, NewUser } from "./workspace.ts"

export type { ApiCall, Channel, Ephemeral, Message, Outcome, User, View } from "./types.ts"

export type LocalSlackOptions = {
  /** Any free one when absent. */
  port?: number
  /** Where the bot takes signed requests; `setRequestUrl` can say it later. */
  requestUrl?: string
  /** The scopes of the bot token; all that such a bot needs when absent. */
  scopes?: readonly string[]
}

export type LocalSlack = {
  url: string
  apiUrl: string
  botToken: string
  appToken: string
  signingSecret: string
  botUserId: string
  setRequestUrl(url: string): void
  addUser(user: NewUser): User
  addChannel(channel: NewChannel): Channel
  setGroup(id: string, handle: string, members: string[]): void
  command(asked: CommandAsked): Promise<Outcome>
  click(asked: ClickAsked): Promise<Outcome>
  submit(asked: SubmitAsked): Promise<Outcome>
  closeView(asked: { user: string; viewId: string }): Promise<Outcome>
  say(asked: SayAsked): Message
  openViews(user: string): View[]
  messages(channel: string): Message[]
  replies(channel: string, ts: string): Message[]
  ephemerals(user: string): Ephemeral[]
  waitFor<T>(look: () => T | undefined | false | null, options?: { timeoutMs?: number; what?: string }): Promise<T>
  transcript(): string
  fileText(id: string): string | undefined
  calls: readonly ApiCall[]
  deliveries: readonly DeliveryRecord[]
  faults: Pick<Faults, "set" | "clear">
  redeliver(last: number, order?: (request: number) => number): Promise<Outcome[]>
  sendRaw(raw: { body: string; timestamp?: number | string; secret?: string }): Promise<number>
  /** Asks every Socket Mode client to connect anew. */
  refreshSockets(reason?: string): void
  stop(): Promise<void>
}

/** Starts a Slack for tests and the demo, on the loopback interface only. */
export async function startLocalSlack(options: LocalSlackOptions = {}): Promise<LocalSlack> {
  const identity = createIdentity()
  const store = createWorkspace(identity)
  const faults = new Faults()
  const server = createServer()
  const socket = new SocketMode(server, identity.appId)
  await new Promise<void>((resolve, reject) =>
    server.once("error", reject).listen(options.port ?? 0, "127.0.0.1", resolve),
  )
  const { port } = server.address() as AddressInfo
  const url = `http://127.0.0.1:${port}`
  const delivery = new Delivery(store, socket, options.requestUrl)
  const people = new People(store, delivery, () => url)
  const forms = new Forms(store, delivery, people)
  const socketUrl = (): string => `ws://127.0.0.1:${port}${socket.issueTicket()}`
  const context = { store, baseUrl: url, socketUrl, scopes: new Set(options.scopes ?? ALL_SCOPES) }
  server.on("request", (request, response) => {
    route(request, response, { store, people, forms, faults, context }).catch((error: unknown) => {
      response.writeHead(500).end(String(error))
    })
  })
  return {
    url,
    apiUrl: `${url}/api/`,
    botToken: identity.botToken,
    appToken: identity.appToken,
    signingSecret: identity.signingSecret,
    botUserId: identity.botUserId,
    setRequestUrl: (requestUrl) => void (delivery.requestUrl = requestUrl),
    addUser: (user) => addUser(store, user),
    addChannel: (channel) => addChannel(store, channel),
    setGroup: (id, handle, members) => setGroup(store, id, handle, members),
    command: (asked) => people.command(asked),
    click: (asked) => people.click(asked),
    submit: (asked) => forms.submit(asked),
    closeView: (asked) => forms.close(asked),
    say: (asked) => people.say(asked),
    ...looking(store, people),
    faults,
    redeliver: (last, order) => delivery.redeliver(last, order),
    sendRaw: (raw) => delivery.sendRaw(raw),
    refreshSockets: (reason) => socket.refresh(reason),
    stop: () =>
      new Promise<void>((resolve) => {
        socket.close()
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

type Looking = Pick<
  LocalSlack,
  "openViews" | "messages" | "replies" | "ephemerals" | "waitFor" | "transcript" | "fileText" | "calls" | "deliveries"
>

function looking(store: Store, people: People): Looking {
  const isReply = (message: Message): boolean => message.thread_ts !== undefined && message.thread_ts !== message.ts
  return {
    openViews: (user) => [...store.viewsOf(people.user(user).id)],
    messages: (channel) =>
      store.inChannel(people.channel(channel).id).filter((message) => !isReply(message) || message.reply_broadcast),
    replies: (channel, ts) =>
      store.inChannel(people.channel(channel).id).filter((message) => isReply(message) && message.thread_ts === ts),
    ephemerals: (user) => store.ephemerals.filter((seen) => seen.to === people.user(user).id),
    waitFor: (look, options) => waitFor(store, look, options),
    transcript: () => renderTranscript(store),
    fileText: (id) => store.uploads.get(id)?.bytes?.toString(),
    calls: store.calls,
    deliveries: store.deliveries,
  }
}
