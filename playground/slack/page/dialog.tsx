import { useEffect, useId, useRef } from "react"
import type { ReactNode } from "react"

/** A modal surface: takes the focus, Escape closes it. */
export function Dialog({
  title,
  onClose,
  children,
}: {
  title: string
  onClose: () => void
  children: ReactNode
}): ReactNode {
  const id = useId()
  const surface = useRef<HTMLDivElement>(null)
  useEffect(() => {
    const before = document.activeElement
    const first = surface.current?.querySelector<HTMLElement>("input, textarea, select, footer button")
    ;(first ?? surface.current)?.focus()
    return () => {
      if (before instanceof HTMLElement) before.focus()
    }
  }, [])
  return (
    <div className="backdrop">
      <div
        className="dialog"
        role="dialog"
        aria-modal="true"
        aria-labelledby={id}
        tabIndex={-1}
        ref={surface}
        onKeyDown={(event) => event.key === "Escape" && onClose()}
      >
        <header>
          <h2 id={id}>{title}</h2>
          <button type="button" className="icon" aria-label="Close" onClick={onClose}>
            ✕
          </button>
        </header>
        {children}
      </div>
    </div>
  )
}
