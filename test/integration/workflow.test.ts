import { afterAll, beforeEach, describe, expect, test } from "vitest"
import { startLocalGitHub, type LocalGitHub } from "../../playground/github/local-github.ts"
import { LostLeaseError } from "../../src/errors.ts"
import type { FrozenRun } from "../../src/plans/frozen.ts"
import type { PlanStep } from "../../src/plans/plan.ts"
import { draftUndo } from "../../src/plans/undo-run.ts"
import type { StepResult } from "../../src/rollback/facts.ts"
import { rehearseStep, runStep } from "../../src/steps/definitions.ts"
import type { RunContext } from "../../src/steps/step.ts"
import { stepRun } from "../unit/bot/views.ts"
import { contextOf, stepOf } from "./steps-fixture.ts"

const good = "9f8e7d6c5b4a39281706f5e4d3c2b1a098765432"
const other = "1111111111111111111111111111111111111111"
const named = `name: Deploy
run-name: deploy \${{ inputs.stepback_id }}
on:
  workflow_dispatch:
    inputs:
      version: { required: true }
      stepback_id: { required: true }
jobs: {}
`

let github: LocalGitHub
let step: PlanStep

beforeEach(async () => {
  await github?.stop()
  github = await startLocalGitHub({
    repo: "acme/shop",
    refs: { main: good, "release/7": other },
    workflows: {
      "deploy.yml": named,
      "nameless.yml": named.replace(/run-name.*\n/, ""),
      "deaf.yml": named.replace(/ {6}stepback_id.*\n/, ""),
    },
  })
  step = await stepFor()
})
afterAll(() => github.stop())

function stepFor(facts: { file?: string; ref?: string; timeout?: string } = {}): Promise<PlanStep> {
  const { file = "deploy.yml", ref = "main", timeout = "20s" } = facts
  return stepOf(`
- id: deploy
  title: Deploy
  timeout: ${timeout}
  workflow: { repo: acme/shop, file: ${file}, ref: ${ref}, inputs: { version: $word }, token: "\${GH_TOKEN}", api: "${github.url}" }
  irreversible: a test
`)
}

function context(facts: Parameters<typeof contextOf>[0] = {}): Promise<RunContext> {
  return contextOf({
    values: { word: "7.3" },
    since: new Date().toISOString(),
    workerEnvironment: { GH_TOKEN: github.token },
    ...facts,
  })
}

const dispatches = () => github.requests.filter((line) => line.endsWith("/dispatches")).length

test("a rehearsal says which commit would run, and has no effect", async () => {
  const seen = await rehearseStep(step, await context())
  expect(seen).toMatchObject({
    outcome: "looked",
    commit: good,
    note: "deploy.yml of acme/shop at main (9f8e7d6)",
    warnings: [],
  })
  expect(github.requests.every((line) => line.startsWith("GET "))).toBe(true)
  expect(github.runs()).toHaveLength(0)
})

test("a rehearsal finds a disabled workflow, a run-name without the id, and a token that is not taken", async () => {
  const nameless = await rehearseStep(await stepFor({ file: "nameless.yml" }), await context())
  expect(nameless.warnings.join()).toContain("run-name: … ${{ inputs.stepback_id }}")
  const wrong = await rehearseStep(step, await context({ workerEnvironment: { GH_TOKEN: "ghp_stale_token" } }))
  expect(wrong).toMatchObject({
    outcome: "unknown",
    note: expect.stringContaining("put a valid one into the worker's environment"),
  })
  expect(JSON.stringify(wrong)).not.toContain("ghp_stale_token")
  const found = github.repository.workflows.get("deploy.yml")
  if (found) found.state = "disabled_manually"
  expect(await rehearseStep(step, await context())).toMatchObject({
    outcome: "unknown",
    note: expect.stringContaining("enable it"),
  })
})

test("it is dispatched with its inputs and an id of its own, awaited, and linked", async () => {
  const ending = runStep(step, await context({ rehearsed: await rehearseStep(step, await context()) }))
  const run = await github.started()
  expect(run.inputs).toEqual({ version: "7.3", stepback_id: expect.stringMatching(/^sb-[0-9a-f]{24}$/) })
  github.finish(run, "success")
  const result = await ending
  expect(result).toMatchObject({ outcome: "succeeded", issues: [] })
  expect(result.evidence).toEqual([`run https://github.com/acme/shop/actions/runs/${run.id}`, "at main (9f8e7d6)"])
  expect(JSON.stringify(result)).not.toContain(github.token)
})

test("a failed run names the job and its step", async () => {
  const ending = runStep(step, await context())
  const failing = { name: "Push to production", conclusion: "failure" } as const
  github.finish(await github.started(), "failure", [
    { name: "build", conclusion: "success", steps: [] },
    { name: "deploy", conclusion: "failure", steps: [{ name: "Checkout", conclusion: "success" }, failing] },
  ])
  const result = await ending
  expect(result).toMatchObject({ outcome: "failed", failure: { code: "run_failure" } })
  expect(result.failure?.message).toContain("job deploy, step Push to production: failure")
})

