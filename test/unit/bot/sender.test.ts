import { once } from "node:events"
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { afterEach, expect, it } from "vitest"
import { createClients, type SlackClients } from "../../../src/bot/clients.ts"
import { createSender } from "../../../src/bot/sender.ts"

type Asked = { limit: number; oldest: string; latest?: string; cursor?: string }
const nowS = Math.floor(Date.now() / 1000)
const dayAgoS = nowS - 86_400

/** A channel or thread of very many messages over a day, ours among them; Slack's pages of it, in Slack's order. */
function busySlack(oursAtS: number | null) {
  const others = Array.from({ length: 9_000 }, (_, n) => ({ ts: String(dayAgoS + n * 9 + 0.5), metadata: {} }))
  const ours = { event_type: "stepback_message", event_payload: { key: "r/card" } }
  const all = oursAtS === null ? others : [...others, { ts: String(oursAtS), metadata: ours }]
  const calls = { count: 0 }
  const pages = (newestFirst: boolean) => async (asked: Asked) => {
    calls.count++
    const shown = all
      .filter(({ ts }) => Number(ts) > Number(asked.oldest) && Number(ts) < Number(asked.latest ?? Infinity))
      .sort((a, b) => (newestFirst ? -1 : 1) * (Number(a.ts) - Number(b.ts)))
    const from = Number(asked.cursor ?? 0)
    const next = from + asked.limit
    return {
      messages: shown.slice(from, next),
      response_metadata: { next_cursor: next < shown.length ? String(next) : "" },
    }
  }
  const conversations = { history: pages(true), replies: pages(false) }
  return { calls, sender: createSender({ send: { conversations } } as unknown as SlackClients) }
}

it.each([
  ["a channel, posted when it was due", null, dayAgoS + 5],
  ["a channel, posted a moment ago", null, nowS - 5],
  ["a thread, posted when it was due", String(dayAgoS), dayAgoS + 5],
  ["a thread, posted a moment ago", String(dayAgoS), nowS - 5],
])("finds a message among thousands of others: in %s", async (_, threadTs, atS) => {
  const { sender } = busySlack(atS)
  const since = new Date(dayAgoS * 1000).toISOString()
  expect(await sender.find({ channel: "C1", threadTs, key: "r/card", since })).toMatchObject({
    kind: "found",
    ts: String(atS),
  })
})

it("comes to an end where a message is not, with fewer calls than Slack answers in a minute", async () => {
  const { sender, calls } = busySlack(null)
  const since = new Date(dayAgoS * 1000).toISOString()
  expect(await sender.find({ channel: "C1", threadTs: null, key: "r/card", since })).toEqual({ kind: "none" })
  expect(calls.count).toBeLessThan(50)
})

let slack: Server | undefined
afterEach(() => slack?.close())

/** A real client's sender, before a server that answers all with these words. */
async function slackThatSays(body: string) {
  slack = createServer((request, response) => void request.resume().on("end", () => response.end(body)))
  await once(slack.listen(0, "127.0.0.1"), "listening")
  return createSender(createClients("xoxb-1", `http://127.0.0.1:${(slack.address() as AddressInfo).port}/`))
}

const words = { channel: "C1", key: "r/card", drawn: { text: "words" } }
const place = { channel: "C1", threadTs: null, key: "r/card", since: new Date().toISOString() }

it.each(["<html><body>We will be back soon</body></html>", "", '{"ok":true,"ts":"1'])(
  "%j is no answer of Slack's: nobody knows whether the message is there",
  async (page) => {
    const sender = await slackThatSays(page)
    expect(await sender.post({ ...words, threadTs: null })).toMatchObject({ kind: "unknown" })
    expect(await sender.update({ ...words, ts: "1" })).toMatchObject({ kind: "unknown" })
    expect(await sender.find(place)).toEqual({ kind: "unknown" })
    expect(await sender.remove({ channel: "C1", ts: "1" })).toBe(false)
  },
)

it("a code is Slack's own answer", async () => {
  const sender = await slackThatSays('{"ok":false,"error":"invalid_blocks"}')
  expect(await sender.post({ ...words, threadTs: null })).toEqual({
    kind: "refused",
    error: "invalid_blocks",
    hopeless: false,
  })
})

it.each([
  "accesslimited",
  "access_denied",
  "team_access_not_granted",
  "two_factor_setup_required",
  "not_allowed_token_type",
])("%s is about the token or the network: the message is kept until that is mended", async (code) => {
  const sender = await slackThatSays(JSON.stringify({ ok: false, error: code }))
  expect(await sender.post({ ...words, threadTs: null })).toEqual({ kind: "unknown", error: code })
  expect(await sender.find(place)).toEqual({ kind: "unknown" })
})

it("a limit without a time is waited for all the same", async () => {
  slack = createServer((request, response) => {
    request.resume().on("end", () => response.writeHead(429, { "retry-after": "0" }).end())
  })
  await once(slack.listen(0, "127.0.0.1"), "listening")
  const sender = createSender(createClients("xoxb-1", `http://127.0.0.1:${(slack.address() as AddressInfo).port}/`))
  expect(await sender.update({ ...words, ts: "1" })).toEqual({ kind: "limited", waitMs: 1_000 })
})
