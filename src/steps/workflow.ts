import { createHash } from "node:crypto"
import { setTimeout as pause } from "node:timers/promises"
import { StepbackError } from "../errors.ts"
import type { WorkflowStep } from "../plans/plan.ts"
import { fill, missing, namesIn } from "../plans/values.ts"
import type { StepResult } from "../rollback/facts.ts"
import { GitHubProblem, openGitHub } from "./github.ts"
import { actionsOf, idInput, type Actions, type WorkflowRun } from "./github-actions.ts"
import { elapsed, failure, rehearsed, stepResult, type RunContext, type StepContext, type StepType } from "./step.ts"
import { awaitRun, type Awaited } from "./workflow-run.ts"

/** A looking must not keep people waiting. */
const lookMs = 8_000
/** GitHub lists a run some seconds after it has begun: an early "not there" is no answer. */
const looks = [0, 1_000, 2_000, 4_000, 8_000]

/**
 * Dispatches a CI workflow of GitHub Actions and awaits its end. The run is known by an id of ours, the input
 * `stepback_id`, which the workflow puts into its name: `run-name: deploy ${{ inputs.stepback_id }}`.
 */
export const workflowStep: StepType<WorkflowStep> = {
  async rehearse(step, context) {
    const unknown = missing(namesIn(step.ref), context.values)
    if (unknown.length > 0)
      return rehearsed(step.id, {
        outcome: "not_tried",
        note: `its ref uses $${unknown.join(", $")}, which the run itself gives`,
      })
    const started = performance.now()
    try {
      return { ...(await look(step, context)), ms: elapsed(started) }
    } catch (error) {
      if (!(error instanceof StepbackError)) throw error
      return rehearsed(step.id, { outcome: "unknown", note: error.message, ms: elapsed(started) })
    }
  },

  async run(step, context) {
    const started = performance.now()
    const call = open(step, context, step.timeoutMs)
    try {
      const begun = await begin(call, step, context)
      if ("outcome" in begun) return begun
      const result = await awaitRun({ ...call, ...begun }, step, context)
      return { ...result, workflowRun: begun.runId, ms: elapsed(started) }
    } catch (error) {
      if (!(error instanceof GitHubProblem)) throw error
      return stepResult({ outcome: "failed", ms: elapsed(started), failure: failure(error.code, error.message) })
    }
  },
}

type Call = { actions: Actions; ref: string; deadline: number; id: string }

function open(step: WorkflowStep, context: StepContext & { attempt?: number }, withinMs: number): Call {
  const { secrets, signal } = context
  const deadline = performance.now() + withinMs
  const github = openGitHub({ api: step.api, token: step.token, repo: step.repo, secrets, signal, deadline })
  return {
    actions: actionsOf(github, step),
    ref: fill(step.ref, context.values),
    deadline,
    id: idOf(context.rollbackId, step.id, context.attempt ?? 1),
  }
}

function idOf(rollbackId: string, stepId: string, attempt: number): string {
  return `sb-${createHash("sha256").update(`${rollbackId} ${stepId} ${attempt}`).digest("hex").slice(0, 24)}`
}

async function look(step: WorkflowStep, context: StepContext) {
  const { actions, ref } = open(step, context, lookMs)
  const [workflow, commit] = await Promise.all([actions.workflow(), actions.commitOf(ref)])
  if (workflow.state !== "active")
    return rehearsed(step.id, {
      outcome: "unknown",
      note: `${step.file} of ${step.repo} is not active (${workflow.state}): enable it under Actions`,
      commit,
    })
  const named = await actions.namesItsRuns(workflow.path, commit).catch(() => null)
  return rehearsed(step.id, {
    note: `${step.file} of ${step.repo} at ${ref} (${commit.slice(0, 7)})`,
    commit,
    warnings: named === false ? [`${step.title}: ${unnamed(step)}`] : [],
  })
}

function unnamed(step: WorkflowStep): string {
  return `${step.file} does not name its runs by what they are given: write "run-name: … \${{ inputs.${idInput} }}", else its run cannot be found again after a crash`
}

type Begun = Pick<Awaited, "runId" | "issues" | "nameChecked">

/** Starts the workflow, once: what may have been started before is looked for first. */
async function begin(call: Call, step: WorkflowStep, context: RunContext): Promise<Begun | StepResult> {
  const earlier = await findEarlier(call, step, context)
  if (earlier) return earlier
  const inputs = {
    ...Object.fromEntries(Object.entries(step.inputs).map(([name, value]) => [name, fill(value, context.values)])),
    [idInput]: call.id,
  }
  let doubt: string | null =
    context.interrupted === true ? "the worker was interrupted while it started the workflow" : null
  for (;;) {
    if (doubt !== null) {
      const resolved = await resolve(doubt, call, step, context)
      if (resolved) return resolved
    }
    if (context.signal.aborted) {
      await context.checkpoint()
      return stepResult({ outcome: "failed", failure: failure("stopped", "stopped before the workflow was started") })
    }
    const moved = await movedFrom(call, context)
    if (moved !== null) return stepResult({ outcome: "failed", failure: failure("moved", moved) })
    await context.stillOurs()
    try {
      const runId = await call.actions.dispatch(call.ref, inputs)
      if (runId !== null) return { runId, issues: [], nameChecked: false }
      break
    } catch (error) {
      if (!(error instanceof GitHubProblem) || !error.retryable) throw error
      doubt = error.doubtful ? error.message : doubt
      if (performance.now() > call.deadline)
        return doubt === null
          ? Promise.reject(error)
          : unknown(`${doubt}: whether the workflow runs is not known, look in ${step.repo} under Actions`)
      await pause(1_000, undefined, { signal: context.signal }).catch(() => undefined)
    }
  }
  const started = "the workflow was started, and GitHub did not say as which run"
  return (await resolve(started, call, step, context)) ?? unknown(`${started}; no run has its id in its name`)
}

