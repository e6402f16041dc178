import { setTimeout as pause } from "node:timers/promises"
import { errorMessage, isPassing, LostLeaseError } from "../errors.ts"
import { canonicalJson, stepsOf, thaw, type FrozenRun } from "../plans/frozen.ts"
import { isBroken, latestRuns } from "../rollback/analysis.ts"
import { callingOf } from "../rollback/escalation.ts"
import type { StepRun } from "../rollback/facts.ts"
import { hideCaptured, hideKnown } from "../steps/hidden-captures.ts"
import { createSecrets } from "../steps/secrets.ts"
import { identify } from "../steps/target.ts"
import type { StoredRollback } from "../store/rows.ts"
import { conclude, everyStep } from "./conclude.ts"
import { fence, fenceStanding } from "./fence.ts"
import { hashFiles } from "./freeze-run.ts"
import { keysOf } from "./keys.ts"
import { reportInterrupted, reportLeftovers } from "./leftovers.ts"
import { leaseMs, type Lease } from "./lease.ts"
import { openTarget } from "./open-target.ts"
import { watchComponentRto } from "./rto.ts"
import { runComponent } from "./run-steps.ts"
import type { RunState } from "./step-context.ts"
import type { WorkDeps } from "./work.ts"

/** Taken up within this after the approval, its givers were checked a moment ago, with the click. */
const approvalFreshMs = 2_000

/** Runs what was approved from where it stands, to its end; the same for a first run and for a takeover. */
export async function runRollback(
  rollback: StoredRollback,
  lease: Lease,
  closing: () => boolean,
  deps: WorkDeps,
): Promise<void> {
  const { store } = deps
  const [run, stepRuns] = await Promise.all([thawOrFail(rollback, deps), store.runs.listSteps(rollback.id)])
  if (run === null) return
  const asked = stepRuns.some(({ result }) => result !== null && isBroken(result))
  const endsHere = asked && (await store.confirmations.endsHere(rollback.id))
  const secrets = createSecrets(deps.environment)
  const begun = stepRuns.length > 0
  deps.log.info({ number: rollback.number, begun }, "run taken")
  // Somebody goes on with it. Steps do not wait for that; the end says it too.
  void store.records.resolve(`${rollback.id}/lost/`).catch((err: unknown) => deps.log.warn({ err }, "call not ended"))
  const state: RunState = {
    rollback,
    run,
    key: { rollbackId: rollback.id, epoch: rollback.epoch, digest: rollback.digest ?? "" },
    target: { pool: null, httpBase: null },
    secrets,
    captures: capturesOf(stepRuns),
    latest: latestRuns({ stepRuns }),
    lease,
    fenced: false,
    closing,
    failed: endsHere,
    endsHere,
    skips: {},
    heldComponents: new Set(),
    keys: keysOf(stepRuns),
    workflowRuns: workflowRuns(stepRuns),
  }
  await hideCaptured(stepsOf(run), state.captures, { redact: run.redact, secrets })
  hideKnown(run, secrets)
  // Who pressed Stop before anything ran is not asked again because something else has moved too.
  const trouble = lease.stopRequested() && !begun ? openOnly(state, deps) : await settleTarget(state, begun, deps)
  if (trouble === "moved") return
  if (trouble === null)
    for (const component of run.components) {
      if (state.failed || lease.stopRequested() || closing() || lease.lost()) break
      if (!component.needs.every((need) => state.heldComponents.has(need))) continue
      const ended = watchComponentRto(component, state, deps)
      await runComponent(component, state, deps).finally(ended)
    }
  if (lease.lost()) throw new LostLeaseError(rollback.id)
  if (closing() && !isOver(state)) return
  await reportInterrupted(state, deps)
  const doubt = await reportLeftovers(state, trouble, deps)
  if (await askForSkips(state, deps)) return
  await conclude(state, trouble ?? doubt, deps)
}

