import type { Finding } from "./finding.ts"
import { isOwnVariable, listEnvironmentReferences, listTexts } from "./references.ts"
import { verbs } from "./verbs.ts"
import type { Path } from "./yaml-source.ts"

// Where a worker puts variables of its environment in: in a plan, and in a step. `*` is any key.
const PLACES = ["target.postgres", "target.http", "escalate.hook.url", "escalate.hook.key", "escalate.hook.secret"]
const STEP_PLACES = ["cwd", "http.headers.*", "undo.headers.*", "workflow.token", "workflow.api"]
const STEP = "components.*.steps.*."
const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/

/** A word that `/rollback` takes for a command: nobody could ask for such an environment. */
export function checkName(environment: string): Finding[] {
  if (!verbs.some((verb) => verb === environment)) return []
  return [{ path: ["environment"], message: `"${environment}" is a command of /rollback itself: give it another name` }]
}

/** `${NAME}`: where it may stand, and what it may name. Looks at the plan as it is written. */
export function checkEnvironment(written: unknown): Finding[] {
  return listTexts(written, []).flatMap(({ text, path }) => {
    const names = listEnvironmentReferences(text)
    if (isAt(path, `${STEP}env.*`)) return findOwn([text], path)
    if (![...PLACES, ...STEP_PLACES.map((place) => STEP + place)].some((place) => isAt(path, place))) {
      const name = names.find((candidate) => NAME.test(candidate))
      if (name === undefined) return []
      return [{ path, message: `\${${name}} is not read here: only in target, cwd, headers, token, api and hook` }]
    }
    const odd = names.find((name) => !NAME.test(name))
    if (odd !== undefined || /\$\{[^}]*$/.test(text))
      return [{ path, message: `expected \${NAME} with a name of letters, digits and underscores, found "${text}"` }]
    return findOwn(names, path)
  })
}

function isAt(path: Path, place: string): boolean {
  const keys = place.split(".")
  return keys.length === path.length && keys.every((key, at) => key === "*" || key === path[at])
}

function findOwn(names: readonly string[], path: Path): Finding[] {
  const own = names.find(isOwnVariable)
  return own === undefined
    ? []
    : [{ path, message: `${own} belongs to Stepback itself: a plan cannot read it, use a variable of another name` }]
}
