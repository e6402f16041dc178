import type { Delivery } from "./delivery.ts"
import { issueTrigger, payloadBase } from "./payloads.ts"
import type { People } from "./people.ts"
import { refused } from "./people.ts"
import { initialValue, readValue } from "./pressing.ts"
import type { Store } from "./store.ts"
import type { Block, Json, Outcome, View } from "./types.ts"
import { describe, validateView } from "./validation/validate.ts"
import { closeViews, pushView, updateView } from "./view-stack.ts"

export type SubmitAsked = { user: string; viewId: string; values: Record<string, string> }

/** What people do with modals. */
export class Forms {
  private readonly store: Store
  private readonly delivery: Delivery
  private readonly people: People

  constructor(store: Store, delivery: Delivery, people: People) {
    this.store = store
    this.delivery = delivery
    this.people = people
  }

  /** Sends the form. What the client itself checks (required, length) never reaches the app. */
  async submit({ user: who, viewId, values }: SubmitAsked): Promise<Outcome> {
    const user = this.people.user(who)
    const view = this.viewOf(user.id, viewId)
    const filled = fill(view, values)
    if ("missing" in filled) return refused(filled.missing)
    const state = { values: filled.values }
    const outcome = await this.delivery.send("interactive", {
      ...payloadBase(this.store, "view_submission", user),
      trigger_id: issueTrigger(this.store, user, view.id),
      view: { ...withoutErrors(view), state },
      response_urls: [],
    })
    if (outcome.ok) this.follow(user.id, view, outcome)
    return outcome
  }

  /** Closes the form with its cross; the app hears of it if it asked to. */
  async close({ user: who, viewId }: { user: string; viewId: string }): Promise<Outcome> {
    const user = this.people.user(who)
    const view = this.viewOf(user.id, viewId)
    closeViews(this.store, user.id, { all: false })
    if (view["notify_on_close"] !== true) return { ok: true, status: 200, ackMs: 0, body: "" }
    return this.delivery.send("interactive", {
      ...payloadBase(this.store, "view_closed", user),
      view: withoutErrors(view),
      is_cleared: false,
    })
  }

  private viewOf(user: string, viewId: string): View {
    const view = this.store.viewsOf(user).find((candidate) => candidate.id === viewId)
    if (!view) throw new Error(`The view ${viewId} is not open`)
    return view
  }

  /** Does what the acknowledgement says; an empty one closes the view. */
  private follow(user: string, view: View, outcome: Outcome): void {
    const answer = outcome.body.startsWith("{") ? (JSON.parse(outcome.body) as Json) : {}
    const action = answer["response_action"]
    if (action === undefined) return closeViews(this.store, user, { all: false })
    if (action === "clear") return closeViews(this.store, user, { all: true })
    if (action === "errors") return this.showErrors(user, view, answer, outcome)
    const next = validateView(answer["view"])
    if (!next.ok) return fail(outcome, next.problems.map(describe).join("; "))
    const result =
      action === "update" ? updateView(this.store, view.id, next.view) : pushView(this.store, user, next.view)
    if ("error" in result) fail(outcome, result.error)
  }

  private showErrors(user: string, view: View, answer: Json, outcome: Outcome): void {
    const errors = (answer["errors"] ?? {}) as Record<string, string>
    const unknown = Object.keys(errors).find(
      (id) => !view.blocks.some((block) => block.type === "input" && block.block_id === id),
    )
    if (unknown !== undefined || Object.keys(errors).length === 0)
      return fail(outcome, `errors for a block that is no input of this view: ${unknown}`)
    view.errors = errors
    this.store.changed({ kind: "view", user })
  }
}

function fail(outcome: Outcome, error: string): void {
  Object.assign(outcome, { ok: false, error })
}

function withoutErrors(view: View): Json {
  const { errors: _errors, ...rest } = view
  return rest
}

const labelOf = (block: Block): string => (block["label"] as { text?: string } | undefined)?.text ?? ""

function fill(view: View, given: Record<string, string>): { values: Record<string, Json> } | { missing: string } {
  const values: Record<string, Json> = {}
  const used = new Set<string>()
  for (const block of view.blocks) {
    const elements =
      block.type === "input"
        ? [block["element"] as Json]
        : block.type === "actions"
          ? (block["elements"] as Json[])
          : []
    for (const element of elements) {
      if (element["type"] === "button") continue
      const key = [labelOf(block), String(block.block_id), String(element["action_id"])].find((name) =>
        Object.hasOwn(given, name),
      )
      if (key !== undefined) used.add(key)
      const held = key === undefined ? initialValue(element) : readValue(element, given[key] ?? "")
      const problem = block.type === "input" && complain(block, element, held)
      if (problem) return { missing: problem }
      ;(values[String(block.block_id)] ??= {})[String(element["action_id"])] = { type: element["type"], ...held }
    }
  }
  const stray = Object.keys(given).find((key) => !used.has(key))
  if (stray !== undefined)
    throw new Error(
      `The form has no field "${stray}"; it has: ${view.blocks
        .filter((block) => block.type === "input")
        .map(labelOf)
        .join(", ")}`,
    )
  return { values }
}

function complain(block: Block, element: Json, held: Json): string | undefined {
  const value = Object.values(held)[0]
  const empty = value === null || value === undefined || (Array.isArray(value) && value.length === 0)
  if (empty) return block["optional"] === true ? undefined : `"${labelOf(block)}": please complete this required field`
  if (typeof value !== "string") return undefined
  if (value.length < Number(element["min_length"] ?? 0))
    return `"${labelOf(block)}": at least ${String(element["min_length"])} characters`
  if (value.length > Number(element["max_length"] ?? 3000))
    return `"${labelOf(block)}": at most ${String(element["max_length"] ?? 3000)} characters`
  return undefined
}
