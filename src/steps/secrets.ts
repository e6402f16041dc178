import { StepbackError } from "../errors.ts"
import { fill, type Values } from "../plans/values.ts"
import { passwordsIn } from "../redis-address.ts"

/** The worker's environment as plans may read it, and the memory of what was read, so that it is never shown. */
export type Secrets = {
  /**
   * Replaces `${NAME}`, and `$name` by its value; what came out of a variable is a secret from then on. Values are put in
   * as they are: one that spells `${NAME}` reads nothing. Throws when a variable is missing or not for plans.
   */
  resolve(text: string, values?: Values): string
  /** The same for variables that may be shown, as a folder or a host; passwords inside URLs stay secret. */
  resolveOpen(text: string, values?: Values): string
  /** Makes a value a secret, as one that was captured from a redacted column. */
  hide(value: string): void
  /** The text without any secret that was resolved. */
  redact(text: string): string
  /** The same for what is left of a text between parts that were cut out: what a cut left of a secret goes too. */
  redactPieces(pieces: readonly string[]): string[]
  /** What every program needs to be found and to speak plainly; nothing else of the worker's environment. */
  programBase: Record<string, string>
}

/** What stands for a secret. */
export const redacted = "•••"

const pieces = /(\$\$|\$\{[A-Za-z_][A-Za-z0-9_]*\})/
const ownVariables = /^(SLACK_.*|DATABASE_URL|REDIS_URL|STEPBACK_.*)$/
const ownTokens = ["SLACK_BOT_TOKEN", "SLACK_SIGNING_SECRET", "SLACK_APP_TOKEN"]

export function createSecrets(environment: Readonly<Record<string, string | undefined>>): Secrets {
  const known = new Set<string>()

  function read(name: string): string {
    if (ownVariables.test(name))
      throw new StepbackError("variable_not_for_plans", `\${${name}} is Stepback's own: plans cannot read it`)
    const value = environment[name]
    if (value === undefined || value === "")
      throw new StepbackError(
        "variable_missing",
        `${name} is not set in the worker's environment: set it and restart the worker`,
      )
    return value
  }

  /** As it is, and as servers and programs tell it back: without the line feed of its file, in JSON, in an address. */
  function remember(value: string): void {
    const bare = value.trim()
    // Shorter ones would blacken ordinary words.
    for (const form of [value, bare, JSON.stringify(bare).slice(1, -1), encodeURIComponent(bare.toWellFormed())])
      if (form.length >= 4) known.add(form)
  }

  function rememberUrlParts(value: string): void {
    if (!URL.canParse(value)) return
    const url = new URL(value)
    if (url.password === "") return
    remember(url.password)
    remember(decoded(url.password))
    known.add(value)
  }

  // No plan names them, but a program can look at what its parent was started with, and errors of drivers quote addresses.
  for (const name of ownTokens) remember(environment[name] ?? "")
  rememberUrlParts(environment["DATABASE_URL"]?.trim() ?? "")
  for (const password of passwordsIn(environment["REDIS_URL"]?.trim() ?? "")) remember(password)

  const base = { PATH: "/usr/local/bin:/usr/bin:/bin", HOME: "/tmp", LANG: "C.UTF-8" }
  const programBase = Object.fromEntries(
    Object.entries(base).map(([name, fallback]) => [name, environment[name] ?? fallback]),
  )

  return {
    programBase,
    resolve: (text, values = {}) =>
      substitute(text, values, (name) => {
        const value = read(name)
        remember(value)
        rememberUrlParts(value)
        return value
      }),
    resolveOpen: (text, values = {}) =>
      substitute(text, values, (name) => {
        const value = read(name)
        rememberUrlParts(value)
        return value
      }),
    hide: remember,
    redact: (text) => redactAll(text, known),
    redactPieces: (pieces) => redactAround(pieces, known),
  }
}

function redactAll(text: string, known: ReadonlySet<string>): string {
  let clean = text
  // Longest first: a secret may contain another.
  for (const secret of [...known].sort((a, b) => b.length - a.length)) clean = clean.replaceAll(secret, redacted)
  return clean
}

function redactAround(pieces: readonly string[], known: ReadonlySet<string>): string[] {
  const last = pieces.length - 1
  return pieces.map((piece, index) => {
    const start = index === 0 ? 0 : leftOver(known, (secret, length) => piece.startsWith(secret.slice(-length)))
    const rest = piece.slice(start)
    const end = index === last ? 0 : leftOver(known, (secret, length) => rest.endsWith(secret.slice(0, length)))
    const middle = redactAll(rest.slice(0, rest.length - end), known)
    return `${start > 0 ? redacted : ""}${middle}${end > 0 ? redacted : ""}`
  })
}

/** How many characters of a secret are where a text was cut; all of one counts too. */
function leftOver(known: ReadonlySet<string>, isThere: (secret: string, length: number) => boolean): number {
  let most = 0
  for (const secret of known)
    for (let length = secret.length; length > most; length--) if (isThere(secret, length)) most = length
  return most
}

/** Each piece is looked at once: what was put in is never read for references again. */
function substitute(text: string, values: Values, lookUp: (name: string) => string): string {
  return text
    .split(pieces)
    .map((piece, index) => (index % 2 === 0 ? fill(piece, values) : piece === "$$" ? "$" : lookUp(piece.slice(2, -1))))
    .join("")
}

/** A password may have a percent sign that encodes nothing. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
