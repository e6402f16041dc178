/** Commands whose word cannot be an environment. */
export const verbs = [
  "status",
  "history",
  "plan",
  "cancel",
  "undo",
  "analysis",
  "baseline",
  "rehearse",
  "stop",
  "note",
  "record",
  "help",
] as const
