import { useId, useState } from "react"
import type { ReactNode } from "react"
import { Icon } from "./icon.tsx"
import { Avatar } from "./message.tsx"
import type { Snapshot, User } from "./snapshot.ts"

type Props = {
  snapshot: Snapshot
  user: string
  onUser: (id: string) => void
  channel: string
  onChannel: (id: string) => void
}

function kind(user: User): string {
  if (user.is_stranger) return " (another company)"
  if (user.is_restricted || user.is_ultra_restricted) return " (guest account)"
  return ""
}

const countOf = (snapshot: Snapshot, channel: string): number =>
  (snapshot.messages[channel] ?? []).filter((message) => !message.thread_ts || message.reply_broadcast).length

/** Channels, and whom one is at the moment. */
export function Sidebar({ snapshot, user, onUser, channel, onChannel }: Props): ReactNode {
  const id = useId()
  const [read, setRead] = useState<Record<string, number>>({})
  const people = snapshot.users.filter((candidate) => !candidate.is_bot && !candidate.deleted)
  const me = snapshot.users.find((candidate) => candidate.id === user)
  const current = countOf(snapshot, channel)
  if (read[channel] !== current) setRead({ ...read, [channel]: current })
  return (
    <aside className="sidebar">
      <div className="team">Local workspace</div>
      <nav aria-label="Channels">
        <div className="caption">Channels</div>
        {snapshot.channels.map((candidate) => {
          const unread = candidate.id !== channel && countOf(snapshot, candidate.id) > (read[candidate.id] ?? 0)
          return (
            <button
              key={candidate.id}
              type="button"
              className={unread ? "unread" : ""}
              aria-current={candidate.id === channel ? "page" : undefined}
              onClick={() => onChannel(candidate.id)}
            >
              <span aria-hidden="true">{candidate.is_private ? <Icon of="lock" /> : "#"}</span> {candidate.name}
              {unread ? <span className="dot" role="img" aria-label="unread" /> : null}
            </button>
          )
        })}
      </nav>
      <div className="act-as">
        {me ? <Avatar name={me.name} bot={false} small /> : null}
        <label htmlFor={id}>Act as</label>
        <select id={id} value={user} onChange={(event) => onUser(event.target.value)}>
          {people.map((person) => (
            <option key={person.id} value={person.id}>
              {person.name}
              {kind(person)}
            </option>
          ))}
        </select>
      </div>
    </aside>
  )
}
