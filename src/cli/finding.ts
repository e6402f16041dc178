/** What one check found. `!` is worth knowing and not wrong. */
export type Finding = { mark: "✓" | "✗" | "!"; text: string }

export function good(text: string): Finding {
  return { mark: "✓", text }
}

/** Something wrong, and what makes it right. */
export function bad(text: string, wayOut: string): Finding {
  return { mark: "✗", text: `${text} → ${wayOut}` }
}

export function worthKnowing(text: string): Finding {
  return { mark: "!", text }
}
