import { useEffect, useRef, useState } from "react"
import type { Outcome, Snapshot } from "./snapshot.ts"

/** The workspace as `user` sees it, kept up to date by the stream of changes. */
export function useWorkspace(user: string): { snapshot: Snapshot | null; connected: boolean } {
  const [snapshot, setSnapshot] = useState<Snapshot | null>(null)
  const [connected, setConnected] = useState(true)
  const latest = useRef(0)
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined
    const load = async (): Promise<void> => {
      const turn = ++latest.current
      const response = await fetch(`/local/state?user=${encodeURIComponent(user)}`)
      const next = (await response.json()) as Snapshot
      // An older answer must not overwrite a newer one.
      if (turn === latest.current) setSnapshot(next)
    }
    const soon = (): void => {
      clearTimeout(timer)
      timer = setTimeout(() => void load().catch(() => setConnected(false)), 25)
    }
    const events = new EventSource("/local/events")
    events.addEventListener("change", soon)
    events.addEventListener("open", () => {
      setConnected(true)
      soon()
    })
    events.addEventListener("error", () => setConnected(false))
    return () => {
      clearTimeout(timer)
      events.close()
    }
  }, [user])
  return { snapshot, connected }
}

/** Does something as a person; a refusal comes back as an outcome, never as an exception. */
export async function send(
  what: "command" | "click" | "submit" | "close" | "message",
  body: unknown,
): Promise<Outcome> {
  try {
    const response = await fetch(`/local/${what}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    })
    return (await response.json()) as Outcome
  } catch {
    return { ok: false, status: 0, ackMs: 0, body: "", error: "The local Slack does not answer" }
  }
}