/** Bytes that are not those of the digest are not run, by any worker, ever. */
async function thawOrFail(rollback: StoredRollback, deps: WorkDeps): Promise<FrozenRun | null> {
  const run = thawn(rollback)
  if (run !== null && (await isApproved(rollback, run, deps))) return run
  const reason =
    run === null
      ? "what would run is not what was approved: its digest differs"
      : "it lacks approvals: nothing runs without those that its policy asks for"
  deps.log.error({ reason }, "frozen run refused")
  // Bytes that somebody else may have written name nobody to call: not in Slack, and above all no address beside it.
  const rules = run?.escalate ?? { mention: [], channel: null, acknowledgeWithinMs: 300_000, hook: null }
  await deps.store.records.raise(rollback.id, `${rollback.id}/refused/${rollback.round}`, deps.newId(), {
    trigger: "data_inconsistent",
    stepId: null,
    headline: reason,
    evidence: ["nothing of it ran; somebody or something wrote into Stepback's own database"],
    byHand: null,
    ...callingOf(rules),
  })
  await deps.store.rollbacks.move(rollback.id, "failed", { actor: "stepback", reason, epoch: rollback.epoch })
  deps.wakeOutbox()
  return null
}

function thawn(rollback: StoredRollback): FrozenRun | null {
  try {
    return thaw(rollback.frozen ?? "", rollback.digest ?? "")
  } catch {
    return null
  }
}

/** Counted once more, by the approved bytes: columns and states of our database may have been written by anybody who may. */
async function isApproved(rollback: StoredRollback, run: FrozenRun, deps: WorkDeps): Promise<boolean> {
  if (run.kind === "rehearsal" || run.rollbackId !== rollback.id) return false
  const approvals = await deps.store.approvals.list(rollback.id, rollback.round)
  const givers = approvals.filter(
    ({ userId, digest }) =>
      userId !== rollback.requester_id &&
      digest === rollback.digest &&
      !Object.values(run.skip).some(({ by }) => by === userId),
  )
  return new Set(givers.map(({ userId }) => userId)).size >= run.policy.count
}

/** Whether nothing is left to do, for a worker that is asked to end. */
function isOver(state: RunState): boolean {
  return state.failed || state.lease.stopRequested() || everyStep(state, (run) => run?.result != null)
}

function workflowRuns(stepRuns: readonly StepRun[]): Map<string, number> {
  const runs = new Map<string, number>()
  for (const { stepId, result } of stepRuns) if (result?.workflowRun !== undefined) runs.set(stepId, result.workflowRun)
  return runs
}

/** People want steps left out: what was approved changes, so the approvers are asked, as after the end of a run. */
async function askForSkips(state: RunState, deps: WorkDeps): Promise<boolean> {
  const { rollback, skips } = state
  if (Object.keys(skips).length === 0 || state.lease.stopRequested() || state.endsHere) return false
  const left = { ...rollback.skips, ...skips }
  if ((await deps.store.rollbacks.prepareWithout(rollback.id, left, rollback.epoch)).kind !== "moved") return false
  deps.ring("rehearse", rollback.id)
  deps.wakeOutbox()
  deps.log.info({ steps: Object.keys(skips) }, "asked to skip")
  return true
}

function capturesOf(stepRuns: readonly StepRun[]): Record<string, string> {
  return Object.assign({}, ...stepRuns.map((run) => run.result?.captures ?? {})) as Record<string, string>
}

/**
 * Opens the target and makes sure that it is the one that was shown. Before the first step a difference sends the run
 * back to its approvers ("moved"); later it is trouble, since part of it is done. Null when all is well.
 */
async function settleTarget(state: RunState, begun: boolean, deps: WorkDeps): Promise<string | null> {
  const { run, rollback } = state
  try {
    state.target = openTarget(run.target, state.secrets, deps.targets)
    return await withPatience(state, () => compareAndFence(state, begun, deps))
  } catch (error) {
    if (error instanceof LostLeaseError) throw error
    deps.log.error({ err: error, number: rollback.number }, "target could not be opened")
    return state.secrets.redact(errorMessage(error))
  }
}

