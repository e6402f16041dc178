import { randomBytes } from "node:crypto"
import { withIds } from "./store.ts"
import type { Store } from "./store.ts"
import type { Block, Json, View } from "./types.ts"

const MAX_STACK = 3
const newId = (): string => `V${randomBytes(5).toString("hex").toUpperCase()}`
const newHash = (): string => `${Math.floor(Date.now() / 1000)}.${randomBytes(4).toString("hex")}`

type Given = Json & { blocks: Block[] }
type Result = { view: View } | { error: string }

function build(store: Store, given: Given, ids: { id: string; root: string; previous: string | null }): View {
  return {
    team_id: store.identity.teamId,
    close: null,
    submit: null,
    clear_on_close: false,
    notify_on_close: false,
    ...given,
    id: ids.id,
    type: "modal",
    blocks: withIds(given.blocks),
    private_metadata: String(given["private_metadata"] ?? ""),
    callback_id: String(given["callback_id"] ?? ""),
    external_id: String(given["external_id"] ?? ""),
    state: { values: {} },
    hash: newHash(),
    root_view_id: ids.root,
    previous_view_id: ids.previous,
    app_id: store.identity.appId,
    app_installed_team_id: store.identity.teamId,
    bot_id: store.identity.botId,
  }
}

const taken = (store: Store, given: Given, except?: string): boolean =>
  Boolean(given["external_id"]) &&
  [...store.views.values()].flat().some((view) => view.external_id === given["external_id"] && view.id !== except)

export function openView(store: Store, user: string, given: Given): Result {
  if (taken(store, given)) return { error: "duplicate_external_id" }
  const id = newId()
  const view = build(store, given, { id, root: id, previous: null })
  store.views.set(user, [view])
  store.changed({ kind: "view", user })
  return { view }
}

export function pushView(store: Store, user: string, given: Given): Result {
  const stack = store.viewsOf(user)
  const top = stack.at(-1)
  if (!top) return { error: "not_found" }
  if (stack.length >= MAX_STACK) return { error: "push_limit_reached" }
  if (taken(store, given)) return { error: "duplicate_external_id" }
  const view = build(store, given, { id: newId(), root: top.root_view_id, previous: top.id })
  stack.push(view)
  store.changed({ kind: "view", user })
  return { view }
}

export function updateView(store: Store, viewId: string, given: Given, hash?: string): Result {
  const found = store.findView(viewId)
  if (!found) return { error: "not_found" }
  if (hash && hash !== found.view.hash) return { error: "hash_conflict" }
  if (taken(store, given, viewId)) return { error: "duplicate_external_id" }
  const view = build(store, given, { id: viewId, root: found.view.root_view_id, previous: found.view.previous_view_id })
  const stack = store.viewsOf(found.user)
  stack[stack.indexOf(found.view)] = view
  store.changed({ kind: "view", user: found.user })
  return { view }
}

/** Closes the topmost view, or all of them. */
export function closeViews(store: Store, user: string, { all }: { all: boolean }): void {
  const stack = store.viewsOf(user)
  if (all) stack.length = 0
  else stack.pop()
  store.changed({ kind: "view", user })
}
