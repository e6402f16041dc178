import { distance } from "fastest-levenshtein"
import { nearest, type Selection } from "../plans/select.ts"

/** What a person typed behind `/rollback`. */
export type Typed =
  | { kind: "help" }
  | { kind: "request" | "rehearse"; environment: string; selection: Selection; reason: string }
  | { kind: "status" | "history"; environment: string | null }
  | { kind: "plan"; environment: string }
  | { kind: "cancel" | "stop" | "analysis" | "standing"; rollback: string }
  | { kind: "undo"; rollback: string; reason: string }
  | { kind: "note"; rollback: string; text: string }
  | { kind: "baseline"; environment: string; what: "capture" | "diff" | null; name: string }
  | { kind: "record"; environment: string; text: string }
  | { kind: "incomplete"; usage: string }
  | { kind: "bad_option"; given: string; nearest: string | null; usage: string }

export const usage = {
  request: "/rollback <environment> [--only a,b] [--with c] [name=value] [reason]",
  rehearse: "/rollback rehearse <environment> [--only a,b] [--with c]",
  plan: "/rollback plan <environment>",
  cancel: "/rollback cancel R-17",
  stop: "/rollback stop R-17",
  analysis: "/rollback analysis R-17",
  undo: "/rollback undo R-17 [reason]",
  note: "/rollback note R-17 what happened",
  record: "/rollback record <environment> what was done by hand",
  baseline: "/rollback baseline <environment> [capture|diff] [--as after]",
} as const

/**
 * Reads the words. `--only` and `--with` count wherever they stand; `name=value` counts in front of the reason, or
 * anywhere for a name that the plan knows; every other word is the reason, so that no reason narrows anything.
 */
export function parseCommand(text: string, parametersOf: (environment: string) => readonly string[]): Typed {
  const words = unescape(text)
    .trim()
    .split(/\s+/)
    .filter((word) => word !== "")
  const [first, ...rest] = words
  const verb = first?.toLowerCase()
  switch (verb) {
    case undefined:
    case "help":
      return { kind: "help" }
    case "status":
      // Of one rollback, as well as of an environment.
      if (/^r-?\d+$/i.test(rest[0] ?? "")) return { kind: "standing", rollback: rest[0] as string }
      return { kind: verb, environment: rest[0]?.toLowerCase() ?? null }
    case "history":
      return { kind: verb, environment: rest[0]?.toLowerCase() ?? null }
    case "plan":
      return rest[0] === undefined
        ? { kind: "incomplete", usage: usage.plan }
        : { kind: "plan", environment: rest[0].toLowerCase() }
    case "cancel":
    case "stop":
    case "analysis":
      return rest[0] === undefined ? { kind: "incomplete", usage: usage[verb] } : { kind: verb, rollback: rest[0] }
    case "undo":
      return rest[0] === undefined
        ? { kind: "incomplete", usage: usage.undo }
        : { kind: "undo", rollback: rest[0], reason: rest.slice(1).join(" ") }
    case "note":
      return rest.length < 2
        ? { kind: "incomplete", usage: usage.note }
        : { kind: "note", rollback: rest[0] as string, text: rest.slice(1).join(" ") }
    case "baseline":
      return parseBaseline(rest)
    case "record":
      return rest.length < 2
        ? { kind: "incomplete", usage: usage.record }
        : { kind: "record", environment: (rest[0] as string).toLowerCase(), text: rest.slice(1).join(" ") }
    case "rehearse":
      return rest[0] === undefined
        ? { kind: "incomplete", usage: usage.rehearse }
        : parseRequest("rehearse", rest, parametersOf)
    default:
      return parseRequest("request", words, parametersOf)
  }
}

/** `capture --as after` and `diff --as after` name another snapshot than the baseline. */
function parseBaseline(words: string[]): Typed {
  const [environment, what, option, name, ...more] = words
  const incomplete: Typed = { kind: "incomplete", usage: usage.baseline }
  if (environment === undefined || more.length > 0) return incomplete
  const wanted = what?.toLowerCase() ?? null
  if (wanted !== null && wanted !== "capture" && wanted !== "diff")
    return {
      kind: "bad_option",
      given: what ?? wanted,
      nearest: nearest(wanted, ["capture", "diff"]),
      usage: usage.baseline,
    }
  if (option !== undefined && (!/^(?:--|—|–)as$/i.test(option) || !/^[a-z0-9][a-z0-9_-]{0,39}$/i.test(name ?? "")))
    return incomplete
  return {
    kind: "baseline",
    environment: environment.toLowerCase(),
    what: wanted,
    name: name?.toLowerCase() ?? "baseline",
  }
}

function parseRequest(
  kind: "request" | "rehearse",
  words: string[],
  parametersOf: (environment: string) => readonly string[],
): Typed {
  const environment = (words[0] ?? "").toLowerCase()
  const known = parametersOf(environment)
  const selection: Selection = { only: null, with: [], parameters: {} }
  const reason: string[] = []
  for (let at = 1; at < words.length; at++) {
    const word = words[at] as string
    // Phones turn two hyphens into a dash.
    const option = /^(?:--|—|–)([A-Za-z][\w-]*)(?:=(.*))?$/.exec(word)
    if (option) {
      const name = option[1]?.toLowerCase()
      let list = option[2] ?? words[++at]
      // "a, b" goes on: a word that was meant as a component is no reason.
      while (list?.endsWith(",") && at + 1 < words.length) list += words[++at] ?? ""
      const bad = { kind: "bad_option", given: word, nearest: null, usage: usage[kind] } as const
      if (name !== "only" && name !== "with") {
        const meant = nearest(name ?? "", ["only", "with"])
        return meant === null ? bad : { ...bad, nearest: `--${meant}` }
      }
      if (list === undefined) return bad
      const ids = list.split(",").filter((id) => id !== "")
      if (ids.length === 0) return bad
      if (name === "only") selection.only = [...(selection.only ?? []), ...ids]
      else selection.with.push(...ids)
      continue
    }
    const short = optionOfOneHyphen(word)
    if (short !== null) return { kind: "bad_option", given: word, nearest: `--${short}`, usage: usage[kind] }
    const empty = /^([A-Za-z_]\w*)=$/.exec(word)?.[1]
    // Its value was lost on the way: the plan's own would take its place.
    if (empty !== undefined && known.includes(empty))
      return { kind: "bad_option", given: word, nearest: null, usage: usage[kind] }
    const pair = /^([A-Za-z_]\w*)=(\S+)$/.exec(word)
    const name = pair?.[1] ?? ""
    // Not by assignment: `__proto__=x` would vanish, and a word that vanishes is a lie.
    if (pair && (reason.length === 0 || known.includes(name)))
      Object.defineProperty(selection.parameters, name, {
        value: pair[2],
        enumerable: true,
        configurable: true,
        writable: true,
      })
    else reason.push(word)
  }
  return { kind, environment, selection, reason: reason.join(" ") }
}

/**
 * With one hyphen it would be part of the reason, and what was to be narrowed would run as a whole. Only the word itself
 * or one slip from it: "-one more try" and "-will tell" are reasons.
 */
function optionOfOneHyphen(word: string): string | null {
  const given = /^[-‐‑‒−]([A-Za-z]\w*)(?:=.*)?$/.exec(word)?.[1]?.toLowerCase()
  if (given === undefined) return null
  const letters = (text: string) => [...text].toSorted().join("")
  const isMeant = (name: string) => distance(name, given) <= 1 || letters(name) === letters(given)
  return ["only", "with"].find(isMeant) ?? null
}

/** Slack sends these three escaped. */
function unescape(text: string): string {
  return text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&")
}
