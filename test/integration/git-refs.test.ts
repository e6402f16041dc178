import { execFileSync } from "node:child_process"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, expect, test } from "vitest"
import { resolveCommits } from "../../src/jobs/freeze-run.ts"
import { checkPlanSource } from "../../src/plans/load.ts"
import { createSecrets } from "../../src/steps/secrets.ts"

const source = `version: 1
environment: refs
title: Refs
target: {}
params:
  ref: { type: git_ref, default: main }
  folder: { type: string, default: f }
approve: { low: { count: 1, from: anyone }, medium: { count: 1, from: anyone }, high: { count: 1, from: anyone } }
components: { all: { risk: low, steps: [{ id: deploy, command: [echo, $ref], cwd: $folder, effect: keyed }] } }
`
let folder: string
let commits: { first: string; second: string }

const git = (...parts: string[]) =>
  execFileSync("git", ["-c", "user.name=t", "-c", "user.email=t@example.com", ...parts], {
    cwd: folder,
    encoding: "utf8",
    stdio: "pipe",
  }).trim()

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "stepback-refs-"))
  git("init", "-q", "-b", "main")
  git("commit", "-q", "--allow-empty", "-m", "one")
  const first = git("rev-parse", "HEAD")
  git("branch", "both")
  git("branch", "side")
  git("branch", "alike")
  git("tag", "-a", "alike", "-m", "alike")
  git("commit", "-q", "--allow-empty", "-m", "two")
  git("tag", "both")
  git("tag", "-a", "marked", "-m", "marked", first)
  git("worktree", "add", "-q", join(folder, "tree"), "side")
  commits = { first, second: git("rev-parse", "HEAD") }
})
afterAll(() => rm(folder, { recursive: true, force: true }))

async function resolve(ref: string, place = folder): Promise<string | undefined> {
  const { plan } = await checkPlanSource("refs.yaml", source)
  if (plan === null) throw new Error("no plan")
  const values = { ref, folder: place }
  const found = await resolveCommits(plan.plan, plan.plan.components, values, createSecrets(process.env))
  return found["deploy"]?.["ref"]
}

test("a branch, a tag of either kind and a short commit are the commit that they mean, in a worktree too", async () => {
  expect(await resolve("main")).toBe(commits.second)
  expect(await resolve("marked")).toBe(commits.first)
  expect(await resolve(commits.first.slice(0, 8))).toBe(commits.first)
  expect(await resolve("side", join(folder, "tree"))).toBe(commits.first)
})

test("a name that a tag and a branch share is not chosen between: people say which", async () => {
  await expect(resolve("both")).rejects.toThrow(
    "both is more than one thing in the repository that the step works in: name refs/tags/both or refs/heads/both",
  )
  expect(await resolve("alike")).toBe(commits.first)
  expect(await resolve("refs/tags/both")).toBe(commits.second)
  expect(await resolve("refs/heads/both")).toBe(commits.first)
})

test("what is not there is said, and so is a folder that is none", async () => {
  await expect(resolve("v9")).rejects.toThrow(
    /^v9 is no commit, tag or branch of the repository that the step works in$/,
  )
  await expect(resolve("main", tmpdir())).rejects.toThrow("works in fatal: not a git repository")
  await expect(resolve("main", join(folder, "nowhere"))).rejects.toThrow("nowhere is not there")
})
