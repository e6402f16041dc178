import { useCallback, useEffect, useRef, useState } from "react"
import type { ReactNode } from "react"
import { Icon } from "./icon.tsx"
import { Composer } from "./composer.tsx"
import { NamesContext } from "./markup.tsx"
import { MessageItem } from "./message.tsx"
import { Modal } from "./modal.tsx"
import { PressContext } from "./press.tsx"
import { Sidebar } from "./sidebar.tsx"
import type { Ephemeral, Message, OnPress, Snapshot } from "./snapshot.ts"
import { send, useWorkspace } from "./use-workspace.ts"

/** A value that the address keeps, so that a reload or a second window shows the same. */
function useAddress(name: string, otherwise: string): [string, (value: string) => void] {
  const [value, setValue] = useState(() => new URLSearchParams(location.search).get(name) ?? otherwise)
  const set = useCallback(
    (next: string) => {
      const params = new URLSearchParams(location.search)
      if (next) params.set(name, next)
      else params.delete(name)
      history.replaceState(null, "", `?${params.toString()}`)
      setValue(next)
    },
    [name],
  )
  return [value, set]
}

export function App(): ReactNode {
  const [user, setUser] = useAddress("as", "U0ALICE")
  const [channel, setChannel] = useAddress("channel", "C0STAGING")
  const [thread, setThread] = useAddress("thread", "")
  const [notice, setNotice] = useState("")
  const { snapshot, connected } = useWorkspace(user)
  useEffect(() => {
    if (!notice) return
    const timer = setTimeout(() => setNotice(""), 8000)
    return () => clearTimeout(timer)
  }, [notice])
  const press: OnPress = async (place, element, option) => {
    const outcome = await send("click", {
      user,
      ...place,
      action: element["action_id"],
      ...(option === undefined ? {} : { option }),
    })
    if (!outcome.ok)
      setNotice(
        outcome.error === "operation_timeout"
          ? "The app did not answer within 3 seconds"
          : `That did not work: ${outcome.error ?? "unknown"}`,
      )
    return outcome
  }
  if (!snapshot) return <p className="loading">Loading …</p>
  const top = snapshot.views.at(-1)
  return (
    <NamesContext.Provider value={snapshot}>
      <PressContext.Provider value={press}>
        <div className={thread ? "app with-thread" : "app"}>
          <Sidebar
            snapshot={snapshot}
            user={user}
            onUser={setUser}
            channel={channel}
            onChannel={(next) => {
              setChannel(next)
              setThread("")
            }}
          />
          <Channel {...{ snapshot, user, channel }} onThread={setThread} tell={setNotice} />
          {thread ? (
            <Thread {...{ snapshot, user, channel, thread }} onClose={() => setThread("")} tell={setNotice} />
          ) : null}
        </div>
        {top ? <Modal key={`${top.id}${top.hash}`} view={top} user={user} tell={setNotice} /> : null}
        {notice ? (
          <div className="notice" role="alert">
            {notice}
          </div>
        ) : null}
        {connected ? null : (
          <div className="notice" role="status">
            Connection lost, trying again …
          </div>
        )}
      </PressContext.Provider>
    </NamesContext.Provider>
  )
}

type PaneProps = { snapshot: Snapshot; user: string; channel: string; tell: (words: string) => void }

/** Follows the end of the list, unless the reader has scrolled up. */
function useFollow(length: number): { onScroll: () => void; ref: React.RefObject<HTMLDivElement | null> } {
  const ref = useRef<HTMLDivElement>(null)
  const atEnd = useRef(true)
  useEffect(() => {
    if (atEnd.current && ref.current) ref.current.scrollTop = ref.current.scrollHeight
  })
  useEffect(() => void (atEnd.current = true), [length === 0])
  const onScroll = (): void => {
    const list = ref.current
    if (list) atEnd.current = list.scrollHeight - list.scrollTop - list.clientHeight < 80
  }
  return { ref, onScroll }
}

function Channel({
  snapshot,
  user,
  channel,
  onThread,
  tell,
}: PaneProps & { onThread: (ts: string) => void }): ReactNode {
  const known = snapshot.channels.find((candidate) => candidate.id === channel)
  const all = snapshot.messages[channel] ?? []
  const top = all.filter((message) => !message.thread_ts || message.thread_ts === message.ts || message.reply_broadcast)
  const mine = snapshot.ephemerals.filter((seen) => seen.channel === channel && !seen.thread_ts)
  const shown: (Message | Ephemeral)[] = [...top, ...mine].sort((one, other) => Number(one.ts) - Number(other.ts))
  const follow = useFollow(shown.length)
  const name = known?.name ?? channel
  return (
    <main className="pane channel">
      <header>
        <h1>
          <span className="quiet">{known?.is_private ? <Icon of="lock" /> : "#"}</span> {name}
        </h1>
        <span className="quiet">{known?.members.length ?? 0} members</span>
      </header>
      <div className="list" role="log" aria-label={`Messages in ${name}`} {...follow}>
        {shown.length === 0 ? (
          <p className="empty">
            This is the very beginning of <b>#{name}</b>.<br />
            Type <code>/rollback staging</code> and why.
          </p>
        ) : null}
        {shown.map((message) => (
          <MessageItem
            key={message.ts}
            message={message}
            replies={all.filter((reply) => reply.thread_ts === message.ts && reply !== message)}
            onThread={onThread}
          />
        ))}
      </div>
      <Composer {...{ user, channel, tell }} names={snapshot} label="Message" placeholder={`Message #${name}`} />
    </main>
  )
}

function Thread({
  snapshot,
  user,
  channel,
  thread,
  onClose,
  tell,
}: PaneProps & { thread: string; onClose: () => void }): ReactNode {
  const inThread = (snapshot.messages[channel] ?? []).filter(
    (message) => message.ts === thread || message.thread_ts === thread,
  )
  const mine = snapshot.ephemerals.filter((seen) => seen.channel === channel && seen.thread_ts === thread)
  const follow = useFollow(inThread.length)
  const count = inThread.length - 1
  return (
    <section className="pane thread" role="region" aria-label="Thread">
      <header>
        <h2>Thread</h2>
        <button type="button" className="icon" aria-label="Close thread" onClick={onClose}>
          ✕
        </button>
      </header>
      <div className="list" {...follow}>
        {inThread.map((message) => (
          <div key={message.ts}>
            <MessageItem message={message} />
            {message.ts === thread && count > 0 ? (
              <div className="count">
                <span>
                  {count} {count === 1 ? "reply" : "replies"}
                </span>
              </div>
            ) : null}
          </div>
        ))}
        {mine.map((message) => (
          <MessageItem key={message.ts} message={message} />
        ))}
      </div>
      <Composer {...{ user, channel, thread, tell }} names={snapshot} label="Reply" placeholder="Reply…" />
    </section>
  )
}
