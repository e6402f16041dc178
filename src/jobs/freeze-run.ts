import { createHash } from "node:crypto"
import { readFile } from "node:fs/promises"
import { isAbsolute, join } from "node:path"
import { errorMessage, StepbackError } from "../errors.ts"
import type { CommandStep, Plan, PlanComponent, WorkflowStep } from "../plans/plan.ts"
import { fill, missing, namesIn, type Values } from "../plans/values.ts"
import { GitHubProblem, openGitHub } from "../steps/github.ts"
import { actionsOf } from "../steps/github-actions.ts"
import { runProgram } from "../steps/program.ts"
import type { Secrets } from "../steps/secrets.ts"

type ByStep = Record<string, Record<string, string>>

function commandSteps(components: readonly PlanComponent[]): CommandStep[] {
  return components.flatMap((component) => component.steps.filter((step) => step.kind === "command"))
}

function folderOf(step: CommandStep, secrets: Secrets): string {
  return step.cwd === null ? process.cwd() : secrets.resolveOpen(step.cwd)
}

/**
 * Commits of the parameters of type git_ref, per step, in the repository where the step works: a command's folder, a
 * workflow's repository at GitHub. What runs is the commit, wherever the branch has moved by then. Throws with the way out
 * when a ref is unknown or nobody can say.
 */
export async function resolveCommits(
  plan: Plan,
  components: readonly PlanComponent[],
  parameters: Values,
  secrets: Secrets,
): Promise<ByStep> {
  const refs = new Set(Object.keys(plan.params).filter((name) => plan.params[name]?.type === "git_ref"))
  const commits: ByStep = {}
  for (const step of components.flatMap((component) => component.steps)) {
    if (step.kind !== "command" && step.kind !== "workflow") continue
    const texts =
      step.kind === "command"
        ? [...step.command, ...(step.undo ?? [])]
        : [...Object.values(step.inputs), ...Object.values(step.undo ?? {})]
    for (const name of new Set(texts.flatMap(namesIn).filter((each) => refs.has(each)))) {
      const ref = parameters[name] ?? ""
      const commit = step.kind === "command" ? commitInFolder(ref, step, secrets) : commitAtGitHub(ref, step, secrets)
      commits[step.id] = { ...commits[step.id], [name]: await commit }
    }
  }
  return commits
}

/**
 * A workflow is started by the name of a branch or tag: GitHub takes no commit there, and whether the name still means what
 * was approved is asked before. So it is written down here, where a parameter is not yet the commit that it stands for.
 */
export function nameRefs(components: readonly PlanComponent[], parameters: Values): PlanComponent[] {
  return components.map((component) => ({
    ...component,
    steps: component.steps.map((step) =>
      step.kind === "workflow" && missing(namesIn(step.ref), parameters).length === 0
        ? { ...step, ref: fill(step.ref, parameters).replaceAll("$", "$$$$") }
        : step,
    ),
  }))
}

/** People wait for the card. */
const githubMs = 8_000

async function commitAtGitHub(ref: string, step: WorkflowStep, secrets: Secrets): Promise<string> {
  const [signal, deadline] = [new AbortController().signal, performance.now() + githubMs]
  try {
    const { api, token, repo } = step
    return await actionsOf(openGitHub({ api, token, repo, secrets, signal, deadline }), step).commitOf(ref)
  } catch (error) {
    if (!(error instanceof GitHubProblem)) throw error
    throw new StepbackError("unknown_ref", `${step.id}: which commit of ${step.repo} ${ref} is: ${error.message}`)
  }
}

async function commitInFolder(ref: string, step: CommandStep, secrets: Secrets): Promise<string> {
  const ended = await runProgram({
    command: ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", `${ref}^{commit}`],
    cwd: folderOf(step, secrets),
    env: secrets.programBase,
    key: null,
    timeoutMs: 10_000,
    signal: new AbortController().signal,
  })
  const commit = ended.kind === "exited" && ended.code === 0 ? ended.stdout.trim() : ""
  if (!/^[0-9a-f]{40,64}$/.test(commit)) {
    const why =
      ended.kind === "not_started" ? ended.message : ended.kind === "exited" ? ended.stderr.trim() : ended.kind
    throw new StepbackError(
      "unknown_ref",
      `${ref} is no commit, tag or branch of the repository that the step works in ${why}`.trim(),
    )
  }
  return commit
}

/** Hashes of the files that commands name: the program when it is relative, and `files`. */
export async function hashFiles(components: readonly PlanComponent[], secrets: Secrets): Promise<ByStep> {
  const hashes: ByStep = {}
  for (const step of commandSteps(components)) {
    const found = await hashFilesOf(step, secrets)
    if (Object.keys(found).length > 0) hashes[step.id] = found
  }
  return hashes
}

export async function hashFilesOf(step: CommandStep, secrets: Secrets): Promise<Record<string, string>> {
  const programs = [step.command, step.deployed, step.undo]
    .map((list) => list?.[0])
    .filter((name) => name !== undefined)
  const relative = programs.filter((name) => name.includes("/") && !isAbsolute(name))
  const hashes: Record<string, string> = {}
  for (const name of [...new Set([...relative, ...step.files])].sort()) {
    try {
      hashes[name] = createHash("sha256")
        .update(await readFile(join(folderOf(step, secrets), name)))
        .digest("hex")
    } catch (error) {
      throw new StepbackError(
        "file_missing",
        `${step.id}: ${name} cannot be read: ${secrets.redact(errorMessage(error))}`,
      )
    }
  }
  return hashes
}
