import { createServer } from "node:http"
import type { Server } from "node:http"
import type { AddressInfo } from "node:net"
import { setTimeout as delay } from "node:timers/promises"
import { LogLevel, WebClient } from "@slack/web-api"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { startLocalSlack } from "../../playground/slack/local-slack.ts"
import type { LocalSlack } from "../../playground/slack/local-slack.ts"

type Received = { body: URLSearchParams; signature: string }

/** Refusals are what these tests are about: they need no lines on the terminal. */
const silent = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  setLevel() {},
  getLevel: () => LogLevel.ERROR,
  setName() {},
}

let slack: LocalSlack
let web: WebClient
let app: Server
let received: Received[]
/** What the app answers to the next request; never, when null. */
let answer: string | null

beforeEach(async () => {
  received = []
  answer = ""
  app = createServer((request, response) => {
    let body = ""
    request.on("data", (chunk: Buffer) => (body += chunk.toString()))
    request.on("end", () => {
      received.push({ body: new URLSearchParams(body), signature: String(request.headers["x-slack-signature"]) })
      if (answer === null) return
      response.writeHead(200, { "content-type": "application/json" }).end(answer)
    })
  })
  await new Promise<void>((resolve) => app.listen(0, "127.0.0.1", resolve))
  slack = await startLocalSlack({ requestUrl: `http://127.0.0.1:${(app.address() as AddressInfo).port}/slack/events` })
  web = new WebClient(slack.botToken, { slackApiUrl: slack.apiUrl, retryConfig: { retries: 0 }, logger: silent })
})

afterEach(async () => {
  await slack.stop()
  app.closeAllConnections()
  await new Promise((resolve) => app.close(resolve))
})

const button = (label: string) => ({
  type: "button" as const,
  action_id: label.toLowerCase(),
  text: { type: "plain_text" as const, text: label },
  value: `value of ${label}`,
})
const card = (...labels: string[]) => [
  { type: "section" as const, text: { type: "mrkdwn" as const, text: "Roll back?" } },
  { type: "actions" as const, elements: labels.map(button) },
]
const post = async (labels: string[]): Promise<string> =>
  (await web.chat.postMessage({ channel: "C0STAGING", text: "card", blocks: card(...labels) })).ts ?? ""

describe("pressing", () => {
  it("sends what the button says, and only buttons that are there now", async () => {
    const ts = await post(["Approve", "Deny"])
    const outcome = await slack.click({ user: "bob", channel: "staging", ts, action: "Approve" })
    expect(outcome).toMatchObject({ ok: true, status: 200 })
    const payload = JSON.parse(received[0]?.body.get("payload") ?? "") as Record<string, unknown>
    expect(payload).toMatchObject({
      type: "block_actions",
      user: { id: "U0BOB" },
      actions: [{ action_id: "approve", value: "value of Approve" }],
    })
    await web.chat.update({ channel: "C0STAGING", ts, text: "approved" })
    expect(slack.messages("staging")[0]).toMatchObject({ text: "approved", blocks: [] })
    await expect(slack.click({ user: "bob", channel: "staging", ts, action: "Approve" })).rejects.toThrow(
      /no "Approve" here now/,
    )
  })

  it("calls an acknowledgement after three seconds a failure, and tells the person", async () => {
    answer = null
    const outcome = await slack.command({ user: "alice", channel: "staging", text: "staging" })
    expect(outcome).toMatchObject({ ok: false, error: "operation_timeout" })
    expect(slack.ephemerals("alice")[0]?.text).toContain("operation_timeout")
  }, 6000)

  it("knows no other commands than the app's", async () => {
    const outcome = await slack.command({ user: "alice", channel: "staging", command: "/rolback", text: "staging" })
    expect(outcome).toMatchObject({ ok: false, error: "dispatch_failed" })
    expect(slack.ephemerals("alice")[0]?.text).toContain("not a valid command")
    expect(received).toEqual([])
  })

  it("prefers a connected socket, and takes its acknowledgement", async () => {
    const opened = await new WebClient(slack.appToken, { slackApiUrl: slack.apiUrl }).apps.connections.open()
    const socket = new WebSocket(opened.url ?? "")
    const envelopes: Record<string, unknown>[] = []
    socket.addEventListener("message", ({ data }) => {
      const envelope = JSON.parse(String(data)) as Record<string, unknown>
      envelopes.push(envelope)
      const { envelope_id } = envelope
      if (envelope_id) socket.send(JSON.stringify({ envelope_id, payload: { text: "looking" } }))
    })
    await expect.poll(() => envelopes[0]?.["type"]).toBe("hello")
    expect(await slack.command({ user: "alice", channel: "staging", text: "staging" })).toMatchObject({ ok: true })
    expect(envelopes[1]).toMatchObject({ type: "slash_commands", payload: { command: "/rollback", text: "staging" } })
    expect(slack.ephemerals("alice")[0]?.text).toBe("looking")
    expect(received).toEqual([])
  })

  it("delivers the very same request again", async () => {
    await slack.command({ user: "alice", channel: "staging", text: "staging" })
    await slack.redeliver(1)
    expect(received[1]?.signature).toBe(received[0]?.signature)
    expect(received[1]?.body.toString()).toBe(received[0]?.body.toString())
  })
})

