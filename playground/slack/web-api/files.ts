import { randomBytes } from "node:crypto"
import { postMessage } from "../posting.ts"
import type { NewMessage } from "../posting.ts"
import type { StoredFile } from "../types.ts"
import { json, refuse, text, writableChannel } from "./method.ts"
import type { Answer, Args, CallContext, Method } from "./method.ts"

const types: Record<string, string> = {
  txt: "text/plain",
  md: "text/markdown",
  sql: "text/plain",
  csv: "text/csv",
  json: "application/json",
  png: "image/png",
  svg: "image/svg+xml",
}

function uploadUrl(args: Args, { store, baseUrl }: CallContext): Answer {
  const name = text(args, "filename")
  const size = Number(text(args, "length"))
  if (!name || !Number.isInteger(size) || size <= 0) return refuse("invalid_arguments")
  const id = `F${randomBytes(5).toString("hex").toUpperCase()}`
  const mimetype = types[name.split(".").at(-1) ?? ""] ?? "application/octet-stream"
  const file: StoredFile = {
    id,
    name,
    title: name,
    mimetype,
    size,
    url_private: `${baseUrl}/files/${id}/${encodeURIComponent(name)}`,
  }
  store.uploads.set(id, { file, bytes: null, shared: false })
  return { ok: true, upload_url: `${baseUrl}/upload/v1/${id}`, file_id: id }
}

function complete(args: Args, { store }: CallContext): Answer {
  const wanted = json(args, "files")
  if (!Array.isArray(wanted) || wanted.length === 0) return refuse("invalid_arguments")
  const files: StoredFile[] = []
  for (const { id, title } of wanted as { id: string; title?: string }[]) {
    const upload = store.uploads.get(id)
    if (!upload?.bytes) return refuse("file_not_found")
    if (upload.shared) return refuse("file_already_completed")
    if (title) upload.file.title = title
    files.push(upload.file)
  }
  const refusal = share(args, store, files)
  if (refusal) return refusal
  for (const file of files) Object.assign(store.uploads.get(file.id) ?? {}, { shared: true })
  return { ok: true, files }
}

function share(args: Args, store: CallContext["store"], files: StoredFile[]): Answer | undefined {
  const id = text(args, "channel_id")
  if (!id) return undefined
  const target = writableChannel(store, id)
  if ("error" in target) return refuse(target.error)
  const asked: NewMessage = {
    channel: target.channel.id,
    user: store.identity.botUserId,
    text: text(args, "initial_comment"),
    files,
  }
  const thread = text(args, "thread_ts")
  if (thread && !store.findMessage(target.channel.id, thread)) return refuse("thread_not_found")
  if (thread) asked.thread_ts = thread
  postMessage(store, asked)
  return undefined
}

const scopes = ["files:write"]

export const fileMethods: Record<string, Method> = {
  "files.getUploadURLExternal": { scopes, run: uploadUrl },
  "files.completeUploadExternal": { scopes, run: complete },
}
