import { listSteps } from "./finding.ts"
import type { Finding, StepPlace } from "./finding.ts"
import { findNear } from "./issues.ts"
import { namesInExpected } from "./names.ts"
import { orderComponents } from "./order.ts"
import { listReferences, listTexts } from "./references.ts"
import type { WrittenPlan } from "./schema.ts"
import type { WrittenStep } from "./step-schema.ts"
import { namesInPattern } from "./values.ts"
import type { Path } from "./yaml-source.ts"

type Capture = { name: string; from: StepPlace }

/** `params:`, `$name` and `capture`: every name is a parameter or was captured by a step that has run by then. */
export function checkReferences(plan: WrittenPlan): Finding[] {
  const steps = listSteps(plan)
  const captures = steps.flatMap((from) => listCaptures(from.step).map((name) => ({ name, from })))
  return [
    ...checkCaptureNames(plan, captures),
    ...steps.flatMap((place) =>
      listUses(place).flatMap(({ name, path }) => {
        const message = findReferenceError(plan, captures, place, name)
        return message === null ? [] : [{ path, message }]
      }),
    ),
  ]
}

function listCaptures(step: WrittenStep): string[] {
  return "capture" in step && step.capture ? Object.keys(step.capture) : []
}

function checkCaptureNames(plan: WrittenPlan, captures: readonly Capture[]): Finding[] {
  const findings = captures.flatMap(({ name, from }, index): Finding[] => {
    const path = [...from.path, "capture", name]
    const first = captures.slice(0, index).find((other) => other.name === name)
    if (first)
      return [
        {
          path,
          want: "key",
          message: `"${name}" is captured by step "${first.from.step.id}" already: names are unique in the plan`,
        },
      ]
    if (Object.hasOwn(plan.params ?? {}, name))
      return [{ path, want: "key", message: `"${name}" is a parameter: capture under another name` }]
    return name === "deployed"
      ? [{ path, want: "key", message: '"deployed" is what `deployed:` reads: capture under another name' }]
      : []
  })
  const taken = Object.hasOwn(plan.params ?? {}, "deployed")
  const message = '"deployed" is what `deployed:` reads: call the parameter something else'
  return taken ? [...findings, { path: ["params", "deployed"], want: "key", message }] : findings
}

function findReferenceError(
  plan: WrittenPlan,
  captures: readonly Capture[],
  user: StepPlace,
  name: string,
): string | null {
  const parameters = Object.keys(plan.params ?? {})
  if (parameters.includes(name)) return null
  const capture = captures.find((candidate) => candidate.name === name)
  if (!capture) {
    const known = [...parameters, ...captures.map((candidate) => candidate.name)]
    const near = findNear(name, known)
    const rest = near
      ? `did you mean "${near}"?`
      : known.length > 0
        ? `there are ${known.slice(0, 20).join(", ")}`
        : "the plan has none"
    return `no parameter or captured value is called "${name}"; ${rest}`
  }
  const { step, component, componentId } = capture.from
  if (componentId !== user.componentId && component.optional) {
    return `"${name}" is captured by step "${step.id}" of the optional component "${componentId}", which may not run`
  }
  return runsBefore(plan, capture.from, user)
    ? null
    : `"${name}" is captured by step "${step.id}", which does not run before "${user.step.id}"`
}

function runsBefore(plan: WrittenPlan, earlier: StepPlace, later: StepPlace): boolean {
  if (earlier.componentId !== later.componentId) {
    const order = orderComponents(plan)
    return order.indexOf(earlier.componentId) < order.indexOf(later.componentId)
  }
  if (!later.component.parallel) return earlier.index < later.index
  return listAllNeeds(later).has(earlier.step.id)
}

/** The steps of the same component that have ended when this one begins, in a parallel component. */
function listAllNeeds({ component, step }: StepPlace): Set<string> {
  const needed = new Set<string>()
  const open = [...(step.needs ?? [])]
  for (let id = open.pop(); id !== undefined; id = open.pop()) {
    if (needed.has(id)) continue
    needed.add(id)
    open.push(...(component.steps.find((other) => other.id === id)?.needs ?? []))
  }
  return needed
}

function listUses({ step, path }: StepPlace): { name: string; path: Path }[] {
  const bound =
    "params" in step ? (step.params ?? []).map((name, index) => ({ name, path: [...path, "params", index] })) : []
  const written = listFields(step).flatMap(([field, value]) =>
    listTexts(value, [...path, ...field]).flatMap((item) =>
      listReferences(item.text).map((name) => ({ name, path: item.path })),
    ),
  )
  // An undo has what its step read and took.
  const own = [...listCaptures(step), ...("deployed" in step ? ["deployed"] : [])]
  const isOwn = (name: string, at: Path) => own.includes(name) && at[path.length] === "undo"
  return [...bound, ...written.filter((use) => !isOwn(use.name, use.path)), ...listExpectedReferences(step, path)]
}

/** The fields of a step in which `$name` stands for a value. */
function listFields(step: WrittenStep): [Path, unknown][] {
  if ("http" in step)
    return [
      [["http", "path"], step.http.path],
      [["http", "headers"], step.http.headers],
      [["http", "json"], step.http.json],
      [["http", "body"], step.http.body],
      [["undo"], step.undo],
    ]
  if ("command" in step)
    return [
      [["command"], step.command],
      [["deployed"], step.deployed],
      [["undo"], step.undo],
      [["cwd"], step.cwd],
    ]
  if ("workflow" in step)
    return [
      [["workflow", "ref"], step.workflow.ref],
      [["workflow", "inputs"], step.workflow.inputs],
      [["undo"], step.undo],
    ]
  return "manual" in step ? [[["manual"], step.manual]] : []
}

function listExpectedReferences(step: WrittenStep, path: Path): { name: string; path: Path }[] {
  const [field, expectations] =
    "check" in step ? ["values", step.expect?.values] : "http" in step ? ["json", step.expect?.json] : []
  const named = Object.entries(expectations ?? {}).flatMap(([key, expected]) =>
    field ? namesInExpected(expected).map((name) => ({ name, path: [...path, "expect", field, key] })) : [],
  )
  const inPatterns = listPatterns(step).flatMap(([at, source]) =>
    namesInPattern(source ?? "").map((name) => ({ name, path: [...path, ...at] })),
  )
  return [...named, ...inPatterns]
}

function listPatterns(step: WrittenStep): [Path, string | undefined][] {
  if ("check" in step || "http" in step) return [[["expect", "matches"], step.expect?.matches]]
  if (!("command" in step)) return []
  const captures = Object.entries(step.capture ?? {}).map(([name, source]): [Path, string] => [
    ["capture", name],
    source,
  ])
  return [[["expect", "stdout"], step.expect?.stdout], ...captures]
}
