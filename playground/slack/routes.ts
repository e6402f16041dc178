import type { IncomingMessage, ServerResponse } from "node:http"
import type { Faults } from "./faults.ts"
import type { Forms } from "./forms.ts"
import { readBody, sendJson, sendText } from "./http.ts"
import { serveLocal } from "./local-routes.ts"
import { servePage } from "./page/serve-page.ts"
import type { People } from "./people.ts"
import { answerResponseUrl } from "./response-url.ts"
import type { Store } from "./store.ts"
import type { Json } from "./types.ts"
import type { CallContext } from "./web-api/method.ts"
import { serveWebApi } from "./web-api/serve.ts"

export type Routes = { store: Store; people: People; forms: Forms; faults: Faults; context: CallContext }

/** One door for everything: the Web API, response URLs, uploads, `/local/…` and the page. */
export async function route(request: IncomingMessage, response: ServerResponse, routes: Routes): Promise<void> {
  const [, first = "", ...rest] = new URL(request.url ?? "/", "http://local").pathname.split("/")
  if (first === "api") return serveWebApi(request, response, { method: rest.join("/"), ...routes })
  if (first === "local") return serveLocal(request, response, rest.join("/"), routes)
  if (first === "commands" || first === "actions")
    return takeResponse(request, response, rest.at(-1) ?? "", routes.store)
  if (first === "upload") return receiveUpload(request, response, rest.at(-1) ?? "", routes.store)
  if (first === "files") return sendFile(response, rest[0] ?? "", routes.store)
  return servePage(response, first)
}

async function takeResponse(
  request: IncomingMessage,
  response: ServerResponse,
  token: string,
  store: Store,
): Promise<void> {
  const body = (await readBody(request)).toString()
  let parsed: Json
  try {
    parsed = JSON.parse(body) as Json
  } catch {
    return sendJson(response, 400, { ok: false, error: "invalid_payload" })
  }
  const answer = answerResponseUrl(store, token, parsed)
  sendJson(response, answer.status, answer.body)
}

async function receiveUpload(
  request: IncomingMessage,
  response: ServerResponse,
  id: string,
  store: Store,
): Promise<void> {
  const upload = store.uploads.get(id)
  if (!upload) return sendText(response, 404, "no such upload")
  const body = await readBody(request)
  const boundary = /boundary=(.+)$/.exec(request.headers["content-type"] ?? "")?.[1]
  upload.bytes = boundary ? firstPart(body) : body
  if (upload.bytes.length !== upload.file.size) return sendText(response, 400, "size differs from what was announced")
  sendText(response, 200, `OK - ${upload.bytes.length}`)
}

function firstPart(body: Buffer): Buffer {
  const boundary = body.subarray(0, body.indexOf("\r\n"))
  const start = body.indexOf("\r\n\r\n") + 4
  return body.subarray(start, body.indexOf(Buffer.concat([Buffer.from("\r\n"), boundary]), start))
}

/** Markup is never served as such: an uploaded file must not run in this page's origin. */
function sendFile(response: ServerResponse, id: string, store: Store): void {
  const upload = store.uploads.get(id)
  if (!upload?.bytes) return sendText(response, 404, "no such file")
  const { mimetype } = upload.file
  sendText(response, 200, upload.bytes, mimetype.startsWith("image/png") ? mimetype : "text/plain; charset=utf-8")
}
