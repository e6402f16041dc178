import { StepbackError } from "../errors.ts"

/** The worker's environment as plans may read it, and the memory of what was read, so that it is never shown. */
export type Secrets = {
  /** Replaces `${NAME}`; what was put in is a secret from then on. Throws when a variable is missing or not for plans. */
  resolve(text: string): string
  /** The same for values that may be shown, as a folder or a host; passwords inside URLs stay secret. */
  resolveOpen(text: string): string
  /** The text without any secret that was resolved. */
  redact(text: string): string
  /** What every program needs to be found and to speak plainly; nothing else of the worker's environment. */
  programBase: Record<string, string>
}

const reference = /\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g
const ownVariables = /^(SLACK_.*|DATABASE_URL|REDIS_URL|STEPBACK_.*)$/

export function createSecrets(environment: Readonly<Record<string, string | undefined>>): Secrets {
  const known = new Set<string>()

  function read(name: string): string {
    if (ownVariables.test(name))
      throw new StepbackError("variable_not_for_plans", `\${${name}} is Stepback's own: plans cannot read it`)
    const value = environment[name]
    if (value === undefined || value === "")
      throw new StepbackError("variable_missing", `${name} is not set in the worker's environment: set it and restart the worker`)
    return value
  }

  function remember(value: string): void {
    // Shorter ones would blacken ordinary words.
    if (value.length >= 4) known.add(value)
  }

  function rememberUrlParts(value: string): void {
    if (!URL.canParse(value)) return
    const url = new URL(value)
    if (url.password === "") return
    remember(url.password)
    remember(decodeURIComponent(url.password))
    known.add(value)
  }

  const base = { PATH: "/usr/local/bin:/usr/bin:/bin", HOME: "/tmp", LANG: "C.UTF-8" }
  const programBase = Object.fromEntries(
    Object.entries(base).map(([name, fallback]) => [name, environment[name] ?? fallback]),
  )

  return {
    programBase,
    resolve: (text) =>
      text.replace(reference, (_whole, name: string) => {
        const value = read(name)
        remember(value)
        rememberUrlParts(value)
        return value
      }),
    resolveOpen: (text) =>
      text.replace(reference, (_whole, name: string) => {
        const value = read(name)
        rememberUrlParts(value)
        return value
      }),
    redact: (text) => {
      let clean = text
      // Longest first: a secret may contain another.
      for (const secret of [...known].sort((a, b) => b.length - a.length)) clean = clean.replaceAll(secret, "•••")
      return clean
    },
  }
}
