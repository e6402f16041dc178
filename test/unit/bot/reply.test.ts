import { once } from "node:events"
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { afterEach, expect, it } from "vitest"
import type { SlackClients } from "../../../src/bot/clients.ts"
import { createReply } from "../../../src/bot/reply.ts"
import { createLogger } from "../../../src/log.ts"

let address: Server | undefined
afterEach(() => address?.close())

/** An address for answers that says this, and what reached the person in the other way. */
async function replied(status: number, body: string): Promise<string[]> {
  address = createServer((request, response) => {
    request.resume().on("end", () => response.writeHead(status).end(body))
  }).listen(0, "127.0.0.1")
  await once(address, "listening")
  const told: string[] = []
  const ask = { chat: { postEphemeral: async ({ text }: { text: string }) => void told.push(text) } }
  const reply = createReply({ ask } as unknown as SlackClients, createLogger({ level: "silent", role: "bot" }))
  const { port } = address.address() as AddressInfo
  await reply({ responseUrl: `http://127.0.0.1:${port}/`, channelId: "C1", userId: "U1" }, "no")
  return told
}

it.each([
  [200, "ok"],
  [200, ""],
  [200, '{"ok":true}'],
])("an address that answers %i %j has told the person", async (status, body) => {
  expect(await replied(status, body)).toEqual([])
})

it.each([
  [404, "expired_url"],
  [500, ""],
  [200, '{"ok":false,"error":"expired_url"}'],
])("an address that answers %i %j has not: the person is told in the channel", async (status, body) => {
  expect(await replied(status, body)).toEqual(["no"])
})

it("who is not in the channel, as one who filled in a form elsewhere, is told in a message of their own", async () => {
  const told: { channel: string; text: string }[] = []
  const chat = {
    postEphemeral: async () =>
      Promise.reject(Object.assign(new Error(), { data: { ok: false, error: "user_not_in_channel" } })),
    postMessage: async (message: { channel: string; text: string }) => void told.push(message),
  }
  const reply = createReply(
    { ask: { chat } } as unknown as SlackClients,
    createLogger({ level: "silent", role: "bot" }),
  )
  await reply({ responseUrl: null, channelId: "C1", userId: "U1" }, "no")
  expect(told).toEqual([expect.objectContaining({ channel: "U1", text: "no" })])
})
