import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, expect, test, vi } from "vitest"
import { startLocalGitHub, type LocalGitHub } from "../../playground/github/local-github.ts"
import { hasButton, startPlay, wordsOf } from "../../playground/scenarios/play.ts"
import type { Message } from "../../playground/slack/local-slack.ts"
import { startStage, type Stage } from "../../playground/stage.ts"
import type { StepbackProcess } from "../../playground/stepback-process.ts"

const good = "9f8e7d6c5b4a39281706f5e4d3c2b1a098765432"
const released = "1111111111111111111111111111111111111111"
const source = `name: Deploy
run-name: deploy \${{ inputs.stepback_id }}
on: { workflow_dispatch: { inputs: { version: { required: true }, commit: { required: true }, stepback_id: { required: true } } } }
jobs: {}
`
let github: LocalGitHub
let stage: Stage
let plans: string
let worker: StepbackProcess

const plan = (api: string) => `version: 1
environment: shop
title: Shop 7.4 back to 7.3
target: { http: "\${STAGING_URL}" }
params:
  good: { type: string, default: "7.3" }
  branch: { type: git_ref, default: main }
  code: { type: git_ref, default: release }
approve:
  low: { count: 1, from: anyone }
  medium: { count: 1, from: anyone }
  high: { count: 1, from: anyone }
components:
  service:
    risk: low
    steps:
      - id: deploy
        workflow: { repo: acme/shop, file: deploy.yml, ref: $branch, inputs: { version: $good, commit: $code }, token: "\${GH_TOKEN}", api: "${api}" }
        undo: { version: "7.4", commit: $code }
`

beforeAll(async () => {
  github = await startLocalGitHub({
    repo: "acme/shop",
    refs: { main: good, release: released },
    workflows: { "deploy.yml": source, "nameless.yml": source.replace(/run-name.*\n/, "") },
  })
  plans = await mkdtemp(join(tmpdir(), "stepback-plans-"))
  await writeFile(join(plans, "shop.yaml"), plan(github.url))
  const nameless = plan(github.url).replace("environment: shop", "environment: nameless")
  await writeFile(join(plans, "nameless.yaml"), nameless.replace("deploy.yml", "nameless.yml"))
  stage = await startStage({ mode: "http", queue: "postgres", plans })
  await stage.start({ STEPBACK_ROLE: "bot" })
  worker = await stage.start({ STEPBACK_ROLE: "worker", GH_TOKEN: github.token })
})
afterAll(async () => {
  await stage.stop()
  await github.stop()
  await rm(plans, { recursive: true, force: true })
})

test(
  "a worker is killed between the dispatch and its answer: the next one awaits the same run, undo dispatches its inputs",
  { timeout: 120_000 },
  async () => {
    const scene = startPlay(stage, () => undefined)
    github.fail({ when: "/commits/release", times: 2, reply: { status: 502, body: { message: "Bad gateway" } } })
    await scene.types("alice", "shop prices are off")
    const shown = await scene.waitingCard()
    // The branch that the card named is what the plan still means.
    await writeFile(join(plans, "shop.yaml"), plan(github.url).replace("Shop 7.4 back", "Shop 7.4 and back"))
    await scene.presses("bob", shown, "approve")
    const moved = (message: Message) => wordsOf(message).includes("the plan file") && hasButton(message, "approve")
    const card = await scene.sees("staging", "the fresh card", moved)
    expect(wordsOf(card)).not.toContain("step deploy")
    expect(wordsOf(card)).toContain("deploy.yml of acme/shop at main (9f8e7d6)")
    github.fail({ when: "/dispatches", after: "hold" })
    // What was approved is a commit, wherever the branch goes.
    github.repository.refs.set("release", good)
    await scene.presses("bob", card, "approve")
    const run = await github.started()
    worker.kill("SIGKILL")
    await worker.ended
    worker = await stage.start({ STEPBACK_ROLE: "worker", GH_TOKEN: github.token })
    await github.asked(`/actions/runs/${run.id}`)
    github.finish(run, "success")
    await scene.analysisOf(card)
    expect(github.runs()).toHaveLength(1)
    expect(run.inputs).toMatchObject({ version: "7.3", commit: released })
    const reply = stage.slack.replies("staging", card.ts).find((message) => message.text.startsWith("✓ Deploy"))
    expect(reply?.text).toContain(`/actions/runs/${run.id}`)
    expect(stage.slack.transcript()).not.toContain(github.token)

    await scene.types("alice", "undo R-1")
    const undo = await scene.sees(
      "staging",
      "the undo's card",
      (message) => message.ts > card.ts && hasButton(message, "approve"),
    )
    await scene.presses("bob", undo, "approve")
    const back = await github.started(1)
    expect(back.inputs).toMatchObject({ version: "7.4", commit: released })
    const running = await scene.sees(
      "staging",
      "Stop",
      (message) => message.ts === undo.ts && hasButton(message, "stop"),
    )
    await github.asked(`/actions/runs/${back.id}`)
    await scene.presses("alice", running, "stop")
    await scene.sees(
      "staging",
      "the end of the undo",
      (message) => message.ts === undo.ts && /stopped/.test(message.text),
    )
    expect(back.conclusion).toBe("cancelled")
  },
)

