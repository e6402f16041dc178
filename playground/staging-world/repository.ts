import { execFile } from "node:child_process"
import { chmod, cp, mkdir, rm } from "node:fs/promises"
import { join } from "node:path"
import { promisify } from "node:util"

const run = promisify(execFile)

/** What each release changed lies in `history/<tag>`: copied over the one before, it is that release's commit. */
const releases = [
  { tag: "v1.1", date: "2025-06-02T09:00:00Z", subject: "Scoring functions 1.1" },
  { tag: "v1.2.0", date: "2025-08-11T09:00:00Z", subject: "Weighted prism engine" },
  { tag: "v1.2.1", date: "2025-09-17T03:20:00Z", subject: "Align versions to 1.2.1, new forced-choice handling" },
] as const

/** Makes the repository in `folder`; dates and author are fixed, so its commits have the same ids everywhere. */
export async function createRepository(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true })
  await git(folder, ["init", "--quiet", "--initial-branch=main"])
  for (const release of releases) {
    await cp(join(import.meta.dirname, "history", release.tag), folder, { recursive: true })
    // Set here because an archive or a checkout on another file system may have lost the mode.
    for (const script of ["deploy.sh", "deployed.sh"]) await chmod(join(folder, script), 0o755)
    await git(folder, ["add", "--all"])
    await git(folder, ["commit", "--quiet", "--message", release.subject], release.date)
    await git(folder, ["tag", release.tag])
  }
}

/** Runs the repository's own deploy script, as the rollback will. */
export async function deploy(folder: string, name: string, ref: string): Promise<void> {
  await run("./deploy.sh", [name, ref], { cwd: folder, env: { PATH: process.env.PATH } })
}

/** The tag of a commit, or its short id. */
export async function describeCommit(folder: string, commit: string): Promise<string> {
  return (await git(folder, ["describe", "--tags", "--always", commit])).trim()
}

/** The user's and the machine's configuration, hooks and GIT_… variables must not reach the playground. */
async function git(folder: string, args: string[], date = "2025-01-01T00:00:00Z"): Promise<string> {
  const person = { NAME: "Playground", EMAIL: "playground@localhost", DATE: date }
  const env = {
    PATH: process.env.PATH,
    HOME: folder,
    LC_ALL: "C",
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_CONFIG_GLOBAL: "/dev/null",
    ...Object.fromEntries(Object.entries(person).map(([key, value]) => [`GIT_AUTHOR_${key}`, value])),
    ...Object.fromEntries(Object.entries(person).map(([key, value]) => [`GIT_COMMITTER_${key}`, value])),
  }
  const flags = ["-c", "commit.gpgsign=false", "-c", "core.autocrlf=false", "-c", "gc.auto=0"]
  return (await run("git", [...flags, ...args], { cwd: folder, env })).stdout
}
