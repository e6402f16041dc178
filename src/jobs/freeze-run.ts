import { createHash } from "node:crypto"
import { readFile } from "node:fs/promises"
import { isAbsolute, join } from "node:path"
import { errorMessage, StepbackError } from "../errors.ts"
import type { CommandStep, Plan, PlanComponent } from "../plans/plan.ts"
import { namesIn } from "../plans/values.ts"
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
 * Commits of the parameters of type git_ref, per step, in the repository where the step works. What runs is the commit,
 * wherever the branch has moved by then. Throws with the way out when a ref is unknown.
 */
export async function resolveCommits(
  plan: Plan,
  components: PlanComponent[],
  parameters: Record<string, string>,
  secrets: Secrets,
): Promise<ByStep> {
  const refs = new Set(Object.keys(plan.params).filter((name) => plan.params[name]?.type === "git_ref"))
  const commits: ByStep = {}
  for (const step of commandSteps(components)) {
    const used = [...new Set([...step.command, ...(step.undo ?? [])].flatMap(namesIn))].filter((name) => refs.has(name))
    for (const name of used) {
      commits[step.id] ??= {}
      ;(commits[step.id] as Record<string, string>)[name] = await resolveCommit(
        parameters[name] ?? "",
        folderOf(step, secrets),
        secrets,
      )
    }
  }
  return commits
}

async function resolveCommit(ref: string, cwd: string, secrets: Secrets): Promise<string> {
  const ended = await runProgram({
    command: ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", `${ref}^{commit}`],
    cwd,
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
