/** What a command is given: the words behind its name, the environment, and where to write. */
export type CommandContext = {
  words: string[]
  env: Readonly<Record<string, string | undefined>>
  /** For what was asked for: stdout. */
  out: (text: string) => void
  /** For everything else: stderr. */
  err: (text: string) => void
}

/** Does what was asked and gives the exit code. */
export type Command = (context: CommandContext) => Promise<number>

export const exitCodes = {
  good: 0,
  bad: 1,
} as const

/** An end with a sentence for the person at the terminal; never shown with a stack. */
export class CommandError extends Error {
  readonly exitCode: number

  constructor(message: string, exitCode: number = exitCodes.bad) {
    super(message)
    this.name = "CommandError"
    this.exitCode = exitCode
  }
}

/** Slack's three escapes taken back: words that were made for a message, shown on a terminal. */
export function forTerminal(text: string): string {
  return text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&")
}