/** For a run that only ends: its target may be asked what was done, and one that cannot be opened has nothing to tell. */
function openOnly(state: RunState, deps: WorkDeps): null {
  try {
    state.target = openTarget(state.run.target, state.secrets, deps.targets)
  } catch (error) {
    deps.log.warn({ reason: state.secrets.redact(errorMessage(error)) }, "target could not be opened for the end")
  }
  return null
}

/** How long a target that is away is waited for before its first step. */
const patienceMs = 90_000

async function withPatience<T>(state: RunState, work: () => Promise<T>): Promise<T> {
  const started = performance.now()
  for (let wait = 100; ; wait = Math.min(wait * 2, 2_000)) {
    try {
      return await work()
    } catch (error) {
      const over = performance.now() - started > patienceMs || state.lease.signal.aborted || state.closing()
      if (over || !isPassing(error)) throw error
      await pause(wait)
    }
  }
}

async function compareAndFence(state: RunState, begun: boolean, deps: WorkDeps): Promise<string | null> {
  const { rollback } = state
  const moved = await whatMoved(state, begun, deps)
  if (moved.length > 0) {
    if (begun) return `the target is not the one that was approved: ${moved.join("; ")}`
    await shutOut(state, deps)
    await deps.store.rollbacks.prepareAgain(rollback.id, ["running"], moved, { epoch: rollback.epoch })
    deps.log.warn({ moved }, "run sent back to its approvers")
    deps.ring("rehearse", rollback.id)
    deps.wakeOutbox()
    return "moved"
  }
  if (state.target.pool) await fence(state.target.pool, state, deps, state.lease.signal)
  return null
}

/** Before others decide anew: a worker that was frozen on its way to its first step would do it when it wakes. */
async function shutOut(state: RunState, deps: WorkDeps): Promise<void> {
  const { pool } = state.target
  if (pool === null) return
  await fenceStanding(pool, state, deps, state.lease.signal).catch((error: unknown) => {
    if (error instanceof LostLeaseError || isPassing(error)) throw error
    // As where there is no ledger, or nothing can be written: then nobody else can do so either.
    deps.log.warn({ err: error }, "fence not raised")
  })
}

async function whatMoved(state: RunState, begun: boolean, deps: WorkDeps): Promise<string[]> {
  const { run, rollback, target, secrets } = state
  const moved: string[] = []
  const [identity, files] = await Promise.all([
    target.pool && identify(target.pool, target.httpBase),
    hashFiles(run.components, secrets, (step) => ({ ...run.parameters, ...run.commits[step.id] })),
  ])
  if (identity) {
    const { fingerprint, closed } = identity
    if (closed) moved.push(`the target ${closed.why}`)
    const shown = run.target.fingerprint
    if (shown !== null && canonicalJson(shown) !== canonicalJson(fingerprint))
      moved.push("the target is another database or host")
    // Where nothing could be looked at, the plan's own word still holds.
    else if (run.target.database !== null && run.target.database !== fingerprint.database)
      moved.push(`the target is database "${fingerprint.database}", and the plan expects "${run.target.database}"`)
  } else if (run.target.fingerprint !== null && run.target.fingerprint.httpOrigin !== (target.httpBase?.origin ?? null))
    moved.push("the target is another host")
  if (canonicalJson(files) !== canonicalJson(run.files)) moved.push("a file that a command runs")
  // Both moments are the database's: this machine's clock decides nothing.
  const claimedAt = Date.parse(rollback.lease_until ?? "") - leaseMs
  const approvedAt = Date.parse(rollback.approved_at ?? "")
  if (!begun && !(claimedAt - approvedAt <= approvalFreshMs)) {
    const approvals = await deps.store.approvals.list(rollback.id, rollback.round)
    const allowed = await deps.stillAllowed(
      approvals.map((approval) => approval.userId),
      run.policy.from,
    )
    // Without Slack what was approved goes on.
    if (allowed === false) moved.push("an approver may no longer approve")
  }
  return moved
}
