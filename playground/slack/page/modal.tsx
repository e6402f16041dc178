import { useState } from "react"
import type { FormEvent, ReactNode } from "react"
import { Blocks } from "./blocks.tsx"
import { Dialog } from "./dialog.tsx"
import { ErrorsContext } from "./fields.tsx"
import type { View } from "./snapshot.ts"
import { send } from "./use-workspace.ts"

const words = (of: unknown, otherwise: string): string =>
  (of as { text?: string } | null | undefined)?.text ?? otherwise

/** The topmost view of the person's stack. */
export function Modal({ view, user, tell }: { view: View; user: string; tell: (words: string) => void }): ReactNode {
  const [busy, setBusy] = useState(false)
  const close = (): void => void send("close", { user, viewId: view.id })
  const submit = async (event: FormEvent<HTMLFormElement>): Promise<void> => {
    event.preventDefault()
    const values: Record<string, string> = {}
    for (const [name, value] of new FormData(event.currentTarget))
      values[name] = values[name] === undefined ? String(value) : `${values[name]},${String(value)}`
    setBusy(true)
    const outcome = await send("submit", { user, viewId: view.id, values })
    setBusy(false)
    if (!outcome.ok) tell(`We had some trouble connecting. ${outcome.error ?? ""}`)
  }
  return (
    <Dialog title={words(view["title"], "")} onClose={close}>
      <form onSubmit={(event) => void submit(event)}>
        <div className="dialog-body">
          <ErrorsContext.Provider value={view.errors ?? {}}>
            <Blocks blocks={view.blocks} place={{ viewId: view.id }} />
          </ErrorsContext.Provider>
        </div>
        <footer>
          <button type="button" className="press" onClick={close}>
            {words(view["close"], "Cancel")}
          </button>
          {view["submit"] ? (
            <button type="submit" className="press primary" disabled={busy} aria-busy={busy}>
              {words(view["submit"], "Submit")}
            </button>
          ) : null}
        </footer>
      </form>
    </Dialog>
  )
}