/** What became of a start that nobody saw the answer to; null when nothing runs, so that it may be started. */
async function resolve(
  doubt: string,
  call: Call,
  step: WorkflowStep,
  context: RunContext,
): Promise<Begun | StepResult | null> {
  const named = await namesItsRuns(call)
  try {
    const found = named === false ? null : await findAgain(call, context)
    if (found) return found
  } catch (error) {
    if (!(error instanceof GitHubProblem)) throw error
    return unknown(`${doubt}, and whether it runs is not known: ${error.message}`)
  }
  return named === true ? null : unknown(`${doubt}, and whether it runs is not known: ${unnamed(step)}`)
}

function unknown(message: string): StepResult {
  return stepResult({ outcome: "unknown", failure: failure("interrupted", `${message}; look, then Retry or Skip`) })
}

/** A Retry does not start beside what an earlier attempt left running, nor repeats what has succeeded after all. */
async function findEarlier(call: Call, step: WorkflowStep, context: RunContext): Promise<Begun | null> {
  if (context.attempt === 1) return null
  const ids = Array.from({ length: context.attempt - 1 }, (_, index) => idOf(context.rollbackId, step.id, index + 1))
  const approved = context.rehearsed?.commit ?? null
  const known = await knownRun(call, context)
  const named = await patiently(call, context, () => call.actions.findRuns(ids, since(context)))
  const runs = [...(known === null ? [] : [known]), ...named]
  const fitting = runs.find(
    ({ conclusion, headSha }) =>
      (conclusion === null || conclusion === "success") && (approved === null || headSha === approved),
  )
  return fitting
    ? {
        runId: fitting.id,
        issues: ["a run that an earlier attempt had started was awaited, none was started"],
        nameChecked: true,
      }
    : null
}

/** The run that an earlier attempt was told of; null where there was none, or is none any more. Its name need not say so. */
async function knownRun(call: Call, context: RunContext): Promise<WorkflowRun | null> {
  const id = context.workflowRun ?? null
  if (id === null) return null
  try {
    return (await patiently(call, context, () => call.actions.run(id))).run
  } catch (error) {
    if (error instanceof GitHubProblem && error.code === "github_404") return null
    throw error
  }
}

/** Stop does not shorten it: what was started has to be found to be ended. */
async function findAgain(call: Call, context: RunContext): Promise<Begun | null> {
  for (const wait of looks) {
    await pause(wait)
    if (context.signal.aborted) await context.checkpoint()
    const runs = await patiently(call, context, () => call.actions.findRuns([call.id], since(context)))
    const first = runs.at(-1)
    if (first)
      return {
        runId: first.id,
        issues: runs.length > 1 ? [`it was started ${runs.length} times`] : [],
        nameChecked: true,
      }
  }
  return null
}

/** Clocks differ a little. */
function since({ since: asked }: RunContext): string | null {
  return asked === undefined ? null : `${new Date(Date.parse(asked) - 600_000).toISOString().slice(0, 19)}Z`
}

/** Questions without an effect are asked again while the answer may come. */
async function patiently<T>(call: Call, context: RunContext, ask: () => Promise<T>): Promise<T> {
  for (let wait = 500; ; wait = Math.min(wait * 2, 5_000)) {
    try {
      return await ask()
    } catch (error) {
      if (context.signal.aborted) await context.checkpoint()
      if (
        !(error instanceof GitHubProblem) ||
        !error.retryable ||
        context.signal.aborted ||
        performance.now() > call.deadline
      )
        throw error
      await pause(wait, undefined, { signal: context.signal }).catch(() => undefined)
    }
  }
}

/** Whether its runs can be told by their names; null when that could not be read. */
async function namesItsRuns({ actions, ref }: Call): Promise<boolean | null> {
  try {
    const [{ path }, commit] = await Promise.all([actions.workflow(), actions.commitOf(ref)])
    return await actions.namesItsRuns(path, commit)
  } catch (error) {
    if (!(error instanceof GitHubProblem)) throw error
    return null
  }
}

/** What was approved is a commit; GitHub starts what a branch or tag points to by now. */
async function movedFrom(call: Call, context: RunContext): Promise<string | null> {
  const approved = context.rehearsed?.commit ?? null
  if (approved === null) return null
  const commit = await patiently(call, context, () => call.actions.commitOf(call.ref))
  return commit === approved
    ? null
    : `${call.ref} is ${commit.slice(0, 7)} by now, and ${approved.slice(0, 7)} was approved: nothing was started; name a tag, or undo and ask again`
}
