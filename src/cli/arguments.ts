import { parseArgs } from "node:util"
import { nearest, type Selection } from "../plans/select.ts"
import { CommandError } from "./terminal.ts"

/** An environment and what is narrowed, widened or set for it. */
export type PlanArguments = { environment: string; selection: Selection; flags: ReadonlySet<string> }

const lists = ["only", "with"] as const

/** Reads `ENV [--only a,b] [--with c] [name=value…]` and the switches that the command knows. */
export function readPlanArguments(
  words: readonly string[],
  usage: string,
  switches: readonly string[] = [],
): PlanArguments {
  const options = {
    ...Object.fromEntries(lists.map((name) => [name, { type: "string", multiple: true } as const])),
    ...Object.fromEntries(switches.map((name) => [name, { type: "boolean" } as const])),
  }
  const known = [...lists, ...switches].map((name) => `--${name}`)
  const unknown = words.find((word) => word.startsWith("--") && !known.includes(word.split("=")[0] ?? ""))
  if (unknown !== undefined)
    throw new CommandError(`${unknown} is no option here.${didYouMean(unknown, known)} Usage: ${usage}`)
  const { values, positionals } = parse(words, options, usage)
  const [environment, ...pairs] = positionals
  if (environment === undefined) throw new CommandError(`An environment is missing. Usage: ${usage}`)
  return {
    environment: environment.toLowerCase(),
    selection: {
      only: listOf(values["only"]),
      with: listOf(values["with"]) ?? [],
      parameters: readPairs(pairs, usage),
    },
    flags: new Set(switches.filter((name) => values[name] === true)),
  }
}

/** Refuses options and surplus words of a command that takes only `count` words. */
export function readWords(words: readonly string[], usage: string, count: { min: number; max: number }): string[] {
  const option = words.find((word) => word.startsWith("-"))
  if (option !== undefined) throw new CommandError(`${option} is no option here. Usage: ${usage}`)
  if (words.length < count.min || words.length > count.max) throw new CommandError(`Usage: ${usage}`)
  return [...words]
}

export function didYouMean(given: string, known: readonly string[]): string {
  const near = nearest(given, known)
  return near === null ? "" : ` Did you mean ${near}?`
}

type Options = NonNullable<NonNullable<Parameters<typeof parseArgs>[0]>["options"]>

function parse(words: readonly string[], options: Options, usage: string) {
  try {
    return parseArgs({ args: [...words], options, allowPositionals: true })
  } catch (error) {
    const [sentence] = (error instanceof Error ? error.message : String(error)).split(/[.\n]/)
    throw new CommandError(`${sentence}. Usage: ${usage}`)
  }
}

function listOf(value: unknown): string[] | null {
  if (!Array.isArray(value)) return null
  return value.flatMap((item) => String(item).split(",")).filter((id) => id !== "")
}

function readPairs(words: readonly string[], usage: string): Record<string, string> {
  const pairs: Record<string, string> = {}
  for (const word of words) {
    const pair = /^([A-Za-z_]\w*)=(.*)$/s.exec(word)
    if (!pair) throw new CommandError(`"${word}" is no name=value. Usage: ${usage}`)
    pairs[pair[1] as string] = pair[2] as string
  }
  return pairs
}
