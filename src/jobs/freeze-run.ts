import { createHash } from "node:crypto"
import { readFile } from "node:fs/promises"
import { isAbsolute, resolve } from "node:path"
import { setTimeout as pause } from "node:timers/promises"
import { errorMessage, StepbackError } from "../errors.ts"
import type { CommandStep, Plan, PlanComponent, WorkflowStep } from "../plans/plan.ts"
import { namesIn, type Values } from "../plans/values.ts"
import { GitHubProblem, openGitHub } from "../steps/github.ts"
import { actionsOf } from "../steps/github-actions.ts"
import { runProgram, type Ended } from "../steps/program.ts"
import type { Secrets } from "../steps/secrets.ts"

type ByStep = Record<string, Record<string, string>>

function commandSteps(components: readonly PlanComponent[]): CommandStep[] {
  return components.flatMap((component) => component.steps.filter((step) => step.kind === "command"))
}

/** Where the step works, with the values that it is given there too. */
function folderOf(step: CommandStep, secrets: Secrets, values: Values): string {
  return step.cwd === null ? process.cwd() : secrets.resolveOpen(step.cwd, values)
}

/**
 * Commits of the parameters of type git_ref, per step, in the repository where the step works: a command's folder, a
 * workflow's repository at GitHub. What runs is the commit, wherever the branch has moved by then. Throws with the way out
 * when a ref is unknown or nobody can say. `settled`: of steps that are done, which were done at their commits.
 */
export async function resolveCommits(
  plan: Plan,
  components: readonly PlanComponent[],
  parameters: Values,
  secrets: Secrets,
  settled: ByStep = {},
): Promise<ByStep> {
  const refs = new Set(Object.keys(plan.params).filter((name) => plan.params[name]?.type === "git_ref"))
  const commitOf = (step: CommandStep | WorkflowStep, ref: string) =>
    step.kind === "command" ? commitInFolder(ref, step, secrets, parameters) : commitAtGitHub(ref, step, secrets)
  const ofSteps = components
    .flatMap(({ steps }) => steps)
    .map(async (step): Promise<[string, Record<string, string>]> => {
      if (step.kind !== "command" && step.kind !== "workflow") return [step.id, {}]
      const known = settled[step.id]
      if (known) return [step.id, known]
      const names = [...new Set(argumentsOf(step).flatMap(namesIn))].filter((name) => refs.has(name))
      const found = names.map(async (name) => [name, await commitOf(step, parameters[name] ?? "")] as const)
      return [step.id, Object.fromEntries(await Promise.all(found))]
    })
  const commits = await Promise.all(ofSteps)
  return Object.fromEntries(commits.filter(([, found]) => Object.keys(found).length > 0))
}

function argumentsOf(step: CommandStep | WorkflowStep): string[] {
  return step.kind === "command"
    ? [...step.command, ...(step.undo ?? [])]
    : [...Object.values(step.inputs), ...Object.values(step.undo ?? {})]
}

/** People wait for the card: so long for what passes. */
const githubMs = 8_000

async function commitAtGitHub(ref: string, step: WorkflowStep, secrets: Secrets): Promise<string> {
  const { api, token, repo } = step
  const deadline = performance.now() + githubMs
  const github = openGitHub({ api, token, repo, secrets, signal: new AbortController().signal, deadline })
  for (let wait = 250; ; wait *= 2) {
    try {
      return await actionsOf(github, step).commitOf(ref)
    } catch (error) {
      if (!(error instanceof GitHubProblem)) throw error
      if (!error.retryable || performance.now() + wait > deadline)
        throw new StepbackError(
          "unknown_ref",
          `which commit of ${repo} "${ref}" is cannot be told, and ${step.id} would be given it: ${error.message}`,
        )
      await pause(wait)
    }
  }
}

async function commitInFolder(ref: string, step: CommandStep, secrets: Secrets, parameters: Values): Promise<string> {
  // Not `--quiet`, by which it would not tell of a name that is more than one thing.
  const options = ["--verify", "--end-of-options"]
  const ask = (name: string) =>
    runProgram({
      command: ["git", "-c", "core.warnAmbiguousRefs=true", "rev-parse", ...options, `${name}^{commit}`],
      cwd: folderOf(step, secrets, parameters),
      env: { ...secrets.programBase, LC_ALL: "C" },
      key: null,
      timeoutMs: 10_000,
      signal: new AbortController().signal,
    })
  const ended = await ask(ref)
  const commit = commitIn(ended)
  const isAmbiguous = ended.kind === "exited" && /refname .* is ambiguous/.test(ended.stderr)
  // Git takes the tag, and whoever asked may have meant the branch: that is nothing to ask about where they are one commit.
  if (
    isAmbiguous &&
    !(await Promise.all([ask(`refs/tags/${ref}`), ask(`refs/heads/${ref}`)])).every((each) => commitIn(each) === commit)
  )
    throw new StepbackError(
      "unknown_ref",
      `${ref} is more than one thing in the repository that the step works in: name refs/tags/${ref} or refs/heads/${ref}`,
    )
  if (!/^[0-9a-f]{40,64}$/.test(commit)) {
    const why =
      ended.kind === "not_started" ? ended.message : ended.kind === "exited" ? gitsWords(ended.stderr) : ended.kind
    throw new StepbackError(
      "unknown_ref",
      `${ref} is no commit, tag or branch of the repository that the step works in ${why}`.trim(),
    )
  }
  return commit
}

function commitIn(ended: Ended): string {
  return ended.kind === "exited" && ended.code === 0 ? ended.stdout.trim() : ""
}

/** What git says beyond that there is none, as that the folder is no repository. */
function gitsWords(said: string): string {
  return said.replace("fatal: Needed a single revision", "").trim()
}

/** Hashes of the files that commands name: the program when it is relative, and `files`. */
export async function hashFiles(
  components: readonly PlanComponent[],
  secrets: Secrets,
  valuesOf: (step: CommandStep) => Values,
): Promise<ByStep> {
  const hashes: ByStep = {}
  for (const step of commandSteps(components)) {
    const found = await hashFilesOf(step, secrets, valuesOf(step))
    if (Object.keys(found).length > 0) hashes[step.id] = found
  }
  return hashes
}

export async function hashFilesOf(
  step: CommandStep,
  secrets: Secrets,
  values: Values,
): Promise<Record<string, string>> {
  const programs = [step.command, step.deployed, step.undo]
    .map((list) => list?.[0])
    .filter((name) => name !== undefined)
  const relative = programs.filter((name) => name.includes("/") && !isAbsolute(name))
  const hashes: Record<string, string> = {}
  for (const name of [...new Set([...relative, ...step.files])].sort()) {
    try {
      hashes[name] = createHash("sha256")
        .update(await readFile(resolve(folderOf(step, secrets, values), name)))
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
