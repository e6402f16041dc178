import { parse } from "yaml"

export type Conclusion = "success" | "failure" | "cancelled" | "timed_out"
export type Job = {
  name: string
  conclusion: Conclusion | null
  steps: { name: string; conclusion: Conclusion | null }[]
}
export type Run = {
  id: number
  workflow: string
  title: string
  headSha: string
  ref: string
  inputs: Record<string, string>
  status: "queued" | "in_progress" | "completed"
  conclusion: Conclusion | null
  jobs: Job[]
  createdAt: Date
  /** Grows with each change: what its ETag is made of. */
  version: number
  /** Lists that were asked for since it began; it is left out of the first ones. */
  listed: number
}
/** One repository as a workflow sees it: its refs and its workflow files, as YAML. */
export type Repository = {
  name: string
  refs: Map<string, string>
  workflows: Map<string, { id: number; source: string; state: "active" | "disabled_manually" }>
  runs: Run[]
}

type Declared = { type?: string; required?: boolean; default?: unknown }

/** What a workflow's YAML says about being dispatched; null without that trigger. */
function dispatchOf(
  source: string,
): { inputs: Record<string, Declared | null>; runName: string | null; name: string } | null {
  const file = parse(source) as {
    name?: string
    "run-name"?: string
    on?: { workflow_dispatch?: { inputs?: Record<string, Declared | null> } | null }
  }
  if (file.on === undefined || !("workflow_dispatch" in file.on)) return null
  return { inputs: file.on.workflow_dispatch?.inputs ?? {}, runName: file["run-name"] ?? null, name: file.name ?? "" }
}

let lastRunId = 17_000_000_000

/** Starts a run as GitHub does, or says why not: the status and message of its answer. */
export function dispatch(
  repository: Repository,
  file: string,
  ref: string,
  given: Record<string, unknown>,
): Run | { status: number; message: string } {
  const workflow = repository.workflows.get(file)
  if (!workflow) return { status: 404, message: "Not Found" }
  if (workflow.state !== "active")
    return { status: 422, message: "Cannot trigger a 'workflow_dispatch' on a disabled workflow" }
  const headSha = repository.refs.get(ref.replace(/^refs\/(heads|tags)\//, ""))
  if (headSha === undefined) return { status: 422, message: `No ref found for: ${ref}` }
  const declared = dispatchOf(workflow.source)
  if (!declared) return { status: 422, message: "Workflow does not have 'workflow_dispatch' trigger" }
  const odd = Object.keys(given).filter((name) => !(name in declared.inputs))
  if (odd.length > 0) return { status: 422, message: `Unexpected inputs provided: ${JSON.stringify(odd)}` }
  const lacking = Object.entries(declared.inputs).find(
    ([name, input]) => input?.required === true && input.default === undefined && !(name in given),
  )
  if (lacking) return { status: 422, message: `Required input '${lacking[0]}' not provided` }
  if (Object.values(given).some((value) => typeof value !== "string"))
    return { status: 422, message: "Invalid request. inputs must be strings" }
  const inputs = given as Record<string, string>
  const title = (declared.runName ?? declared.name).replace(
    /\$\{\{\s*inputs\.(\w+)\s*\}\}/g,
    (_, name: string) => inputs[name] ?? "",
  )
  const run: Run = {
    id: ++lastRunId,
    workflow: file,
    title,
    headSha,
    ref,
    inputs,
    status: "queued",
    conclusion: null,
    jobs: [],
    createdAt: new Date(),
    version: 1,
    listed: 0,
  }
  repository.runs.unshift(run)
  return run
}

export function change(run: Run, facts: Partial<Pick<Run, "status" | "conclusion" | "jobs">>): void {
  Object.assign(run, facts)
  run.version++
}