test("a token that runs out in the middle: Retry awaits the run that was started, which does not tell its name", async () => {
  const scene = startPlay(stage, () => undefined)
  await scene.types("alice", "nameless prices are off")
  const card = await scene.waitingCard()
  const before = github.runs().length
  await scene.presses("bob", card, "approve")
  const run = await github.started(before)
  github.fail({ when: `/actions/runs/${run.id}`, reply: { status: 401, body: { message: "Bad credentials" } } })
  const failed = await scene.sees(
    "staging",
    "the end",
    (message) => message.ts === card.ts && hasButton(message, "retry"),
  )
  expect(wordsOf(failed)).toContain("put a valid one into the worker's environment")
  github.finish(run, "success")
  await scene.presses("alice", failed, "retry")
  await scene.sees(
    "staging",
    "back",
    (message) => message.ts === card.ts && message.text.startsWith("nameless is back"),
  )
  expect(github.runs()).toHaveLength(before + 1)
})

test(
  "the run that was started is known after a Retry that did not get to look for it, and one whose worker died",
  {
    timeout: 120_000,
  },
  async () => {
    const scene = startPlay(stage, () => undefined)
    await scene.types("alice", "nameless prices are off")
    const card = await scene.waitingCard()
    const before = github.runs().length
    const restart = async (environment: Record<string, string>) => {
      worker.kill("SIGKILL")
      await worker.ended
      worker = await stage.start({ STEPBACK_ROLE: "worker", ...environment })
    }
    const cardSays = (words: RegExp, button: string) =>
      scene.sees(
        "staging",
        String(words),
        (message) => message.ts === card.ts && words.test(wordsOf(message)) && hasButton(message, button),
      )
    await scene.presses("bob", card, "approve")
    const run = await github.started(before)
    const path = `/actions/runs/${run.id}`
    github.fail({ when: path, reply: { status: 401, body: { message: "Bad credentials" } } })
    const failed = await cardSays(/put a valid one into the worker's environment/, "retry")
    await restart({})
    await scene.presses("alice", failed, "retry")
    const again = await cardSays(/^(?!.*\bGithub 401\b).*GH_TOKEN/s, "retry")
    await restart({ GH_TOKEN: github.token })
    const asked = () => github.requests.filter((line) => line.includes(path)).length
    const until = asked()
    github.fail({ when: path, after: "hold" })
    await scene.presses("alice", again, "retry")
    await vi.waitFor(() => expect(asked()).toBeGreaterThan(until), { timeout: 15_000 })
    await restart({ GH_TOKEN: github.token })
    github.finish(run, "success")
    await cardSays(/nameless is back/, "undo")
    expect(github.runs()).toHaveLength(before + 1)
  },
)
