import { createHmac, randomUUID } from "node:crypto"
import { Agent, createServer, request as startRequest } from "node:http"
import type { AddressInfo } from "node:net"
import { setTimeout as pause } from "node:timers/promises"

/** Sends signed commands and clicks, some at once, and tells how long each took to be acked. A process of its own. */
export type AckLoad = {
  url: string
  signingSecret: string
  users: string[]
  channel: string
  teamId: string
  requests: number
  atOnce: number
}
export type AckTimes = { command: number[]; click: number[]; seconds: number }

/** Where Stepback's later answers to the person go: taken and forgotten. */
let answered = 0
const answers = createServer((request, response) => {
  answered++
  request.resume()
  request.on("end", () => response.end("ok"))
})
const listening = new Promise<string>((resolve) =>
  answers.listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${(answers.address() as AddressInfo).port}/answer`)),
)

const words = ["status", "help", "status bench", "history"]

function bodyOf(load: AckLoad, n: number, responseUrl: string): { kind: "command" | "click"; body: string } {
  const user = load.users[n % load.users.length] ?? ""
  const triggerId = `${Date.now()}.${n}.${randomUUID().replaceAll("-", "")}`
  if (n % 2 === 0) {
    const text = words[(n / 2) % words.length] ?? "help"
    const fields = {
      token: "x",
      team_id: load.teamId,
      team_domain: "local",
      channel_id: load.channel,
      channel_name: "staging",
      user_id: user,
      user_name: "p",
      command: "/rollback",
      text,
      api_app_id: "A0STEPBACK",
      is_enterprise_install: "false",
      response_url: responseUrl,
      trigger_id: triggerId,
    }
    return { kind: "command", body: new URLSearchParams(fields).toString() }
  }
  const payload = {
    type: "block_actions",
    user: { id: user, username: "p", name: "p", team_id: load.teamId },
    api_app_id: "A0STEPBACK",
    token: "x",
    team: { id: load.teamId, domain: "local" },
    enterprise: null,
    is_enterprise_install: false,
    container: { type: "message", message_ts: "1.0", channel_id: load.channel, is_ephemeral: false },
    trigger_id: triggerId,
    channel: { id: load.channel, name: "staging" },
    state: { values: {} },
    response_url: responseUrl,
    actions: [
      {
        type: "button",
        action_id: "approve",
        block_id: "b",
        value: randomUUID(),
        text: { type: "plain_text", text: "Approve" },
        action_ts: "1.0",
      },
    ],
  }
  return { kind: "click", body: new URLSearchParams({ payload: JSON.stringify(payload) }).toString() }
}

/** Bursts of so many at once, made ready beforehand: what is measured is the ack, not this process's own work. */
async function run(load: AckLoad): Promise<AckTimes> {
  const responseUrl = await listening
  const agent = new Agent({ keepAlive: true, maxSockets: load.atOnce })
  const times: AckTimes = { command: [], click: [], seconds: 0 }
  for (let first = 0; first < load.requests; first += load.atOnce) {
    const burst = Array.from({ length: load.atOnce }, (_, n) => {
      const { kind, body } = bodyOf(load, first + n, responseUrl)
      return { kind, body, headers: headersOf(load, body) }
    })
    const began = performance.now()
    await Promise.all(
      burst.map(async ({ kind, body, headers }) => {
        const started = performance.now()
        await post(load, body, headers, agent)
        times[kind].push(performance.now() - started)
      }),
    )
    times.seconds += (performance.now() - began) / 1000
    await quiet()
  }
  agent.destroy()
  return times
}

/** What follows the acks of one measurement must not be work beside the next. */
async function quiet(): Promise<void> {
  for (let seen = -1; seen !== answered;) {
    seen = answered
    await pause(120)
  }
}

function headersOf(load: AckLoad, body: string): Record<string, string | number> {
  const timestamp = String(Math.floor(Date.now() / 1000))
  const signature = `v0=${createHmac("sha256", load.signingSecret).update(`v0:${timestamp}:${body}`).digest("hex")}`
  return {
    "content-type": "application/x-www-form-urlencoded",
    "content-length": Buffer.byteLength(body),
    "x-slack-request-timestamp": timestamp,
    "x-slack-signature": signature,
  }
}

function post(load: AckLoad, body: string, headers: Record<string, string | number>, agent: Agent): Promise<void> {
  return new Promise((resolve, reject) => {
    const sent = startRequest(load.url, { method: "POST", headers, agent }, (response) => {
      response.resume()
      response.on("end", () =>
        response.statusCode === 200 ? resolve() : reject(new Error(`answered ${response.statusCode}`)),
      )
    })
    sent.on("error", reject)
    sent.end(body)
  })
}

process.on("message", (load: AckLoad) => {
  run(load).then(
    (times) => process.send?.(times),
    (error: unknown) => {
      process.stderr.write(`${String(error)}\n`)
      process.exit(1)
    },
  )
})
process.on("disconnect", () => process.exit(0))
