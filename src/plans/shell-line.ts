import type { CommandStep, HttpStep, WorkflowStep } from "./plan.ts"
import { typedValue, type Values } from "./values.ts"

/** A piece of a word: a text as it is, or a variable of the shell. */
type Piece = { text: string } | { variable: string }

const reference = /\$(?:(\$)|\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))/g

/** The request as a line of curl. Parameters are put in; secrets and what only the run gives stay variables of the shell. */
export function curlLine(step: HttpStep, base: string | null, values: Values): string {
  const headers = Object.entries(step.headers).flatMap(([name, value]) => [
    "-H",
    word([{ text: `${name}: ` }, ...pieces(value, values)]),
  ])
  const hasType = Object.keys(step.headers).some((name) => name.toLowerCase() === "content-type")
  const body = bodyOf(step, values)
  const type = body === null || hasType ? [] : ["-H", word([{ text: "content-type: application/json" }])]
  const url = word([...originPieces(base ?? ""), ...pieces(step.path, values, { secrets: false })])
  // The status behind the answer: it is what the plan looks at first.
  return [
    "curl",
    "-sS",
    "-w",
    `'\\n%{http_code}\\n'`,
    "-X",
    step.method,
    url,
    ...headers,
    ...type,
    ...(body === null ? [] : ["--data-raw", body]),
  ].join(" ")
}

/** The argument list as a line of a shell, in its folder. */
export function commandLine(step: CommandStep, values: Values): string {
  const line = step.command.map((part) => word(pieces(part, values))).join(" ")
  return step.cwd === null ? line : `(cd ${word(pieces(step.cwd, values))} && ${line})`
}

/** The dispatch as GitHub's own command line has it; who runs it is logged in there. */
export function workflowLine(step: WorkflowStep, values: Values): string {
  const inputs = Object.entries(step.inputs).flatMap(([name, value]) => [
    "-f",
    word([{ text: `${name}=` }, ...pieces(value, values)]),
  ])
  const [repo, file, ref] = [step.repo, step.file, step.ref].map((text) => word(pieces(text, values)))
  return ["gh", "workflow", "run", file, "--repo", repo, "--ref", ref, ...inputs].join(" ")
}

function bodyOf(step: HttpStep, values: Values): string | null {
  if (step.json === null || step.json === undefined) return step.body === null ? null : word([{ text: step.body }])
  // Marks of the private use area stand for what the run gives until the JSON is a text.
  const marked = JSON.stringify(step.json, (_key, value: unknown) =>
    typeof value === "string"
      ? (typedValue(value, values, step.types ?? {}) ??
        pieces(value, values, { secrets: false })
          .map((piece) =>
            "text" in piece ? piece.text.replace(/[\ue000\ue001]/g, "") : `\ue000${piece.variable}\ue001`,
          )
          .join(""))
      : value,
  )
  const parts = marked.split(/\ue000(\w+)\ue001/)
  return word(parts.map((part, index) => (index % 2 === 1 ? { variable: part } : { text: part })))
}

/** Cuts a text of the plan at its references, once: a `$` inside a value is nothing but a dollar sign. */
function pieces(template: string, values: Values, options = { secrets: true }): Piece[] {
  const found: Piece[] = []
  let from = 0
  for (const match of template.matchAll(reference)) {
    const [whole, dollar, variable, name] = match
    found.push({ text: template.slice(from, match.index) })
    from = match.index + whole.length
    if (dollar !== undefined) found.push({ text: "$" })
    else if (variable !== undefined) found.push(options.secrets ? { variable } : { text: whole })
    else
      found.push(name !== undefined && values[name] !== undefined ? { text: values[name] } : { variable: name ?? "" })
  }
  return [...found, { text: template.slice(from) }]
}

/** The target's address without the slash at its end, which the path brings along. */
function originPieces(base: string): Piece[] {
  return pieces(base.replace(/\/$/, ""), {}).map((piece) =>
    "variable" in piece ? { variable: `${piece.variable}%/` } : piece,
  )
}

function word(parts: Piece[]): string {
  return parts.map((part) => ("variable" in part ? `"\${${part.variable}}"` : quote(part.text))).join("") || "''"
}

function quote(text: string): string {
  if (text === "" || /^[\w@%+=:,./-]+$/.test(text)) return text
  // On one line whatever is in it: the line stands in a comment.
  if (/[\u0000-\u001f\u007f\u2028\u2029]/.test(text))
    return `$'${text.replace(/[\\']/g, "\\$&").replace(/[\u0000-\u001f\u007f\u2028\u2029]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`)}'`
  return `'${text.replaceAll("'", `'\\''`)}'`
}
