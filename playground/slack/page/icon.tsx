import type { ReactNode } from "react"

/** Drawn and not written: a machine without an emoji font would show empty boxes. */
const shapes = {
  rewind: "M8 3v4.4L14 3v10L8 8.6V13L1.5 8z",
  eye: "M8 3.5C4.5 3.5 1.9 6 1 8c.9 2 3.5 4.5 7 4.5S14.1 10 15 8c-.9-2-3.5-4.5-7-4.5zM8 11a3 3 0 1 1 0-6 3 3 0 0 1 0 6zm0-1.4a1.6 1.6 0 1 0 0-3.2 1.6 1.6 0 0 0 0 3.2z",
  reply:
    "M3 2.5h10A1.5 1.5 0 0 1 14.5 4v6a1.5 1.5 0 0 1-1.5 1.5H7.5L4 14.5v-3H3A1.5 1.5 0 0 1 1.5 10V4A1.5 1.5 0 0 1 3 2.5z",
  lock: "M4 7V5a4 4 0 0 1 8 0v2h.5A1.5 1.5 0 0 1 14 8.5v5a1.5 1.5 0 0 1-1.5 1.5h-9A1.5 1.5 0 0 1 2 13.5v-5A1.5 1.5 0 0 1 3.5 7zm1.6 0h4.8V5a2.4 2.4 0 0 0-4.8 0z",
  file: "M3.5 1h6L13 4.5V14a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1V1.5A.5.5 0 0 1 3.5 1zM9 2v3h3z",
}

export function Icon({ of }: { of: keyof typeof shapes }): ReactNode {
  return (
    <svg className="shape" viewBox="0 0 16 16" aria-hidden="true">
      <path fillRule="evenodd" d={shapes[of]} />
    </svg>
  )
}
