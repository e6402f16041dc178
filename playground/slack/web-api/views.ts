import type { Store } from "../store.ts"
import { validateMessageBlocks, validateView } from "../validation/validate.ts"
import { openView, pushView, updateView } from "../view-stack.ts"
import { json, refuse, refuseWith, text } from "./method.ts"
import type { Answer, Args, CallContext, Method } from "./method.ts"

function exchangeTrigger(store: Store, id: string): { user: string; viewId: string | null } | Answer {
  const trigger = store.triggers.get(id)
  if (!trigger) return refuse("invalid_trigger_id")
  if (trigger.used) return refuse("exchanged_trigger_id")
  if (trigger.expiresAt < Date.now()) return refuse("expired_trigger_id")
  trigger.used = true
  return { user: trigger.user, viewId: trigger.viewId }
}

const opening =
  (kind: "open" | "push") =>
  (args: Args, { store }: CallContext): Answer => {
    const checked = validateView(args["view"])
    if (!checked.ok) return refuseWith("invalid_arguments", checked.problems)
    const exchanged = exchangeTrigger(store, text(args, "trigger_id"))
    if ("ok" in exchanged) return exchanged
    if (kind === "push" && !exchanged.viewId) return refuse("invalid_trigger_id")
    const result =
      kind === "open" ? openView(store, exchanged.user, checked.view) : pushView(store, exchanged.user, checked.view)
    return "error" in result ? refuse(result.error) : { ok: true, view: result.view }
  }

function update(args: Args, { store }: CallContext): Answer {
  const checked = validateView(args["view"])
  if (!checked.ok) return refuseWith("invalid_arguments", checked.problems)
  const external = text(args, "external_id")
  const byExternal = [...store.views.values()].flat().find((view) => external && view.external_id === external)
  const result = updateView(
    store,
    text(args, "view_id") || (byExternal?.id ?? ""),
    checked.view,
    text(args, "hash") || undefined,
  )
  return "error" in result ? refuse(result.error) : { ok: true, view: result.view }
}

/** `errors` here are objects; a pointer counts from the payload itself. */
function validate(args: Args): Answer {
  const given = ["blocks", "message", "view"].filter((name) => args[name] !== undefined)
  if (given.length !== 1) return refuse("invalid_arguments")
  const [kind] = given
  const message = json(args, "message") as { blocks?: unknown } | undefined
  const result =
    kind === "view"
      ? validateView(args["view"])
      : validateMessageBlocks(kind === "message" ? message?.blocks : args["blocks"])
  if (result.ok) return { ok: true }
  const errors = result.problems.map(({ message: words, pointer }) => ({
    pointer: kind === "message" ? pointer : pointer.replace(/^\/(blocks|view)/, ""),
    code: "failed_constraint",
    message: words,
  }))
  return refuse(`invalid_${kind}`, {
    errors,
    response_metadata: { messages: errors.map((error) => `[ERROR] ${error.message} [json-pointer:${error.pointer}]`) },
  })
}

export const viewMethods: Record<string, Method> = {
  "views.open": { run: opening("open") },
  "views.push": { run: opening("push") },
  "views.update": { run: update },
  "blocks.validate": { run: validate },
}