describe("modals", () => {
  const view = {
    type: "modal" as const,
    title: { type: "plain_text" as const, text: "Deny" },
    submit: { type: "plain_text" as const, text: "Deny" },
    blocks: [
      {
        type: "input" as const,
        block_id: "reason",
        label: { type: "plain_text" as const, text: "Reason" },
        element: { type: "plain_text_input" as const, action_id: "text" },
      },
    ],
  }
  const trigger = async (): Promise<string> => {
    await slack.command({ user: "alice", channel: "staging", text: "staging" })
    return received.at(-1)?.body.get("trigger_id") ?? ""
  }

  it("opens one view for one trigger, within three seconds", async () => {
    const trigger_id = await trigger()
    await web.views.open({ trigger_id, view })
    await expect(web.views.open({ trigger_id, view })).rejects.toThrow("exchanged_trigger_id")
    const late = await trigger()
    await delay(3050)
    await expect(web.views.open({ trigger_id: late, view })).rejects.toThrow("expired_trigger_id")
  }, 8000)

  it("keeps a form open whose answer was errors, and closes it on an empty one", async () => {
    await web.views.open({ trigger_id: await trigger(), view })
    const viewId = slack.openViews("alice")[0]?.id ?? ""
    expect(await slack.submit({ user: "alice", viewId, values: {} })).toMatchObject({ ok: false, status: 0 })
    answer = JSON.stringify({ response_action: "errors", errors: { reason: "say more" } })
    await slack.submit({ user: "alice", viewId, values: { Reason: "no" } })
    expect(slack.openViews("alice")[0]?.errors).toEqual({ reason: "say more" })
    answer = ""
    await slack.submit({ user: "alice", viewId, values: { Reason: "not needed" } })
    expect(slack.openViews("alice")).toEqual([])
  })
})

describe("the Web API", () => {
  it.each([
    ["an unknown block", [{ type: "sparkles" }], "unsupported type: sparkles [json-pointer:/blocks/0/type]"],
    [
      "an unknown field",
      [{ type: "divider", colour: "red" }],
      "invalid additional property: colour [json-pointer:/blocks/0]",
    ],
    [
      "a long text",
      [{ type: "section", text: { type: "mrkdwn", text: "x".repeat(3001) } }],
      "must be less than 3001 characters [json-pointer:/blocks/0/text/text]",
    ],
    [
      "an empty text",
      [{ type: "section", text: { type: "mrkdwn", text: "" } }],
      "must be more than 0 characters [json-pointer:/blocks/0/text/text]",
    ],
    [
      "a modal's block",
      [{ type: "alert", text: { type: "plain_text", text: "x" } }],
      "unsupported type: alert [json-pointer:/blocks/0/type]",
    ],
    [
      "a missing field",
      [{ type: "task_card", title: "x", status: "pending" }],
      "missing required field: task_id [json-pointer:/blocks/0]",
    ],
    ["one action twice", card("Stop", "Stop"), "action_id `stop` already exists [json-pointer:/blocks/1]"],
  ])("refuses %s", async (_, blocks, message) => {
    const answered = web.apiCall("chat.postMessage", { channel: "C0STAGING", text: "card", blocks })
    await expect(answered).rejects.toMatchObject({
      data: { error: "invalid_blocks", response_metadata: { messages: [`[ERROR] ${message}`] } },
    })
    expect(slack.messages("staging")).toEqual([])
  })

  it("refuses what the token may not do, and methods that do not exist", async () => {
    await expect(web.apiCall("chat.shout", {})).rejects.toThrow("unknown_method")
    await expect(
      new WebClient("xoxb-wrong", { slackApiUrl: slack.apiUrl, logger: silent }).auth.test(),
    ).rejects.toThrow("invalid_auth")
    slack.addChannel({ id: "C0SECRET", name: "secret", is_private: true, botIsMember: false })
    await expect(web.chat.postMessage({ channel: "C0SECRET", text: "x" })).rejects.toThrow("channel_not_found")
    const blocks = Array.from({ length: 5 }, () => ({
      type: "section" as const,
      text: { type: "mrkdwn" as const, text: "x".repeat(2900) },
    }))
    await expect(web.chat.postMessage({ channel: "C0STAGING", text: "x", blocks })).rejects.toThrow(
      "msg_blocks_too_long",
    )
  })

  it("keeps a message whose answer was lost, to be found by its metadata", async () => {
    slack.faults.set({ methods: ["chat.postMessage"], kind: "drop_after_accept", times: 1 })
    const metadata = { event_type: "card", event_payload: { key: "k1" } }
    await expect(web.chat.postMessage({ channel: "C0STAGING", text: "once", metadata })).rejects.toThrow()
    const { messages } = await web.conversations.history({ channel: "C0STAGING", include_all_metadata: true })
    expect(messages).toHaveLength(1)
    expect(messages?.[0]?.metadata).toEqual(metadata)
  })

  it("knows whom a message calls", async () => {
    const plain = { type: "section" as const, text: { type: "plain_text" as const, text: "<!channel> <@U0CAROL>" } }
    const marked = {
      type: "section" as const,
      text: { type: "mrkdwn" as const, text: "<!subteam^S0ONCALL> and &lt;!here&gt;", verbatim: true },
    }
    await web.chat.postMessage({ channel: "C0STAGING", text: "<@U0BOB>", blocks: [plain, marked] })
    expect(slack.messages("staging")[0]?.mentions).toEqual(["U0BOB", "S0ONCALL"])
  })
})
