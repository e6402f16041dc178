import type { IncomingMessage, RequestListener } from "node:http"
import { parse as parseForm } from "node:querystring"
import type { Logger } from "../log.ts"

/** A request whose time is this far from ours, to either side, is refused. Slack's own figure for the past. */
const clockToleranceS = 300

/** What every request from outside goes through before Bolt has it. */
export function atTheDoor(listener: RequestListener, log: Logger): RequestListener {
  return withinTime(withType(withBody(listener)), log)
}

/** Anybody can send such requests: they must not fill the log. */
const saidEveryMs = 60_000

/** Bolt refuses what is too old; what claims to be from the future is refused here. */
function withinTime(listener: RequestListener, log: Logger): RequestListener {
  let saidAt = -Infinity
  return (request, response) => {
    const secondsApart = Math.round(Date.now() / 1000 - Number(request.headers["x-slack-request-timestamp"]))
    if (!(Math.abs(secondsApart) <= clockToleranceS)) {
      if (performance.now() - saidAt > saidEveryMs) {
        saidAt = performance.now()
        // With a clock that is off every request of Slack's is one of these, and people hear from Slack alone.
        log.warn({ secondsApart }, "a request was refused for its time: if Slack sent it, this machine's clock is off")
      }
      request.resume()
      response.writeHead(401).end()
      return
    }
    listener(request, response)
  }
}

/**
 * Bolt takes a form for one by these very words. HTTP allows others for the same: a charset behind them, as a proxy or a
 * compatible server adds it, or capitals.
 */
function withType(listener: RequestListener): RequestListener {
  return (request, response) => {
    const [type] = (request.headers["content-type"] ?? "").split(";")
    request.headers["content-type"] = type?.trim().toLowerCase()
    listener(request, response)
  }
}

/** As much as Bolt would read; Slack sends far less. */
const mostBytes = 4 * 1024 * 1024

/**
 * Reads the body before Bolt does, which takes what is there. It parses a body that is JSON's `null` and then reads it as
 * an object, in a promise that nobody handles: whoever holds the signing secret could end the process.
 */
function withBody(listener: RequestListener): RequestListener {
  return (request, response) => {
    const refuse = (status: number) => {
      request.resume()
      if (!response.headersSent) response.writeHead(status).end()
    }
    readBody(request)
      .then((rawBody) => {
        if (rawBody === null) return refuse(413)
        return isNothing(rawBody.toString(), request.headers["content-type"])
          ? refuse(400)
          : listener(Object.assign(request, { rawBody }), response)
      })
      // The sender went away, or it is not for Bolt.
      .catch(() => refuse(400))
  }
}

async function readBody(request: IncomingMessage): Promise<Buffer | null> {
  const parts: Buffer[] = []
  let size = 0
  // Left open when there is too much: the rest is read away, else the sender's next request on this connection is lost.
  for await (const part of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    size += part.length
    if (size > mostBytes) return null
    parts.push(part)
  }
  return Buffer.concat(parts)
}

function isNothing(body: string, contentType: string | undefined): boolean {
  const json = contentType === "application/x-www-form-urlencoded" ? parseForm(body)["payload"] : body
  return typeof json === "string" && json.trim() === "null"
}
