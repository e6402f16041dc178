import { App, HTTPReceiver, LogLevel } from "@slack/bolt"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"

/** The smallest app that takes signed commands and clicks: it acks, and that is all. Its address goes to the parent. */
const signingSecret = process.env["BENCH_SIGNING_SECRET"] ?? ""
const receiver = new HTTPReceiver({ signingSecret, endpoints: "/slack/events", logLevel: LogLevel.WARN })
const app = new App({
  receiver,
  logLevel: LogLevel.WARN,
  authorize: async () => ({ botToken: "xoxb-bare", botId: "B0BARE", botUserId: "U0BARE" }),
})
app.command(/.*/, async ({ ack }) => ack())
app.action(/.*/, async ({ ack }) => ack())

const server = createServer((request, response) => receiver.requestListener(request, response))
server.listen(0, "127.0.0.1", () =>
  process.send?.({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/slack/events` }),
)
process.on("disconnect", () => process.exit(0))
