/** The kinds of step that the plan language knows, in the order in which messages list them. */
export const STEP_KINDS = ["sql", "check", "http", "command", "restore", "purge", "workflow", "manual"] as const
export type StepKind = (typeof STEP_KINDS)[number]
