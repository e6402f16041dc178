import { useState } from "react"
import type { KeyboardEvent, ReactNode } from "react"
import type { Names } from "./snapshot.ts"
import { send } from "./use-workspace.ts"

type Props = {
  user: string
  channel: string
  label: string
  placeholder: string
  thread?: string
  names: Names
  tell: (words: string) => void
}

/** Slack's own escaping of what people type, with @names turned into mentions. */
function escape(text: string, names: Names): string {
  const safe = text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;")
  return safe.replace(/@([a-z0-9_-]+)/gi, (whole, name: string) => {
    const user = names.users.find((candidate) => candidate.name === name)
    const group = names.groups.find((candidate) => candidate.handle === name)
    return user ? `<@${user.id}>` : group ? `<!subteam^${group.id}>` : whole
  })
}

/** Where one types: messages, and commands outside of threads. */
export function Composer({ user, channel, label, placeholder, thread, names, tell }: Props): ReactNode {
  const [text, setText] = useState("")
  const hinting = text.startsWith("/") && "/rollback".startsWith(text.split(" ")[0] ?? "") && !thread
  const submit = async (): Promise<void> => {
    const typed = text.trim()
    if (!typed) return
    if (typed.startsWith("/") && thread) return tell("Commands are not supported in threads. Sorry!")
    setText("")
    const [command = "", ...rest] = typed.split(" ")
    if (typed.startsWith("/")) {
      const outcome = await send("command", { user, channel, command, text: rest.join(" ") })
      if (!outcome.ok) tell(`${command} failed with the error "${outcome.error ?? "unknown"}"`)
    } else
      await send("message", { user, channel, text: escape(typed, names), ...(thread ? { thread_ts: thread } : {}) })
  }
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key === "Tab" && hinting && !text.includes(" ")) {
      event.preventDefault()
      setText("/rollback ")
    }
    if (event.key !== "Enter" || event.shiftKey) return
    event.preventDefault()
    void submit()
  }
  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault()
        void submit()
      }}
    >
      {hinting ? (
        <button type="button" className="hint" onClick={() => setText("/rollback ")}>
          <b>/rollback</b> <span>environment [name=value …] [reason]</span> <span className="quiet">Stepback</span>
        </button>
      ) : null}
      <textarea
        rows={1}
        aria-label={label}
        placeholder={placeholder}
        value={text}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={onKeyDown}
      />
      <button type="submit" className="send" aria-label="Send" disabled={text.trim() === ""}>
        ➤
      </button>
    </form>
  )
}