test("an undo takes back a run that failed, which may have done its part, and no workflow that did not start", async () => {
  const back = { ...step, irreversible: null, undo: { version: "7.4" } } as PlanStep
  const component = { id: "all", title: "All", risk: "low", rtoMs: null, steps: [back] }
  const frozen = { rollbackId: "r", parameters: {}, commits: {}, components: [component] } as unknown as FrozenRun
  const undone = (result: StepResult) => draftUndo(frozen, [stepRun("deploy", result)]).components.length
  const ending = runStep(step, await context())
  github.finish(await github.started(), "failure")
  expect(undone(await ending)).toBe(1)
  const refused = await runStep(step, await context({ workerEnvironment: { GH_TOKEN: "ghp_stale_token" } }))
  expect(refused.outcome).toBe("failed")
  expect(undone(refused)).toBe(0)
})

describe("dispatched once", () => {
  test("when the link broke after the dispatch and before its answer", async () => {
    github.fail({ when: "/dispatches", after: "cut" })
    github.hideFromLists(2)
    const ending = runStep(step, await context())
    github.finish(await github.started(), "success")
    expect(await ending).toMatchObject({ outcome: "succeeded" })
    expect(dispatches()).toBe(1)
  })

  test("when the worker died in between: the next one finds the run before it would start another", async () => {
    github.fail({ when: "/dispatches", after: "hold" })
    const rollbackId = crypto.randomUUID()
    const dead = new AbortController()
    const lost = { signal: dead.signal, checkpoint: () => Promise.reject(new LostLeaseError(rollbackId)) }
    void runStep(step, await context({ rollbackId, ...lost })).catch(() => undefined)
    const run = await github.started()
    dead.abort()
    github.hideFromLists(1)
    const ending = runStep(step, await context({ rollbackId, interrupted: true }))
    await github.asked(`/runs/${run.id}`)
    github.finish(run, "success")
    expect(await ending).toMatchObject({ outcome: "succeeded" })
    expect(dispatches()).toBe(1)
  })

  test("when the answer does not tell the run", async () => {
    github.tellsRun(false)
    const ending = runStep(step, await context())
    github.finish(await github.started(), "success")
    expect(await ending).toMatchObject({ outcome: "succeeded" })
    expect(github.runs()).toHaveLength(1)
  })

  test("when a Retry finds what an earlier attempt left running", async () => {
    const rollbackId = crypto.randomUUID()
    const first = runStep(step, await context({ rollbackId, closing: () => github.runs().length > 0 }))
    await expect(first).rejects.toBeInstanceOf(LostLeaseError)
    const again = runStep(step, await context({ rollbackId, attempt: 2 }))
    const run = await github.started()
    await github.asked("/workflows/deploy.yml/runs")
    github.finish(run, "success")
    expect(await again).toMatchObject({ outcome: "succeeded", issues: [expect.stringContaining("earlier attempt")] })
    expect(dispatches()).toBe(1)
  })

  test("when a Retry follows a token that ran out, though the run's name does not tell that it is ours", async () => {
    const rollbackId = crypto.randomUUID()
    const nameless = await stepFor({ file: "nameless.yml" })
    const first = runStep(nameless, await context({ rollbackId }))
    const run = await github.started()
    github.fail({ when: `/actions/runs/${run.id}`, reply: { status: 401, body: { message: "Bad credentials" } } })
    expect(await first).toMatchObject({ outcome: "unknown", failure: { code: "github_401" }, workflowRun: run.id })
    github.finish(run, "success")
    const again = await runStep(nameless, await context({ rollbackId, attempt: 2, workflowRun: run.id }))
    expect(again).toMatchObject({ outcome: "succeeded" })
    expect(dispatches()).toBe(1)
  })

  test("when a worker stood still before it would start one: another has started it since", async () => {
    const rollbackId = crypto.randomUUID()
    const stillOurs = () => Promise.reject(new LostLeaseError(rollbackId))
    const rehearsed = await rehearseStep(step, await context())
    await expect(runStep(step, await context({ rollbackId, rehearsed, stillOurs }))).rejects.toThrow(LostLeaseError)
    expect(dispatches()).toBe(0)
  })

  test("and a run that could not be found again is never repeated: a person decides", async () => {
    const result = await runStep(await stepFor({ file: "nameless.yml" }), await context({ interrupted: true }))
    expect(result).toMatchObject({ outcome: "unknown", failure: { code: "interrupted" } })
    expect(dispatches()).toBe(0)
  })
})

test("an interrupted worker that had not dispatched yet: it is looked for, and then started", async () => {
  const ending = runStep(step, await context({ interrupted: true }))
  github.finish(await github.started(), "success")
  expect(await ending).toMatchObject({ outcome: "succeeded" })
  expect(dispatches()).toBe(1)
})

test("Stop cancels the run", async () => {
  const stop = new AbortController()
  const ending = runStep(step, await context({ signal: stop.signal }))
  const run = await github.started()
  await github.asked(`/runs/${run.id}`)
  stop.abort()
  expect(await ending).toMatchObject({
    outcome: "failed",
    failure: { code: "stopped", message: "stopped: its run was cancelled" },
  })
  expect(run.conclusion).toBe("cancelled")
})

