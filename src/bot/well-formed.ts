type Json = Record<string, unknown>

/**
 * Whether a request has the shape that listeners read. Who holds the signing secret can send anything; what is not as
 * Slack sends it is dropped at the door, since an error after the ack could end the process.
 */
export function isWellFormed(body: unknown): boolean {
  if (!isObject(body)) return false
  if (body["command"] !== undefined)
    return (
      ["command", "user_id", "channel_id"].every((name) => isText(body[name])) &&
      ["text", "team_id", "response_url", "trigger_id"].every((name) => isTextOrNone(body[name]))
    )
  if (body["type"] === "block_actions") return isPress(body)
  if (body["type"] === "view_submission") return isForm(body)
  return true
}

function isPress(body: Json): boolean {
  const { actions, channel, container } = body
  return (
    isPerson(body) &&
    isTextOrNone(body["trigger_id"]) &&
    isTextOrNone(body["response_url"]) &&
    (isNone(channel) || (isObject(channel) && isTextOrNone(channel["id"]))) &&
    (isNone(container) || (isObject(container) && isTextOrNone(container["channel_id"]))) &&
    Array.isArray(actions) &&
    actions.length > 0 &&
    actions.every((action) => isObject(action) && isText(action["action_id"]) && isTextOrNone(action["value"]))
  )
}

function isForm(body: Json): boolean {
  const { view } = body
  if (!isPerson(body) || !isObject(view) || !isObject(view["state"])) return false
  const { values } = view["state"]
  return (
    ["id", "callback_id", "private_metadata"].every((name) => isText(view[name])) &&
    isObject(values) &&
    Object.values(values).every((block) => isObject(block) && Object.values(block).every(isField))
  )
}

function isField(field: unknown): boolean {
  return (
    isObject(field) && ["value", "selected_user", "selected_date"].every((name) => isTextOrNone(field[name] ?? null))
  )
}

function isPerson({ user, team }: Json): boolean {
  return (
    isObject(user) &&
    isText(user["id"]) &&
    isTextOrNone(user["team_id"]) &&
    (isNone(team) || (isObject(team) && isTextOrNone(team["id"])))
  )
}

const isObject = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value)
const isText = (value: unknown): boolean => typeof value === "string"
const isNone = (value: unknown): boolean => value === undefined || value === null
const isTextOrNone = (value: unknown): boolean => isNone(value) || isText(value)
