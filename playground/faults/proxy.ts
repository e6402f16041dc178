import { once } from "node:events"
import { connect, createServer, type Socket } from "node:net"
import type { AddressInfo } from "node:net"

/** `before`: the COMMIT never reaches the server. `after`: it does, and its answer never comes back. */
export type CutWhen = "before" | "after"

export type PostgresProxy = {
  port: number
  /** A URL of the server, by way of this proxy. */
  url(direct: string): string
  /** Cuts the connection of each of the next `times` COMMITs that pass. */
  cutAtCommit(when: CutWhen, times?: number): void
  /** How many were cut. */
  cuts(): number
  /** Nothing passes any more, and nobody is told: a link that is half open. False: it flows again. */
  hold(on: boolean): void
  /** The same for good and for one link, one that was just in use: which of them, from 0 to 1. False when there is none. */
  holdOne(which: number): boolean
  /** Cuts everything that is open. */
  cutAll(): void
  stop(): Promise<void>
}

type Link = { client: Socket; server: Socket; usedAt: number }

const forgottenAfterMs = 60_000

/** Stands between a client and Postgres on 127.0.0.1, reads the client's messages and cuts where it is told to. */
export async function startPostgresProxy(serverPort: number): Promise<PostgresProxy> {
  const links = new Set<Link>()
  const plan = { when: "before" as CutWhen, left: 0, cuts: 0, held: false }
  const listener = createServer((client) => {
    const server = connect(serverPort, "127.0.0.1")
    const link: Link = { client, server, usedAt: 0 }
    links.add(link)
    const close = () => {
      links.delete(link)
      client.destroy()
      server.destroy()
    }
    for (const socket of [client, server]) socket.on("error", close).on("close", close)
    if (plan.held) for (const socket of [client, server]) socket.pause()
    server.on("data", (bytes: Buffer) => client.write(bytes))
    const split = createSplitter()
    client.on("data", (bytes: Buffer) => {
      link.usedAt = performance.now()
      for (const message of split(bytes)) {
        if (client.destroyed) return
        if (plan.left === 0 || !isCommit(message)) {
          server.write(message)
          continue
        }
        plan.left--
        plan.cuts++
        if (plan.when === "before") return close()
        // The server still reads what was sent before the end of the stream.
        server.removeListener("close", close)
        client.destroy()
        server.end(message)
        return
      }
    })
  }).listen(0, "127.0.0.1")
  await once(listener, "listening")
  const { port } = listener.address() as AddressInfo
  return {
    port,
    url: (direct) => Object.assign(new URL(direct), { port: String(port) }).href,
    cutAtCommit: (when, times = 1) => void Object.assign(plan, { when, left: times }),
    cuts: () => plan.cuts,
    hold(on) {
      plan.held = on
      for (const { client, server } of links)
        for (const socket of [client, server])
          if (on) socket.pause()
          else socket.resume()
    },
    holdOne(which) {
      const used = [...links].filter((link) => performance.now() - link.usedAt < 2_000 && !link.client.isPaused())
      const link = used[Math.floor(which * used.length)]
      if (link === undefined) return false
      for (const socket of [link.client, link.server]) socket.pause()
      // Whoever is silent is not heard to leave: what is left of it goes when nobody can wait for it any more.
      setTimeout(() => {
        for (const socket of [link.client, link.server]) socket.destroy()
      }, forgottenAfterMs).unref()
      return true
    },
    cutAll() {
      for (const { client, server } of links) for (const socket of [client, server]) socket.destroy()
    },
    async stop() {
      for (const { client, server } of links) for (const socket of [client, server]) socket.destroy()
      listener.close()
      await once(listener, "close")
    },
  }
}

/** Whole messages of the frontend protocol: the first has no type byte. */
function createSplitter(): (bytes: Buffer) => Buffer[] {
  let rest = Buffer.alloc(0)
  let started = false
  return (bytes) => {
    rest = Buffer.concat([rest, bytes])
    const messages: Buffer[] = []
    for (;;) {
      const head = started ? 1 : 0
      if (rest.length < head + 4) return messages
      const length = head + rest.readUInt32BE(head)
      if (rest.length < length) return messages
      messages.push(rest.subarray(0, length))
      rest = rest.subarray(length)
      started = true
    }
  }
}

/** A simple query, or a parsed one, that commits. */
function isCommit(message: Buffer): boolean {
  const type = String.fromCharCode(message[0] ?? 0)
  if (type !== "Q" && type !== "P") return false
  const text = message.subarray(5).toString("latin1")
  return /^\0*commit\b/i.test(text) || /;\s*commit\b/i.test(text)
}