test("a lost lease leaves the run to the next worker", async () => {
  const end = new AbortController()
  const id = crypto.randomUUID()
  const ending = runStep(
    step,
    await context({ rollbackId: id, signal: end.signal, checkpoint: () => Promise.reject(new LostLeaseError(id)) }),
  )
  const run = await github.started()
  await github.asked(`/runs/${run.id}`)
  end.abort()
  await expect(ending).rejects.toBeInstanceOf(LostLeaseError)
  expect(run.conclusion).toBeNull()
})

test("what takes too long is cancelled", async () => {
  const ending = runStep(await stepFor({ timeout: "1s" }), await context())
  const run = await github.started()
  expect(await ending).toMatchObject({ outcome: "failed", failure: { code: "timed_out" } })
  expect(run.conclusion).toBe("cancelled")
})

test("a branch that moved since the approval: nothing is started", async () => {
  const shown = await rehearseStep(step, await context())
  github.repository.refs.set("main", other)
  const result = await runStep(step, await context({ rehearsed: shown }))
  expect(result).toMatchObject({
    outcome: "failed",
    failure: { code: "moved", message: expect.stringContaining("9f8e7d6 was approved") },
  })
  expect(dispatches()).toBe(0)
})

test("a branch that moves at the very moment: the run is cancelled and counts as failed", async () => {
  const shown = await rehearseStep(step, await context())
  github.repository.refs.set("main", other)
  github.fail({ when: "/commits/main", reply: { status: 200, text: good } })
  const result = await runStep(step, await context({ rehearsed: shown }))
  expect(result).toMatchObject({
    outcome: "failed",
    failure: { code: "moved", message: expect.stringContaining("started at 1111111") },
  })
  expect(github.runs()[0]?.conclusion).toBe("cancelled")
})

test.each([
  ["a token that is not taken", { status: 401, body: { message: "Bad credentials" } }, "github_401", "${GH_TOKEN}"],
  [
    "a token that may not",
    { status: 403, body: { message: "Resource not accessible by personal access token" } },
    "github_403",
    "Actions: read and write",
  ],
  ["something that is not there", { status: 404, body: { message: "Not Found" } }, "github_404", "spelled right"],
  [
    "a repository that has moved",
    { status: 301, headers: { location: "http://169.254.169.254/" } },
    "github_301",
    "not followed",
  ],
] as const)("%s is said with the way out", async (_, reply, code, words) => {
  github.fail({ when: "/dispatches", reply })
  const result = await runStep(step, await context())
  expect(result).toMatchObject({ outcome: "failed", failure: { code, message: expect.stringContaining(words) } })
  expect(github.requests.filter((line) => line.startsWith("POST"))).toHaveLength(1)
})

test("inputs that the workflow does not take, a ref that is none", async () => {
  const deaf = await runStep(await stepFor({ file: "deaf.yml" }), await context())
  expect(deaf.failure?.message).toContain("stepback_id, under on.workflow_dispatch.inputs")
  const commit = await runStep(await stepFor({ ref: good }), await context())
  expect(commit.failure?.message).toContain("not at a commit")
})

test("a rate limit is waited for, and is no failure", async () => {
  github.fail({
    when: "/dispatches",
    reply: {
      status: 403,
      body: { message: "API rate limit exceeded" },
      headers: { "x-ratelimit-remaining": "0", "x-ratelimit-reset": String(Math.floor(Date.now() / 1000)) },
    },
  })
  github.fail({
    when: "/dispatches",
    reply: { status: 429, body: { message: "slow down" }, headers: { "retry-after": "1" } },
  })
  const ending = runStep(step, await context())
  github.finish(await github.started(), "success")
  expect(await ending).toMatchObject({ outcome: "succeeded" })
})

test.each(["0", "", "-5"])("a rate limit of '%s' seconds is not asked about without a pause", async (after) => {
  const reply = { status: 429, body: { message: "slow down" }, headers: { "retry-after": after } }
  for (let nth = 1; nth <= 40; nth++) github.fail({ when: "/dispatches", reply })
  await runStep(await stepFor({ timeout: "3s" }), await context())
  expect(dispatches()).toBeLessThanOrEqual(4)
})

test("a rate limit that lasts longer than the step may take is said at once", async () => {
  github.fail({
    when: "/dispatches",
    reply: { status: 429, body: { message: "slow down" }, headers: { "retry-after": "3600" } },
  })
  expect(await runStep(step, await context())).toMatchObject({ outcome: "failed", failure: { code: "rate_limited" } })
})

test("names that climb to another endpoint, and a token in the clear, are refused", async () => {
  const climbing = { ...step, repo: "acme/.." } as PlanStep
  expect(await runStep(climbing, await context())).toMatchObject({ outcome: "failed", failure: { code: "bad_name" } })
  await expect(runStep({ ...step, api: "http://github.example" } as PlanStep, await context())).rejects.toThrow(
    "must be https",
  )
  expect(github.requests).toHaveLength(0)
})
